"""Garbage is collected only by the catalog that alone decides over the bytes."""

import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from registry.blobs import LocalBlobs
from registry.catalog import SqlCatalog, migrations
from registry.catalog.engine import open_engine, writing
from registry.digests import Digest
from registry.errors import UnsafeCollection
from registry.ownership import Marker
from registry.registry import Registry
from registry.settings import Settings
from tests.builders import publish, tiny
from tests.registry import worker
from tests.registry.conftest import Clock

NOW = timedelta(0)
DAY = timedelta(days=1)


def fill(settings: Settings, *seeds: int) -> None:
    with Registry.open(settings) as registry:
        for seed in seeds:
            publish(registry, tiny(seed=seed, trunk_seed=seed))


def stored(settings: Settings) -> set[Digest]:
    assert settings.blob_folder is not None
    return {each.digest for each in LocalBlobs(settings.blob_folder).list()}


def collect(settings: Settings, clock: Clock) -> tuple[str, ...]:
    """Collect twice without grace, a day apart: whatever can be deleted is."""
    with Registry.open(settings, clock=clock) as registry:
        removed = registry.collect(grace=NOW).removed
        clock.ahead += DAY
        return removed + registry.collect(grace=NOW).removed


def stops(settings: Settings, clock: Clock, why: str) -> None:
    """Check that nothing is collected, and that the message says why and what to do."""
    before = stored(settings)
    with Registry.open(settings, clock=clock) as registry:
        for dry_run in (True, False):
            with pytest.raises(UnsafeCollection, match=why) as raised:
                registry.collect(grace=NOW, dry_run=dry_run)
            assert "gc --adopt" in str(raised.value)
            assert "nothing was deleted" in str(raised.value)
            clock.ahead += DAY
    assert stored(settings) == before


def adopt(settings: Settings, clock: Clock) -> int:
    with Registry.open(settings, clock=clock) as registry:
        return len(registry.adopt().adopted)


