"""A PostgreSQL server of the tests' own, where the machine has one."""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

_START_S = 60
_NOBODY = 65534


class Postgres:
    """A private server on a socket, which can go away and come back.

    Args:
        programs: the folder of the server's programs.
        folder: where its data, its socket and its log are.
    """

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        # The server refuses to run as root.
        self._user: dict[str, Any] = (
            {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.getuid() == 0 else {}
        )
        if self._user:
            os.chown(folder, _NOBODY, _NOBODY)
        initdb: list[str | Path] = [programs / "initdb", "-D", folder / "data", "-U", "cultivar"]
        initdb += ["-A", "trust", "--no-sync"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=folder, **self._user)
        self._url = f"postgresql+psycopg://cultivar@/{{}}?host={folder}"
        self._engine = sa.create_engine(
            self._url.format("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
        )
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = {"listen_addresses": "", "unix_socket_directories": str(self._folder), "fsync": "off"}
        with (self._folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [
                    self._programs / "postgres",
                    "-D",
                    self._folder / "data",
                    *(f"--{name}={value}" for name, value in options.items()),
                ],
                stderr=log,
                cwd=self._folder,
                **self._user,
            )
        deadline = time.monotonic() + _START_S
        while True:
            try:
                self._engine.connect().close()
                return
            except sa.exc.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def stop(self) -> None:
        """Cut every connection off and stop the server."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._server.wait(_START_S)
            self._server = None

    def database(self) -> str:
        """Make an empty database and return its URL."""
        name = f"test_{uuid.uuid4().hex}"
        with self._engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        return self._url.format(name)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Run a server for as long as the block runs; skip the test where the machine has none."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL's server (initdb) is not installed")
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("the driver psycopg is not installed")
    folder = Path(tempfile.mkdtemp(prefix="cultivar-pg-"))
    server = None
    try:
        server = Postgres(programs, folder)
        server.start()
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder)


def postgres_programs() -> Path | None:
    """Return the folder of the server's programs; Debian keeps them off the path."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in reversed(folders) if (folder / "initdb").exists()), None)
