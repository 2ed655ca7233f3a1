"""A catalog whose file goes away, is replaced or is damaged: never a ghost, never an empty one, never a guess."""

import random
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest

from registry.errors import BrokenHistory, CultivarError, DamagedCatalog, MissingCatalog
from registry.examination import FAILURE, examine
from registry.registry import Registry
from registry.settings import Settings
from tests.builders import publish, tiny


def catalog_of(settings: Settings) -> Path:
    assert settings.catalog_file is not None
    return settings.catalog_file


def copy(catalog: Path, to: Path) -> Path:
    """Take a consistent copy, as an operator does."""
    with closing(sqlite3.connect(catalog)) as one, closing(sqlite3.connect(to)) as other:
        one.backup(other)
    return to


def take_away(catalog: Path) -> None:
    for path in catalog.parent.glob(f"{catalog.name}*"):
        path.unlink()


@pytest.fixture
def filled(registry: Registry, settings: Settings) -> Settings:
    registry.promote(publish(registry, tiny(seed=1)).ref, "production")
    return settings


def test_a_catalog_that_was_deleted_is_missed_by_those_that_had_it_open_and_found_again(
    registry: Registry, filled: Settings, tmp_path: Path
) -> None:
    catalog = catalog_of(filled)
    copied = copy(catalog, tmp_path / "copy")
    before = registry.stage_position()
    take_away(catalog)
    for _ in range(3):
        with pytest.raises(MissingCatalog, match="restore it"):
            registry.stage_position()
    assert not catalog.exists()
    copied.rename(catalog)
    assert registry.stage_position() == before


def test_one_that_was_replaced_is_read_at_once(registry: Registry, filled: Settings, tmp_path: Path) -> None:
    catalog = catalog_of(filled)
    copied = copy(catalog, tmp_path / "copy")
    registry.promote(publish(registry, tiny(seed=2)).ref, "production")
    take_away(catalog)
    copied.rename(catalog)
    assert [version.number for version in registry.deployed()] == [1]


def test_a_lost_catalog_is_made_anew_only_where_that_was_not_forbidden(filled: Settings) -> None:
    take_away(catalog_of(filled))
    with pytest.raises(MissingCatalog):
        Registry.open(filled, anew=False)
    assert not catalog_of(filled).exists()
    Registry.open(filled).close()
    assert catalog_of(filled).exists()


def test_a_new_home_is_made_all_the_same(tmp_path: Path) -> None:
    with Registry.open(Settings.read(tmp_path / "new", environment={}), anew=False) as registry:
        assert registry.stage_position() == 0


def test_a_reader_says_that_there_is_no_catalog_rather_than_that_it_may_not(
    filled: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.catalog.engine.may_write", lambda path: False)
    with Registry.open(filled) as reader:
        take_away(catalog_of(filled))
        with pytest.raises(MissingCatalog):
            reader.stage_position()


@pytest.mark.parametrize("bits", [1, 3, 200])
def test_flipped_bits_are_an_error_or_make_no_difference_and_doctor_names_them(
    registry: Registry, filled: Settings, bits: int
) -> None:
    registry.promote(publish(registry, tiny(seed=2)).ref, "production")
    registry.promote(publish(registry, tiny("letters/shapes", seed=3)).ref, "production")
    right = [(version.ref, version.digest) for version in registry.deployed()]
    registry.close()
    catalog = catalog_of(filled)
    with closing(sqlite3.connect(catalog)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    good = catalog.read_bytes()
    dice = random.Random(bits)
    used = [place for place, byte in enumerate(good) if byte]
    for _ in range(30):
        damaged = bytearray(good)
        for place in dice.sample(used, bits):
            damaged[place] ^= 1 << dice.randrange(8)
        take_away(catalog)
        catalog.write_bytes(damaged)
        if _served(filled) != right:
            assert FAILURE in [check.outcome for check in examine(filled)]


def _served(settings: Settings) -> object:
    """Return what a server would take from a catalog: nothing that its history does not lead to."""
    with suppress(Exception), Registry.open(settings, anew=False) as registry:
        found = registry.deployed()
        for version in found:
            registry.check_stage(version.target, "production")
            assert registry.manifest(version).transfer == version.transfer
        return [(version.ref, version.digest) for version in found]
    return None


def test_a_history_that_does_not_lead_to_what_is_shown_is_broken(
    registry: Registry, filled: Settings
) -> None:
    publish(registry, tiny(seed=2))
    registry.check_stage("digits", "production")
    registry.check_stage("digits", "staging")
    with closing(sqlite3.connect(catalog_of(filled))) as connection, connection:
        connection.execute("UPDATE stages SET version = (SELECT max(event) FROM versions)")
    with pytest.raises(BrokenHistory, match="cultivar verify"):
        registry.check_stage("digits", "production")
    with closing(sqlite3.connect(catalog_of(filled))) as connection, connection:
        connection.execute("DELETE FROM stages")
    with pytest.raises(BrokenHistory, match="cultivar verify"):
        registry.check_stage("digits", "production")


@pytest.mark.parametrize("where", ["first page", "counter"])
def test_damage_is_told_in_one_line(registry: Registry, filled: Settings, where: str) -> None:
    catalog = catalog_of(filled)
    registry.close()
    if where == "counter":
        with closing(sqlite3.connect(catalog)) as connection, connection:
            connection.execute("DELETE FROM counters")
    else:
        shutil.copy(catalog, catalog.with_suffix(".good"))
        with catalog.open("r+b") as file:
            file.write(b"\0" * 4096)
    with pytest.raises(DamagedCatalog, match="restore it from a copy") as caught:
        Registry.open(filled).stage_position()
    assert isinstance(caught.value, CultivarError)
    assert "\n" not in str(caught.value)
