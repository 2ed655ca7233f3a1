"""A registry is where its path says, whatever characters the path holds."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from registry.errors import InvalidSetting
from registry.locations import file_path, file_url, sqlite_path, sqlite_url
from registry.registry import Registry
from registry.settings import Settings
from tests.builders import publish, tiny

NAMES = [
    "home?q=1",
    "home%41pct",
    "team%2Fproj/reg",
    "a#b",
    "with space",
    "naïve-図書館",
    "trailing.",
    "100%",
    "%",
    "a%2",
    "a&b=c;d",
    "a+b",
    "x:y@z",
    "'quo\"ted'",
    "back\\slash",
    "new\nline",
    "?",
    "#",
    "~tilde",
    "mode=ro?immutable=1",
    "[glob]*",
    os.fsdecode(b"not-utf8-\xff\xfe"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_home_of_any_name_holds_its_own_registry(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    settings = Settings.read(home, environment={})
    with Registry.open(settings) as registry:
        version = publish(registry, tiny())
    assert (home / "catalog.sqlite").is_file()
    assert settings.blob_folder == home / "blobs"
    with closing(sqlite3.connect(home / "catalog.sqlite")) as connection:
        assert connection.execute("SELECT count(*) FROM versions").fetchone() == (1,)
    again = Settings.read(environment=settings.to_environment())
    assert again == settings
    with Registry.open(again) as registry:
        assert registry.collect(grace=timedelta(0)).removed == ()
        assert registry.verify().ok
        assert [each.ref for each in registry.versions().versions] == [version.ref]
    # Nothing was made beside it.
    assert [path.name for path in tmp_path.iterdir()] == [Path(name).parts[0]]


@pytest.mark.parametrize("name", ["home?q=1", "home%41pct", "team%2Fproj/reg", "a#b", "naïve x"])
def test_the_command_finds_a_home_of_any_name(tmp_path: Path, name: str) -> None:
    with Registry.open(Settings.read(tmp_path / name, environment={})) as registry:
        publish(registry, tiny())

    def cultivar(*line: str) -> dict[str, object]:
        done = subprocess.run(
            [sys.executable, "-m", "services.cli", *line, "--json"],
            env=os.environ | {"CULTIVAR_HOME": str(tmp_path / name)},
            check=True,
            stdout=subprocess.PIPE,
        )
        document: dict[str, object] = json.loads(done.stdout)
        return document

    assert cultivar("gc", "--grace", "0")["removed"] == []
    assert cultivar("verify")["ok"] is True


@pytest.mark.parametrize("name", NAMES)
def test_a_path_and_its_url_mean_each_other(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert sqlite_path(sqlite_url(path)) == path
    assert file_path(file_url(path)) == path


def test_a_url_is_decoded_once(tmp_path: Path) -> None:
    settings = Settings.read(
        tmp_path,
        f"sqlite:///{tmp_path}/a%3Fb%2523c/catalog.sqlite",
        f"file://{tmp_path}/a%3Fb%2523c/blobs",
        environment={},
    )
    with Registry.open(settings) as registry:
        publish(registry, tiny())
    assert (tmp_path / "a?b%23c" / "catalog.sqlite").is_file()
    assert settings.blob_folder == tmp_path / "a?b%23c" / "blobs"


@pytest.mark.parametrize(
    "given",
    [
        {"catalog": "sqlite:////data/home?q=1/catalog.sqlite"},
        {"catalog": "sqlite:////data/catalog.sqlite?mode=ro"},
        {"catalog": "sqlite:////data/a#b/catalog.sqlite"},
        {"catalog": "sqlite:////data/a%00b"},
        {"catalog": "sqlite:////data/"},
        {"catalog": "sqlite:///:memory:"},
        {"catalog": "sqlite:///"},
        {"blobs": "file:///data/home?q=1/blobs"},
        {"blobs": "file:///data/a#b"},
        {"blobs": "file:///data/a%00b"},
        {"blobs": "file://host/data"},
    ],
)
def test_a_url_that_would_mean_something_else_is_refused(tmp_path: Path, given: dict[str, str]) -> None:
    with pytest.raises(InvalidSetting, match="got"):
        Settings.read(tmp_path, **given, environment={})  # type: ignore[arg-type]  # a home, blobs or both


def test_a_relative_catalog_stays_where_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.read("home", "sqlite:///here/catalog.sqlite", environment={})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    Registry.open(Settings.read(environment=settings.to_environment())).close()
    assert (tmp_path / "here" / "catalog.sqlite").is_file()
    assert settings.home == tmp_path / "home"


def test_the_home_of_nobody_is_refused_in_words() -> None:
    with pytest.raises(InvalidSetting, match="~nobody-of-this-name"):
        Settings.read("~nobody-of-this-name/registry", environment={})
