"""Settings come from TOML and flags alike, and nothing unknown slips through."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from adapters.configuration import configure, read_file
from registry.errors import InvalidSetting


@dataclass(frozen=True, kw_only=True)
class Kettle:
    litres: float
    colour: Literal["red", "blue"] = "red"
    whistle: bool = False
    minutes: int | None = None
    marks: Mapping[str, object] | None = None


def test_absent_keys_take_their_defaults() -> None:
    assert configure(Kettle, {"litres": 2}, "kettle") == Kettle(litres=2.0)


def test_a_file_gives_the_same_as_flags(tmp_path: Path) -> None:
    (tmp_path / "kettle.toml").write_text('litres = 1.5\ncolour = "blue"\nminutes = 3\n[marks]\nlow = 1\n')
    read = configure(Kettle, read_file(tmp_path / "kettle.toml"), "kettle")
    assert read == Kettle(litres=1.5, colour="blue", minutes=3, marks={"low": 1})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"litres": 1, "colur": "red"}, "no setting 'colur'; did you mean 'colour'"),
        ({"litres": 1, "zzz": 1}, "it has colour, litres, marks, minutes, whistle"),
        ({}, "needs a setting 'litres'"),
        ({"litres": "1"}, "litres is float, got '1'"),
        ({"litres": True}, "litres is float"),
        ({"litres": 1, "minutes": 1.5}, "minutes is int"),
        ({"litres": 1, "whistle": 1}, "whistle is bool"),
        ({"litres": 1, "colour": "green"}, "one of red, blue, got 'green'"),
        ({"litres": 1, "marks": [1]}, "marks is Mapping"),
        ({"litres": None}, "litres is float, got None"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSetting, match=message):
        configure(Kettle, values, "kettle")


@pytest.mark.parametrize("data", [b"litres = ", b"\xff\xfe", b"x" * ((1 << 20) + 1)])
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "kettle.toml").write_bytes(data)
    with pytest.raises(InvalidSetting, match=r"kettle\.toml"):
        read_file(tmp_path / "kettle.toml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"expected a TOML file at .*none\.toml"):
        read_file(tmp_path / "none.toml")
