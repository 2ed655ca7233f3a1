"""A home that an ordinary user may only read is read and served; whatever would write says so in one line."""

import json
import shutil
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from registry.catalog import migrations
from registry.catalog.engine import open_engine, writing
from registry.registry import Registry
from registry.settings import Settings
from services.process.server import free_port
from tests.builders import picture, publish, tiny
from tests.registry.ordinary import (
    ROOT,
    as_ordinary_user,
    cultivar,
    environment,
    make_read_only,
    make_writable,
    open_up,
    several,
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a folder that everybody may write into."""
    open_up(tmp_path)
    folder = tmp_path / "place"
    folder.mkdir()
    folder.chmod(0o777)
    (folder / "a.png").write_bytes(picture())
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Return a home with a version in production and one beside it, that nobody may write to."""
    open_up(tmp_path)
    home = tmp_path / "home?ro"
    with Registry.open(Settings.read(home, environment={})) as registry:
        registry.promote(publish(registry, tiny(seed=1)).ref, "production")
        publish(registry, tiny(seed=2))
    make_read_only(home)
    yield home
    make_writable(home)


READING = [
    ["list"],
    ["show", "digits"],
    ["history", "digits"],
    ["lineage", "digits"],
    ["verify"],
    ["gc", "--dry-run"],
    ["tokens", "list"],
    ["doctor"],
]
WRITING = [
    ["promote", "digits@1", "production"],
    ["rollback", "digits"],
    ["delete", "digits@3", "--reason", "a mistake"],
    ["gc"],
    ["gc", "--adopt"],
    ["tokens", "add", "ci"],
    ["registry", "fork"],
]


def only_line(code: int, errors: str) -> str:
    """Check that a command failed in one line, and return it."""
    assert code == 1, errors
    assert "Traceback" not in errors
    (line,) = errors.splitlines()
    assert line.startswith("cultivar: ")
    return line


def one_line(done: "subprocess.CompletedProcess[str]") -> str:
    """Check that a process failed in one line, and return it."""
    return only_line(done.returncode, done.stderr)


def test_what_only_reads_works(home: Path, place: Path) -> None:
    before = sorted(home.rglob("*"))
    for line, (code, out, err) in zip(
        READING, several(home, place, [[*line, "--json"] for line in READING]), strict=True
    ):
        assert (code, err) == (0, ""), line
        json.loads(out)
    assert sorted(home.rglob("*")) == before


def test_it_answers_without_a_server(home: Path, place: Path) -> None:
    picture = str(place / "a.png")
    lines = [[word, "digits", picture, "--json"] for word in ("classify", "embed")]
    for (code, out, err), key in zip(several(home, place, lines), ("results", "embeddings"), strict=True):
        assert code == 0, err
        assert len(json.loads(out)[key]) == 1


def test_what_would_write_says_in_one_line_that_it_may_not(home: Path, place: Path) -> None:
    make_writable(home)
    with Registry.open(Settings.read(home, environment={})) as registry:
        registry.promote("digits@2", "production")
        publish(registry, tiny(seed=3))
    make_read_only(home)
    before = sorted(home.rglob("*"))
    for code, _, err in several(home, place, WRITING):
        said = only_line(code, err)
        assert "may write there" in said
        assert str(home) in said
    assert sorted(home.rglob("*")) == before


def test_it_is_served(home: Path, place: Path) -> None:
    port = free_port()
    with serving(home, place, port) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert [each["ref"] for each in ready["targets"]] == ["letters/digits@1"]
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/classify/digits", picture(), {"Content-Type": "image/png"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.load(answer)["ref"] == "letters/digits@1"
        # Somebody who may write goes on, and the server follows.
        make_writable(home)
        with Registry.open(Settings.read(home, environment={})) as registry:
            registry.promote("digits@2", "production")
        make_read_only(home)
        for _ in range(600):
            with urllib.request.urlopen(request, timeout=30) as answer:
                if json.load(answer)["ref"] == "letters/digits@2":
                    break
        else:
            pytest.fail("the promotion was not followed")


@contextmanager
def serving(home: Path, place: Path, port: int) -> "Iterator[subprocess.Popen[str]]":
    process = subprocess.Popen(
        as_ordinary_user([sys.executable, "-m", "services.cli", "serve", "--port", str(port), "--json"]),
        env=environment(home, place),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def test_it_is_read_while_somebody_writes(home: Path, place: Path) -> None:
    """The files beside the catalog are there then, and hold what the catalog itself does not have yet."""
    make_writable(home)
    with Registry.open(Settings.read(home, environment={})) as registry:
        registry.promote("digits@2", "production")
        for path in [home, *home.iterdir()]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        assert (home / "catalog.sqlite-wal").stat().st_size > 0
        done = cultivar(home, place, "show", "digits", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["ref"] == "letters/digits@2"


def test_changes_that_nobody_took_in_are_not_passed_over(home: Path, place: Path, tmp_path: Path) -> None:
    """A copy taken in the middle of work, or what a crash left: the catalog alone would be out of date."""
    make_writable(home)
    copy = tmp_path / "copy"
    with Registry.open(Settings.read(home, environment={})) as registry:
        registry.promote("digits@2", "production")
        copy.mkdir()
        for name in ("catalog.sqlite", "catalog.sqlite-wal"):
            shutil.copy(home / name, copy / name)
        shutil.copytree(home / "blobs", copy / "blobs")
    make_read_only(copy)
    assert "catalog.sqlite-wal" in one_line(cultivar(copy, place, "show", "digits"))
    make_writable(copy)
    with Registry.open(Settings.read(copy, environment={})) as registry:
        assert str(registry.resolve("digits").ref) == "letters/digits@2"


def test_a_catalog_that_changes_while_it_is_read_is_not_believed(home: Path, place: Path) -> None:
    script = """
import sys
from registry.catalog.engine import open_engine, explained
from registry.errors import StorageFailure
import sqlalchemy as sa
engine = open_engine(sys.argv[1])
try:
    with engine.begin() as connection:
        connection.execute(sa.text("SELECT * FROM versions")).all()
        print("read", flush=True)
        sys.stdin.readline()
        connection.execute(sa.text("SELECT * FROM events")).all()
except StorageFailure as error:
    print(error)
"""
    settings = Settings.read(home, environment={})
    process = subprocess.Popen(
        as_ordinary_user([sys.executable, "-c", script, settings.catalog]),
        env=environment(home, place),
        cwd=place,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "read\n"
    make_writable(home)
    with closing(sqlite3.connect(home / "catalog.sqlite")) as connection, connection:
        connection.execute("UPDATE counters SET value = value + 1 WHERE name = 'tokens'")
    make_read_only(home)
    told, _ = process.communicate("\n")
    assert "written to while it was read" in told


def test_a_catalog_that_has_to_be_brought_up_to_date_says_so(home: Path, place: Path) -> None:
    make_writable(home)
    engine = open_engine(Settings.read(home, environment={}).catalog)
    with writing(engine).begin() as connection:
        migrations.migrate(connection, "0002")
    engine.dispose()
    make_read_only(home)
    assert "at migration 0002" in one_line(cultivar(home, place, "list"))


@pytest.mark.parametrize("line", [["list"], ["serve", "--port", "1"]], ids=lambda line: line[0])
def test_a_home_that_is_not_there_and_cannot_be_made_says_so(
    tmp_path: Path, place: Path, line: list[str]
) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0o755)
    line = [*line[:-1], str(free_port())] if line[0] == "serve" else line
    said = one_line(cultivar(tmp_path / "closed" / "home", place, *line))
    assert str(tmp_path / "closed" / "home") in said


def test_an_empty_folder_that_cannot_be_written_to_says_so(tmp_path: Path, place: Path) -> None:
    (tmp_path / "closed").mkdir(0o755)
    said = one_line(cultivar(tmp_path / "closed", place, "list"))
    assert str(tmp_path / "closed") in said and "may write there" in said


def test_blobs_alone_may_be_read_only(home: Path, place: Path, tmp_path: Path) -> None:
    """The catalog may be written to: promotions go on, nothing can be put in."""
    own = place / "own"
    own.mkdir()
    shutil.copy(home / "catalog.sqlite", own / "catalog.sqlite")
    for path in (own, own / "catalog.sqlite"):
        path.chmod(0o777)
    blobs = ["--blobs", (home / "blobs").as_uri()]
    done = cultivar(own, place, "promote", "digits@2", "production", *blobs, "--json")
    assert done.returncode == 0, done.stderr
    assert "may write there" in one_line(cultivar(own, place, "gc", "--adopt", *blobs))