class Ownership:
    """Inherit, and provide ``settings`` of an empty registry, and what befalls its catalog."""

    def copied(self, settings: Settings, place: Path) -> Settings:
        """Return the settings of a copy of the catalog, beside the same blobs."""
        raise NotImplementedError

    def replaced(self, settings: Settings, source: Settings) -> None:
        """Put another catalog, or a copy of an earlier state, into this one's place."""
        raise NotImplementedError

    def emptied(self, settings: Settings) -> None:
        """Leave an empty database."""
        raise NotImplementedError

    def test_a_registry_that_is_used_as_it_should_be_is_collected(
        self, settings: Settings, clock: Clock
    ) -> None:
        fill(settings, 1, 2)
        with Registry.open(settings, clock=clock) as registry:
            registry.promote("digits@1", "production")
            registry.delete("digits@2", "a mistake")
        assert collect(settings, clock)
        with Registry.open(settings) as registry:
            assert registry.identity().epoch == 2
            assert registry.verify().ok

    def test_an_emptied_catalog_stops(self, settings: Settings, clock: Clock) -> None:
        fill(settings, 1, 2)
        self.emptied(settings)
        stops(settings, clock, "registry alone")

    def test_a_swapped_catalog_stops_and_the_right_one_goes_on(
        self, settings: Settings, clock: Clock, tmp_path: Path
    ) -> None:
        fill(settings, 1, 2)
        kept = self.copied(settings, tmp_path / "kept")
        other = self.other(tmp_path / "other")
        fill(other, 3)
        self.replaced(settings, other)
        stops(settings, clock, "registry alone")
        self.replaced(settings, kept)
        stops(settings, clock, "registry alone")
        assert adopt(settings, clock) == 0
        assert collect(settings, clock) == ()
        with Registry.open(settings) as registry:
            assert registry.verify().ok

    def other(self, home: Path) -> Settings:
        """Return the settings of another empty registry."""
        return Settings.read(home, environment={})

    def test_a_catalog_from_an_older_backup_stops(
        self, settings: Settings, clock: Clock, tmp_path: Path
    ) -> None:
        fill(settings, 1)
        backup = self.copied(settings, tmp_path / "backup")
        fill(settings, 2)
        with Registry.open(settings) as registry:
            assert registry.lag() is None
        self.replaced(settings, backup)
        with Registry.open(settings) as registry:
            assert "as new as its blobs" in (registry.lag() or "")
        stops(settings, clock, "as new as its blobs")
        # Also once it has come as far on a way of its own.
        fill(settings, 3, 4)
        stops(settings, clock, "as new as its blobs")

    def test_a_catalog_from_before_a_collection_stops(
        self, settings: Settings, clock: Clock, tmp_path: Path
    ) -> None:
        fill(settings, 1)
        backup = self.copied(settings, tmp_path / "backup")
        assert collect(settings, clock) == ()
        self.replaced(settings, backup)
        stops(settings, clock, "in epoch 2")

    def test_what_an_older_backup_does_not_know_is_kept_for_the_grace_period(
        self, settings: Settings, clock: Clock, tmp_path: Path
    ) -> None:
        fill(settings, 1)
        backup = self.copied(settings, tmp_path / "backup")
        fill(settings, 2)
        everything = stored(settings)
        self.replaced(settings, backup)
        with Registry.open(settings, clock=clock) as registry:
            dry = registry.adopt(dry_run=True)
            with pytest.raises(UnsafeCollection):
                registry.collect()
            done = registry.adopt()
            assert done.adopted == dry.adopted != ()
            assert set(done.adopted) < everything
            assert done.bytes > 0
            assert stored(settings) == everything
            assert registry.collect().removed == ()
            clock.ahead += timedelta(minutes=30)
            assert registry.collect().removed == ()
            clock.ahead += timedelta(hours=2)
            assert set(registry.collect().removed) == set(done.adopted)
            assert registry.verify().ok

    def test_the_newer_catalog_stops_after_an_older_one_took_over(
        self, settings: Settings, clock: Clock, tmp_path: Path
    ) -> None:
        fill(settings, 1)
        older = self.copied(settings, tmp_path / "older")
        fill(settings, 2)
        newer = self.copied(settings, tmp_path / "newer")
        self.replaced(settings, older)
        adopt(settings, clock)
        self.replaced(settings, newer)
        stops(settings, clock, "as new as its blobs")

    def test_a_copy_beside_the_same_blobs_stops_both(
        self, settings: Settings, clock: Clock, tmp_path: Path
    ) -> None:
        fill(settings, 1, 2)
        copy = self.copied(settings, tmp_path / "copy")
        with Registry.open(copy) as registry:
            registry.delete("digits@2", "not needed here")
        stops(copy, clock, "registry fork")
        stops(settings, clock, "registry fork")
        with Registry.open(settings) as registry:
            assert registry.verify().ok

    def test_a_forked_copy_and_the_first_keep_all_that_either_needs(
        self, settings: Settings, clock: Clock, tmp_path: Path
    ) -> None:
        fill(settings, 1, 2)
        copy = self.copied(settings, tmp_path / "copy")
        with Registry.open(copy) as registry:
            before = registry.identity()
            after = registry.fork()
            assert after.id != before.id
            assert (after.event, after.epoch) == (before.event, 0)
            registry.delete("digits@2", "not needed here")
        fill(copy, 3)
        with Registry.open(settings) as registry:
            registry.delete("digits@1", "not needed here")
        fill(settings, 4)
        for each in (copy, settings):
            stops(each, clock, "registry alone")
            with Registry.open(each) as registry:
                assert registry.verify().ok

    def test_the_one_that_is_left_takes_over(self, settings: Settings, clock: Clock, tmp_path: Path) -> None:
        fill(settings, 1)
        copy = self.copied(settings, tmp_path / "copy")
        with Registry.open(copy) as registry:
            registry.fork()
        fill(copy, 2)
        adopt(settings, clock)
        assert collect(settings, clock)
        with Registry.open(settings) as registry:
            assert registry.verify().ok

    def test_one_that_was_struck_off_and_is_in_use_stops_it_again(
        self, settings: Settings, clock: Clock, tmp_path: Path
    ) -> None:
        fill(settings, 1)
        copy = self.copied(settings, tmp_path / "copy")
        with Registry.open(copy) as registry:
            registry.fork()
        fill(copy, 2)
        adopt(settings, clock)
        Registry.open(copy).close()
        stops(settings, clock, "registry alone")
        with Registry.open(copy) as registry:
            assert registry.verify().ok

    def test_bytes_that_nobody_leased_stop(self, settings: Settings, clock: Clock) -> None:
        fill(settings, 1)
        assert settings.blob_folder is not None
        stranger = Digest.of(b"from a backup")
        LocalBlobs(settings.blob_folder).put(stranger, b"from a backup")
        stops(settings, clock, f"1 with 13 bytes are not, like {stranger}")
        assert adopt(settings, clock) == 1
        assert collect(settings, clock) == (stranger,)
        with Registry.open(settings) as registry:
            assert registry.verify().ok

    def test_a_registry_of_before_goes_on_by_itself(self, settings: Settings, clock: Clock) -> None:
        fill(settings, 1, 2)
        self.from_before(settings)
        with Registry.open(settings, clock=clock) as registry:
            registry.delete("digits@2", "a mistake")
        assert collect(settings, clock)
        with Registry.open(settings) as registry:
            assert registry.verify().ok

    def test_a_registry_of_before_beside_other_blobs_stops(
        self, settings: Settings, clock: Clock, tmp_path: Path
    ) -> None:
        fill(settings, 1)
        self.from_before(settings)
        empty = replace(settings, blobs=(tmp_path / "empty").as_uri())
        stops(empty, clock, "not in the store")

    @staticmethod
    def from_before(settings: Settings) -> None:
        """Take away what came with the markers."""
        engine = open_engine(settings.catalog)
        with writing(engine).begin() as connection:
            migrations.migrate(connection, "0002")
        engine.dispose()
        assert settings.blob_folder is not None
        shutil.rmtree(settings.blob_folder / "registries")

    @pytest.mark.parametrize("word", ["adopt", "fork"])
    @pytest.mark.parametrize("fatal", [0, 1, 2, 3])
    def test_a_takeover_that_is_cut_short_is_done_or_can_be_repeated(
        self, settings: Settings, clock: Clock, tmp_path: Path, word: str, fatal: int
    ) -> None:
        """The process dies before any of its writes: whatever is deleted after, nobody needs."""
        fill(settings, 1)
        copy = self.copied(settings, tmp_path / "copy")
        fill(copy, 2)
        left = fatal

        class Dying(LocalBlobs):
            def mark(self, name: str, data: bytes) -> None:
                self.live()
                super().mark(name, data)

            def unmark(self, name: str) -> None:
                self.live()
                super().unmark(name)

            @staticmethod
            def live() -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    raise KeyboardInterrupt

        assert settings.blob_folder is not None
        catalog = SqlCatalog.open(copy.catalog)
        dying = Registry(catalog, Dying(settings.blob_folder), "ada", clock=clock)
        with suppress(KeyboardInterrupt):
            dying.adopt() if word == "adopt" else dying.fork()
        dying.close()
        needed = stored(copy)
        Registry.open(settings).close()
        stops(copy, clock, "expected")
        stops(settings, clock, "expected")
        assert stored(copy) == needed
        adopt(copy, clock)
        with Registry.open(copy, clock=clock) as registry:
            registry.collect(grace=NOW)
            assert registry.verify().ok

    def test_a_second_mark_of_the_same_catalog_is_no_other(self, settings: Settings, clock: Clock) -> None:
        """Left by another host that was the first to open it at the same time."""
        fill(settings, 1, 2)
        assert settings.blob_folder is not None
        blobs = LocalBlobs(settings.blob_folder)
        (data,) = blobs.marks().values()
        marker = Marker.parse(data)
        second = replace(marker, catalog=marker.catalog | {"path elsewhere /catalog.sqlite"})
        blobs.mark(second.name, second.to_bytes())
        with Registry.open(settings) as registry:
            registry.delete("digits@2", "a mistake")
        assert collect(settings, clock)
        with Registry.open(settings) as registry:
            assert registry.verify().ok

    def test_a_mark_that_cannot_be_read_stops(self, settings: Settings, clock: Clock) -> None:
        fill(settings, 1)
        assert settings.blob_folder is not None
        blobs = LocalBlobs(settings.blob_folder)
        for data in (b"", b"{}", b"[]", b'{"registry": 1, "hash": "x"}', b"\xff", b"[" * 60_000):
            blobs.mark("unknown", data)
            stops(settings, clock, "cannot read")

    def test_an_empty_catalog_leaves_no_mark(self, settings: Settings, clock: Clock) -> None:
        with Registry.open(settings) as registry:
            assert registry.collect().removed == ()
        assert settings.blob_folder is not None
        assert LocalBlobs(settings.blob_folder).marks() == {}

    def test_the_store_keeps_the_highest_event_that_it_has_seen(self, settings: Settings) -> None:
        process = worker.start(settings, "together", "register 0 6", "register 50 6", "register 90 6")
        process.communicate()
        with Registry.open(settings) as registry:
            registry.promote("letters/digits@3", "production")
            registry.promote("letters/digits@4", "production")
            registry.rollback("digits")
            registry.delete("letters/digits@7", "a mistake")
            assert settings.blob_folder is not None
            (data,) = LocalBlobs(settings.blob_folder).marks().values()
            assert Marker.parse(data).identity == registry.identity()
            assert registry.identity().event == 22


