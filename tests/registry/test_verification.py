"""Damage, wherever it is done, is found and named."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from registry.catalog.engine import open_engine, writing
from registry.catalog.schema import blobs, events, refs, stages, targets, versions
from registry.digests import Digest
from registry.names import PRODUCTION
from registry.progress import Progress, ProgressStep
from registry.registry import Registry
from registry.settings import Settings
from registry.verification import Report
from registry.versions import Version
from tests.builders import publish, tiny


@pytest.fixture
def two(registry: Registry) -> tuple[Version, Version]:
    """Two versions on one trunk, the second in production."""
    first, second = (publish(registry, tiny(seed=seed)) for seed in (1, 2))
    registry.promote(first.ref, PRODUCTION)
    registry.promote(second.ref, PRODUCTION)
    return registry.resolve(first.ref), registry.resolve(second.ref)


def kinds(report: Report) -> set[tuple[str, str]]:
    return {(damage.kind, damage.id) for damage in report.damaged}


def tamper(settings: Settings, *statements: sa.Executable) -> None:
    """Do to the database what nobody may, its triggers out of the way."""
    engine = open_engine(settings.catalog)
    with writing(engine).begin() as connection:
        for trigger in ("events_are_not_updated", "events_are_not_deleted"):
            connection.execute(sa.text(f"DROP TRIGGER IF EXISTS {trigger}"))
        for statement in statements:
            connection.execute(statement)
    engine.dispose()


def flip(path: Path, random_: random.Random) -> None:
    """Turn one bit of a file round."""
    data = bytearray(path.read_bytes())
    data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
    path.chmod(0o644)
    path.write_bytes(data)


def test_a_sound_registry_is_sound(registry: Registry, two: tuple[Version, Version]) -> None:
    report = registry.verify()
    assert report.ok
    # 14 blobs, of which two versions share recipe and trunk; 2 versions; 1 history.
    assert report.checked == 12 + 2 + 1
    assert report.to_json() == {"ok": True, "checked": 15, "damaged": []}


def test_an_empty_registry_is_sound(registry: Registry) -> None:
    assert registry.verify().to_json() == {"ok": True, "checked": 0, "damaged": []}


def test_one_bit_in_any_blob_is_found(registry: Registry, two: tuple[Version, Version]) -> None:
    random_ = random.Random(20260503)
    for version in two:
        for kind, digest in [("manifest", version.digest), *registry.manifest(version).blobs()]:
            path = registry.blob_path(digest)
            sound = path.read_bytes()
            for _ in range(5):
                flip(path, random_)
                report = registry.verify()
                assert (kind, digest) in kinds(report)
                path.write_bytes(sound)
    assert registry.verify().ok


def test_damage_names_every_version_that_it_concerns(
    registry: Registry, two: tuple[Version, Version]
) -> None:
    trunk, head = registry.manifest(two[0]).segments
    registry.blob_path(trunk.digest).unlink()
    registry.blob_path(head.digest).unlink()
    concerned = {damage.id: damage.refs for damage in registry.verify().damaged}
    assert concerned == {trunk.digest: (two[0].ref, two[1].ref), head.digest: (two[0].ref,)}
    assert kinds(registry.verify(two[1].ref)) == {("segment", trunk.digest)}


def test_publishing_again_mends(registry: Registry, two: tuple[Version, Version]) -> None:
    for _, digest in registry.manifest(two[0]).blobs():
        registry.blob_path(digest).unlink()
    assert not registry.verify().ok
    assert publish(registry, tiny(seed=1)) == two[0]
    assert registry.verify().ok


@pytest.mark.parametrize(
    "change",
    [
        {"technique": "full"},
        {"kind": "embedding"},
        {"metrics": {"accuracy": 1.0}},
        {"space_id": Digest.of(b"another space")},
        {"parent": Digest.of(b"a parent")},
    ],
)
def test_a_row_that_differs_from_its_manifest_is_found(
    registry: Registry, settings: Settings, two: tuple[Version, Version], change: dict[str, object]
) -> None:
    tamper(settings, versions.update().where(versions.c.number == 1).values(**change))
    assert kinds(registry.verify()) == {("version", str(two[0].ref))}
    assert kinds(registry.verify("digits@1")) == {("version", str(two[0].ref))}
    assert registry.verify("digits@2").ok


def test_a_reference_that_is_gone_is_found(
    registry: Registry, settings: Settings, two: tuple[Version, Version]
) -> None:
    tamper(settings, refs.delete().where(refs.c.kind == "predictions", refs.c.version == two[0].event))
    assert kinds(registry.verify()) == {("version", str(two[0].ref))}


@pytest.mark.parametrize(
    "statement",
    [
        events.update().where(events.c.id == 3).values(actor="eve"),
        events.update().where(events.c.id == 4).values(reason="the boss said so"),
        events.update().where(events.c.id == 3).values(forced=True),
        events.update().where(events.c.id == 4).values(at=sa.literal_column("at - 1000000000")),
        events.update().where(events.c.id == 3).values(hash="sha256:nonsense"),
        events.delete().where(events.c.id == 4),
        events.delete().where(events.c.id == 3),
        stages.delete(),
        stages.update().values(version=1),
        versions.update().where(versions.c.number == 1).values(promoted=False),
        versions.update().where(versions.c.number == 1).values(deleted=True),
        targets.update().values(seq=3),
        targets.update().values(hash=None),
    ],
    ids=str,
)
def test_a_history_that_was_rewritten_is_found(
    registry: Registry, settings: Settings, two: tuple[Version, Version], statement: sa.Executable
) -> None:
    tamper(settings, statement)
    assert ("history", "digits") in kinds(registry.verify())


def test_a_size_that_does_not_fit_is_found(
    registry: Registry, settings: Settings, two: tuple[Version, Version]
) -> None:
    trunk = registry.manifest(two[0]).segments[0]
    tamper(settings, blobs.update().where(blobs.c.digest == trunk.digest).values(bytes=1))
    assert ("segment", trunk.digest) in kinds(registry.verify())


def test_a_catalog_that_points_nowhere_is_found(
    registry: Registry, settings: Settings, two: tuple[Version, Version]
) -> None:
    trunk = registry.manifest(two[0]).segments[0]
    engine = open_engine(settings.catalog)
    with engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
        connection.exec_driver_sql("DELETE FROM blobs WHERE digest = ?", (trunk.digest,))
        connection.exec_driver_sql("BEGIN")
    engine.dispose()
    assert any(kind == "catalog" for kind, _ in kinds(registry.verify()))


class Meddler(Progress, ProgressStep):
    """Acts when the first bytes are hashed, and counts what is done."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act
        self.done = self.total = 0.0

    @contextmanager
    def step(self, what: str, total: float | None = None) -> Iterator[ProgressStep]:
        self.total += total or 0
        yield self

    def advance(self, amount: float = 1, note: str = "") -> None:
        if not self.done:
            self.act()
        self.done += amount

    def say(self, text: str) -> None:
        raise AssertionError(text)


def test_a_version_deleted_while_one_looks_is_no_damage(
    registry: Registry, two: tuple[Version, Version]
) -> None:
    def delete_and_collect() -> None:
        registry.delete(three.ref, "meanwhile")
        registry.collect(grace=timedelta(0))

    three = publish(registry, tiny(seed=3))
    meddler = Meddler(delete_and_collect)
    assert registry.verify(progress=meddler).ok
    assert meddler.done == meddler.total > 0
