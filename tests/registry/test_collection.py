"""The garbage collector takes what nothing needs, and nothing else."""

import os
from datetime import timedelta

import pytest

from registry.blobs import LocalBlobs
from registry.digests import Digest
from registry.errors import InvalidSetting, MissingBlob
from registry.registry import Registry
from registry.settings import Settings
from registry.versions import Version
from tests.builders import publish, tiny
from tests.registry.conftest import Clock

HOUR = timedelta(hours=1)
NOW = timedelta(0)


@pytest.fixture
def blobs(settings: Settings) -> LocalBlobs:
    return LocalBlobs(settings.blob_folder)


@pytest.fixture
def deleted(registry: Registry) -> Version:
    """A version deleted beside one that shares its trunk and recipe."""
    publish(registry, tiny(seed=1))
    version = publish(registry, tiny(seed=2))
    registry.delete(version.ref, "a mistake")
    return version


def own(version_seed: int, other_seed: int) -> set[Digest]:
    """Return the blobs that a version shares with no other."""
    one, other = tiny(seed=version_seed).manifest, tiny(seed=other_seed).manifest
    return {one.digest, *(digest for _, digest in one.blobs())} - {digest for _, digest in other.blobs()}


def test_condemned_by_one_run_and_deleted_by_one_after_the_grace(
    registry: Registry, deleted: Version, clock: Clock, blobs: LocalBlobs
) -> None:
    first = registry.collect()
    assert (first.removed, first.bytes, first.condemned) == ((), 0, len(own(2, 1)))
    clock.ahead = HOUR / 2
    assert registry.collect().removed == ()
    clock.ahead = HOUR * 2
    sizes = {stored.digest: stored.bytes for stored in blobs.list()}
    last = registry.collect()
    assert set(last.removed) == own(2, 1)
    assert last.bytes == sum(sizes[digest] for digest in own(2, 1))
    assert registry.verify().ok
    assert registry.collect().to_json() == {"dry_run": False, "removed": [], "bytes": 0}


def test_without_grace_one_run_does_it(registry: Registry, deleted: Version) -> None:
    assert set(registry.collect(grace=NOW).removed) == own(2, 1)
    assert registry.verify().ok


def test_a_dry_run_says_what_a_run_would_do_and_does_nothing(
    registry: Registry, deleted: Version, clock: Clock, blobs: LocalBlobs
) -> None:
    before = {stored.digest for stored in blobs.list()}
    assert registry.collect(dry_run=True).removed == ()
    dry = registry.collect(dry_run=True, grace=NOW)
    assert dry.dry_run
    assert {stored.digest for stored in blobs.list()} == before
    wet = registry.collect(grace=NOW)
    assert (dry.removed, dry.bytes) == (wet.removed, wet.bytes)


def test_what_is_leased_stays(registry: Registry, clock: Clock) -> None:
    with registry.publication() as publication:
        digest = publication.store("segment", b"a trunk")
        assert registry.collect(grace=NOW).removed == ()
        assert registry.blob(digest) == b"a trunk"
    assert registry.collect(grace=NOW).removed == (digest,)


def test_reusing_takes_a_condemned_blob_back(registry: Registry, deleted: Version, clock: Clock) -> None:
    registry.collect()
    clock.ahead = 2 * HOUR
    head = tiny(seed=2).manifest.segments[1]
    with registry.publication() as publication:
        assert publication.reuse(head.digest) == head.bytes
        assert head.digest not in registry.collect().removed
        for kind, data in tiny(seed=2).blobs:
            publication.store(kind, data)
        publication.register(tiny(seed=2).manifest)
    assert registry.collect(grace=NOW).removed == ()
    assert registry.verify().ok


def test_reusing_what_was_deleted_says_so(registry: Registry, deleted: Version) -> None:
    registry.collect(grace=NOW)
    with registry.publication() as publication, pytest.raises(MissingBlob):
        publication.reuse(tiny(seed=2).manifest.segments[1].digest)


def test_files_that_a_dead_writer_left_are_reclaimed_when_they_are_old(
    registry: Registry, clock: Clock, blobs: LocalBlobs
) -> None:
    name = f"{Digest.of(b'half').hex}.abc123"
    (blobs.folder / "staging" / name).write_bytes(b"ha")
    assert registry.collect().removed == ()
    clock.ahead = 2 * HOUR
    assert registry.collect(dry_run=True).removed == (name,)
    collection = registry.collect()
    assert (collection.removed, collection.bytes) == ((name,), 2)
    assert [*blobs.staged()] == []


def test_files_of_a_living_writer_stay_however_old(registry: Registry, blobs: LocalBlobs) -> None:
    with registry.publication() as publication:
        digest = publication.store("segment", b"whole")
        path = blobs.folder / "staging" / f"{digest.hex}.abc123"
        path.write_bytes(b"ha")
        os.utime(path, (0, 0))
        assert registry.collect(grace=NOW).removed == ()
    assert len(registry.collect(grace=NOW).removed) == 2


def test_a_row_whose_bytes_never_came_is_forgotten_without_a_word(registry: Registry, clock: Clock) -> None:
    with registry.publication() as publication:
        digest = publication.store("segment", b"gone")
        registry.blob_path(digest).unlink()
    collection = registry.collect(grace=NOW)
    assert (collection.removed, collection.bytes, collection.condemned) == ((), 0, 0)
    assert registry.collect(grace=NOW).condemned == 0


def test_a_grace_period_is_not_negative(registry: Registry) -> None:
    with pytest.raises(InvalidSetting, match="zero or longer"):
        registry.collect(grace=-HOUR)
