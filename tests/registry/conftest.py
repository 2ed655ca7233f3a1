"""Registries to test with, and a PostgreSQL server where the machine has one."""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from registry import instants
from registry.registry import Registry
from registry.settings import Settings

_START_S = 60
_NOBODY = 65534


class Clock:
    """A clock that a test sets forward."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return instants.now() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.read(tmp_path / "home", actor="ada", environment={})


@pytest.fixture
def registry(settings: Settings, clock: Clock) -> Iterator[Registry]:
    with Registry.open(settings, clock=clock) as registry:
        yield registry


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[[], str]]:
    """Start a private server on a socket, and return a function that makes an empty database and gives its URL."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL's server (initdb) is not installed")
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("the driver psycopg is not installed")
    folder = Path(tempfile.mkdtemp(prefix="cultivar-pg-"))
    # The server refuses to run as root.
    user: dict[str, Any] = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.getuid() == 0 else {}
    if user:
        os.chown(folder, _NOBODY, _NOBODY)
    initdb: list[str | Path] = [programs / "initdb", "-D", folder / "data", "-U", "cultivar"]
    initdb += ["-A", "trust", "--no-sync"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=folder, **user)
    log = (folder / "log").open("wb")
    options = {"listen_addresses": "", "unix_socket_directories": str(folder), "fsync": "off"}
    server = subprocess.Popen(
        [
            programs / "postgres",
            "-D",
            folder / "data",
            *(f"--{name}={value}" for name, value in options.items()),
        ],
        stderr=log,
        cwd=folder,
        **user,
    )
    try:
        yield _databases(folder)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(_START_S)
        log.close()
        shutil.rmtree(folder)


def _databases(folder: Path) -> Callable[[], str]:
    url = f"postgresql+psycopg://cultivar@/{{}}?host={folder}"
    engine = sa.create_engine(url.format("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    deadline = time.monotonic() + _START_S
    while True:
        try:
            engine.connect().close()
            break
        except sa.exc.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)

    def make() -> str:
        name = f"test_{uuid.uuid4().hex}"
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        return url.format(name)

    return make


def postgres_programs() -> Path | None:
    """Return the folder of the server's programs; Debian keeps them off the path."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in reversed(folders) if (folder / "initdb").exists()), None)
