"""Registries to test with, and a PostgreSQL server where the machine has one."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from registry import instants
from registry.registry import Registry
from registry.settings import Settings
from tests.postgres import running_postgres


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
    with running_postgres() as server:
        yield server.database
