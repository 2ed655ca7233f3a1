"""Settings come from TOML and flags alike, and nothing unknown slips through."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from adapters.configuration import assigned, configure, read_file, settings
from registry.errors import InvalidSetting


@dataclass(frozen=True, kw_only=True)
class Kettle:
    litres: float
    colour: Literal["red", "blue"] = "red"
    whistle: bool = False
    minutes: int | None = None
    marks: Mapping[str, object] | None = None
    lids: tuple[str, ...] | None = None
    feet: tuple[float, ...] = ()


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
        ({"litres": 1, "zzz": 1}, "it has colour, feet, lids, litres, marks, minutes, whistle"),
        ({}, "needs a setting 'litres'"),
        ({"litres": "1"}, "litres is float, got '1'"),
        ({"litres": True}, "litres is float"),
        ({"litres": 1, "minutes": 1.5}, "minutes is int"),
        ({"litres": 1, "whistle": 1}, "whistle is bool"),
        ({"litres": 1, "colour": "green"}, "one of red, blue, got 'green'"),
        ({"litres": 1, "marks": [1]}, "marks is Mapping"),
        ({"litres": None}, "litres is float, got None"),
        ({"litres": 1, "lids": "flat"}, "lids is a list, got 'flat'"),
        ({"litres": 1, "lids": ["flat", 2]}, "lids, an entry is str, got 2"),
        ({"litres": 1, "feet": [1, True]}, "feet, an entry is float, got True"),
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


def test_lists_become_tuples_of_their_entries_type() -> None:
    kettle = configure(Kettle, {"litres": 1, "lids": ["flat", "round"], "feet": [1, 2.5]}, "kettle")
    assert kettle.lids == ("flat", "round") and kettle.feet == (1.0, 2.5)
    assert configure(Kettle, {"litres": 1, "lids": None}, "kettle").lids is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x=3", 3),
        ("x=0.5", 0.5),
        ("x=1e-4", 1e-4),
        ("x=true", True),
        ('x="3"', "3"),
        ("x=red", "red"),
        ("x=", ""),
        ("x=a=b", "a=b"),
        ("x=labels.toml", "labels.toml"),
        ('x=["low", "pool"]', ["low", "pool"]),
        ("x={a = 1}", {"a": 1}),
    ],
)
def test_an_assignment_is_read_as_toml_and_a_bare_word_as_text(text: str, value: object) -> None:
    assert assigned([text]) == {"x": value}


def test_the_last_assignment_of_a_key_counts() -> None:
    assert assigned(["x=1", "y=2", "x=3"]) == {"x": 3, "y": 2}
    assert assigned([]) == {}


@pytest.mark.parametrize("text", ["", "x", "=3", "a-b=3", "a b=3", "1x=3"])
def test_what_is_no_assignment_is_refused(text: str) -> None:
    with pytest.raises(InvalidSetting, match="expected KEY=VALUE"):
        assigned([text])


@pytest.mark.parametrize("text", ["x=1\ny=2", "x=1\ny = 2", "x=3\n[table]"])
def test_an_assignment_that_says_more_than_one_thing_is_refused(text: str) -> None:
    with pytest.raises(InvalidSetting, match="expected one KEY=VALUE, got several lines"):
        assigned([text])


def test_a_value_may_go_over_several_lines() -> None:
    assert assigned(["x=[1,\n2]"]) == {"x": [1, 2]}


def test_flags_that_were_given_win_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "kettle.toml").write_text("litres = 1.5\nminutes = 3\n")
    merged = settings(str(tmp_path / "kettle.toml"), {"litres": 2, "minutes": None})
    assert merged == {"litres": 2, "minutes": 3}
    assert settings(None, {"litres": None}) == {}