class TestOnSqlite(Ownership):
    def copied(self, settings: Settings, place: Path) -> Settings:
        place.mkdir()
        with (
            closing(sqlite3.connect(settings.home / "catalog.sqlite")) as source,
            closing(sqlite3.connect(place / "catalog.sqlite")) as copy,
        ):
            source.backup(copy)
        return Settings.read(place, blobs=settings.blobs, environment={})

    def replaced(self, settings: Settings, source: Settings) -> None:
        for end in ("", "-wal", "-shm"):
            (settings.home / f"catalog.sqlite{end}").unlink(missing_ok=True)
        shutil.copy(source.home / "catalog.sqlite", settings.home / "catalog.sqlite")

    def emptied(self, settings: Settings) -> None:
        (settings.home / "catalog.sqlite").write_bytes(b"")

    def test_a_lost_catalog_stops_and_its_backup_goes_on(
        self, settings: Settings, clock: Clock, tmp_path: Path
    ) -> None:
        fill(settings, 1, 2)
        kept = self.copied(settings, tmp_path / "kept")
        (settings.home / "catalog.sqlite").unlink()
        stops(settings, clock, "registry alone")
        self.replaced(settings, kept)
        assert collect(settings, clock) == ()
        with Registry.open(settings) as registry:
            assert registry.verify().ok

    def test_a_lost_catalog_of_before_stops(self, settings: Settings, clock: Clock) -> None:
        fill(settings, 1, 2)
        assert settings.blob_folder is not None
        shutil.rmtree(settings.blob_folder / "registries")
        (settings.home / "catalog.sqlite").unlink()
        stops(settings, clock, "that this catalog leased")

    @pytest.mark.parametrize("how", ["moved", "copied"])
    def test_a_home_goes_on_elsewhere(
        self, settings: Settings, clock: Clock, tmp_path: Path, how: str
    ) -> None:
        fill(settings, 1, 2)
        place = tmp_path / "elsewhere"
        (shutil.move if how == "moved" else shutil.copytree)(settings.home, place)
        there = Settings.read(place, environment={})
        with Registry.open(there, clock=clock) as registry:
            registry.delete("digits@2", "a mistake")
        assert collect(there, clock)
        with Registry.open(there) as registry:
            assert registry.verify().ok
        assert len(LocalBlobs(place / "blobs").marks()) == 1
        if how == "copied":
            assert collect(settings, clock) == ()
            with Registry.open(settings) as registry:
                assert registry.verify().ok

    def test_a_catalog_that_was_moved_away_from_its_blobs_is_the_same(
        self, settings: Settings, clock: Clock, tmp_path: Path
    ) -> None:
        fill(settings, 1)
        (tmp_path / "new").mkdir()
        shutil.move(settings.home / "catalog.sqlite", tmp_path / "new" / "catalog.sqlite")
        moved = Settings.read(tmp_path / "new", blobs=settings.blobs, environment={})
        assert collect(moved, clock) == ()
        # What is put where it was is a copy.
        shutil.copy(tmp_path / "new" / "catalog.sqlite", settings.home / "catalog.sqlite")
        stops(settings, clock, "registry fork")
        stops(moved, clock, "registry fork")

    def test_an_older_copy_of_a_home_remembers_that_it_is_older(
        self, settings: Settings, clock: Clock, tmp_path: Path
    ) -> None:
        fill(settings, 1)
        backup = self.copied(settings, tmp_path / "backup")
        fill(settings, 2)
        # As it comes out of a copy of the catalog and a later one of the blobs.
        shutil.copytree(settings.home / "blobs", tmp_path / "restored" / "blobs")
        shutil.copy(backup.home / "catalog.sqlite", tmp_path / "restored" / "catalog.sqlite")
        restored = Settings.read(tmp_path / "restored", environment={})
        stops(restored, clock, "as new as its blobs")
        assert adopt(restored, clock) > 0
        assert collect(restored, clock)
        with Registry.open(restored) as registry:
            assert registry.verify().ok


