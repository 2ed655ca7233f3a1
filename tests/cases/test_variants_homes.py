"""Further places of a registry: named in any way, it is one registry, or none is opened."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner, Result

from registry.registry import Registry
from registry.settings import Settings
from services.cli import main
from tests.builders import picture, publish, tiny
from tests.registry.ordinary import cultivar, make_read_only, make_writable, open_up

NAMES = [
    "home#x", "home;y", "home%2525", "home ?", "home\nline", " home", "home ", "home?mode=ro", "home?immutable=1&x",
    "home%00", "home%2e%2e", "%2e%2e%2fhome", "$HOME", "${x}", "home&", "home=1", "home:8080", "C:\\home",
    "sqlite:", "-home", "--help", "home*", "ho\tme", "😀", "home@v1", "a%2Fb#c?d", "é", "e\u0301", "...", "\u202ehome",
]  # fmt: skip
AWKWARD = ["home#x", "home;y", "home%2525", "home ?", "home\nline", "home?mode=ro", "é", "-home"]


def run(*line: str, **environment: str) -> Result:
    return CliRunner().invoke(main, list(line), env={"CULTIVAR_HOME": None, **environment})


def made(home: Path) -> Path:
    with Registry.open(Settings.read(home, environment={})) as registry:
        registry.promote(publish(registry, tiny(seed=1)).ref, "production")
    return home


def held(*line: str, **environment: str) -> int:
    """Return how many versions a command finds, after a collection that would delete what it does not know."""
    for _ in range(2):
        done = run(*line, "gc", "--grace", "0", "--json", **environment)
        assert done.exit_code == 0, done.output
    done = run(*line, "list", "--json", **environment)
    assert done.exit_code == 0, done.output
    return len(json.loads(done.stdout)["versions"])


@pytest.mark.parametrize("name", NAMES)
def test_however_a_home_is_named_it_is_the_same_registry(tmp_path: Path, name: str) -> None:
    home = made(tmp_path / name)
    assert held(f"--home={home}") == 1
    assert held(CULTIVAR_HOME=str(home)) == 1
    assert [each.name for each in tmp_path.iterdir()] == [Path(name).parts[0]]


@pytest.mark.parametrize("name", AWKWARD)
def test_a_slash_behind_or_a_detour_changes_nothing(tmp_path: Path, name: str) -> None:
    home = made(tmp_path / name)
    for path in (f"{home}//", f"{home}/blobs/..", f"{tmp_path}/./{name}/"):
        assert held(f"--home={path}") == 1
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", AWKWARD)
def test_a_relative_home_is_below_the_folder_one_is_in(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert held(f"--home={name}") == 1
    assert held(CULTIVAR_HOME=f"./{name}") == 1
    (tmp_path / "beside").mkdir()
    monkeypatch.chdir(tmp_path / "beside")
    assert held(f"--home=../{name}") == 1
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([name, "beside"])
    assert not list((tmp_path / "beside").iterdir())


@pytest.mark.parametrize("name", AWKWARD)
def test_a_link_to_a_home_is_the_home(tmp_path: Path, name: str) -> None:
    home = made(tmp_path / "real" / name)
    (tmp_path / "link?x#y%41").symlink_to(home)
    assert held(f"--home={tmp_path / 'link?x#y%41'}") == 1
    made(tmp_path / "link?x#y%41")
    assert held(f"--home={home}") == 1


@pytest.mark.parametrize("name", AWKWARD)
def test_a_catalog_by_its_url_is_the_catalog_of_the_home(tmp_path: Path, name: str) -> None:
    home = made(tmp_path / name)
    path = str(home / "catalog.sqlite")
    environment = {
        "CULTIVAR_HOME": str(tmp_path / "other"),
        "CULTIVAR_CATALOG": f"sqlite:///{quote(path)}",
        "CULTIVAR_BLOBS": f"file://{quote(str(home / 'blobs'))}",
    }
    assert held(**environment) == 1


@pytest.mark.parametrize("name", AWKWARD)
def test_a_url_that_was_not_encoded_costs_no_bytes(tmp_path: Path, name: str) -> None:
    """Decoded once, it may mean another place, whose catalog must not decide about the blobs of this one."""
    home = made(tmp_path / name)
    before = sorted(each for each in (home / "blobs").rglob("*") if each.is_file())
    environment = {"CULTIVAR_HOME": str(home), "CULTIVAR_CATALOG": f"sqlite:///{home / 'catalog.sqlite'}"}
    for command in (("gc", "--grace", "0"), ("gc", "--grace", "0"), ("list",)):
        done = run(*command, "--json", **environment)
        assert isinstance(done.exception, SystemExit | None) and "Traceback" not in done.output
    assert set(before) <= {each for each in (home / "blobs").rglob("*") if each.is_file()}
    assert held(f"--home={home}") == 1


@pytest.mark.parametrize("name", ["home#x", "home%2525", "home ?"])
def test_another_process_finds_it(tmp_path: Path, name: str) -> None:
    home = made(tmp_path / name)
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", "show", "digits", "--json"],
        env=os.environ | {"CULTIVAR_HOME": str(home)},
        check=True,
        stdout=subprocess.PIPE,
    )
    assert json.loads(done.stdout)["ref"] == "letters/digits@1"
    with closing(sqlite3.connect(home / "catalog.sqlite")) as connection:
        assert connection.execute("SELECT count(*) FROM versions").fetchone() == (1,)


@pytest.mark.parametrize(
    "environment",
    [
        {"CULTIVAR_CATALOG": "sqlite://catalog.sqlite"},
        {"CULTIVAR_CATALOG": "sqlite:catalog.sqlite"},
        {"CULTIVAR_CATALOG": "catalog.sqlite"},
        {"CULTIVAR_CATALOG": "mysql://host/x"},
        {"CULTIVAR_CATALOG": "sqlite:///{}/x.sqlite?mode=ro"},
        {"CULTIVAR_CATALOG": "sqlite:///{}"},
        {"CULTIVAR_BLOBS": "{}/blobs"},
        {"CULTIVAR_BLOBS": "s3://bucket/x"},
        {"CULTIVAR_BLOBS": "file:{}/blobs"},
        {"CULTIVAR_BLOBS": "file://{}/b#x"},
        {"CULTIVAR_HOME": "{}/file"},
        {"CULTIVAR_HOME": "{}/file/below"},
        {"CULTIVAR_HOME": "/proc/nothing"},
        {"CULTIVAR_HOME": "/dev/null"},
        {"CULTIVAR_HOME": "{}/" + "x" * 300},
    ],
    ids=lambda given: "=".join(next(iter(given.items())))[:60],
)
def test_a_place_that_is_none_is_said_in_one_line(tmp_path: Path, environment: Mapping[str, str]) -> None:
    (tmp_path / "file").write_text("mine")
    given = {name: value.format(tmp_path) for name, value in environment.items()}
    done = run("list", **{"CULTIVAR_HOME": str(tmp_path / "home")} | given)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit), done.exception
    assert done.stderr.count("cultivar: ") == 1 and "Traceback" not in done.stderr
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100, b"SQLite format 3\0" + bytes(4096)])
def test_a_catalog_that_is_none_is_never_replaced(tmp_path: Path, content: bytes) -> None:
    home = made(tmp_path / "home")
    for file in home.glob("catalog.sqlite*"):
        file.unlink()
    (home / "catalog.sqlite").write_bytes(content)
    blobs = sorted((home / "blobs").rglob("*"))
    done = run("gc", "--grace", "0", CULTIVAR_HOME=str(home))
    assert isinstance(done.exception, SystemExit | None), done.exception
    assert [each for each in sorted((home / "blobs").rglob("*")) if each.is_file()] == [
        each for each in blobs if each.is_file()
    ]


@pytest.fixture(params=["home#x", "home%2525", "home ?", "home\nline"])
def sealed(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A home of an awkward name that an ordinary user may only read."""
    open_up(tmp_path)
    (tmp_path / "place").mkdir()
    (tmp_path / "place").chmod(0o777)
    (tmp_path / "place" / "a.png").write_bytes(picture())
    home = made(tmp_path / str(request.param))
    make_read_only(home)
    yield home
    make_writable(home)


def test_a_home_that_may_only_be_read_is_read(sealed: Path) -> None:
    place = sealed.parent / "place"
    done = cultivar(sealed, place, "classify", "digits", str(place / "a.png"), "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["results"]) == 1
    done = cultivar(sealed, place, "rollback", "digits")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("cultivar: ")
