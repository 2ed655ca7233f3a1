"""A catalog whose write-ahead log was damaged: what was lost is never passed over without a word."""

import random
import shutil
from pathlib import Path

import pytest

from registry.registry import Registry
from registry.settings import Settings
from tests.builders import publish, tiny

FLIPS = 24


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A registry as a crash leaves it: its last changes are in the write-ahead log alone."""
    home, crashed = tmp_path / "home", tmp_path / "crashed"
    with Registry.open(Settings.read(home, actor="tests", environment={})) as registry:
        for seed in range(3):
            version = publish(registry, tiny(seed=seed))
            registry.promote(version.ref, "production")
        shutil.copytree(home, crashed)
    return crashed


def events(settings: Settings) -> int | None:
    """Return how many events the registry has, or None where it says that some may be lost."""
    with Registry.open(settings) as registry:
        if registry.lag() is not None:
            return None
        return len(registry.history("digits"))


def test_a_flipped_bit_in_the_log_loses_nothing_or_is_told(home: Path, tmp_path: Path) -> None:
    log = home / "catalog.sqlite-wal"
    good = log.read_bytes()
    (home / "catalog.sqlite-shm").unlink(missing_ok=True)
    generator = random.Random(0)
    told = 0
    for number in range(FLIPS):
        copy = tmp_path / f"copy{number}"
        shutil.copytree(home, copy, symlinks=True)
        at = generator.randrange(len(good))
        damaged = bytearray(good)
        damaged[at] ^= 1 << generator.randrange(8)
        (copy / log.name).write_bytes(damaged)
        settings = Settings.read(copy, actor="tests", environment={})
        found = events(settings)
        told += found is None
        assert found in (None, 6)
    assert told