class TestOnPostgresql(Ownership):
    @pytest.fixture
    def settings(self, tmp_path: Path, postgres: Callable[[], str]) -> Settings:
        self.postgres = postgres
        return Settings.read(tmp_path / "home", postgres(), actor="ada", environment={})

    def copied(self, settings: Settings, place: Path) -> Settings:
        copy = Settings.read(place, self.postgres(), blobs=settings.blobs, environment={})
        self.replaced(copy, settings)
        return copy

    def other(self, home: Path) -> Settings:
        return Settings.read(home, self.postgres(), environment={})

    def replaced(self, settings: Settings, source: Settings) -> None:
        self.emptied(settings)
        programs = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), Path())
        dump = subprocess.run(
            [programs / "pg_dump", source.catalog.replace("+psycopg", "")], check=True, stdout=subprocess.PIPE
        )
        restore: list[str | Path] = [
            programs / "psql",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            settings.catalog.replace("+psycopg", ""),
        ]
        subprocess.run(restore, check=True, input=dump.stdout, stdout=subprocess.DEVNULL)

    def emptied(self, settings: Settings) -> None:
        engine = sa.create_engine(settings.catalog, poolclass=sa.NullPool)
        with engine.begin() as connection:
            connection.execute(sa.text("DROP SCHEMA public CASCADE"))
            connection.execute(sa.text("CREATE SCHEMA public"))

    def test_an_ordinary_user_of_the_server_can_tell_where_the_catalog_is(self, settings: Settings) -> None:
        engine = sa.create_engine(settings.catalog, poolclass=sa.NullPool)
        name = f"plain_{Path(settings.home).parent.name}".lower().replace("-", "_")[:60]
        with engine.begin() as connection:
            connection.execute(sa.text(f'CREATE ROLE "{name}" LOGIN'))
            connection.execute(sa.text(f'GRANT ALL ON SCHEMA public TO "{name}"'))
        url = sa.make_url(settings.catalog).set(username=name).render_as_string()
        catalog = SqlCatalog.open(url)
        assert len(catalog.place()) == 1
        catalog.close()
