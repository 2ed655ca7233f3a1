"""The registry as a whole: putting in, finding, moving."""

import subprocess
import sys
import threading
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from registry import instants
from registry.blobs import LocalBlobs
from registry.digests import Digest
from registry.errors import (
    AmbiguousRef,
    CondemnedBlob,
    Conflict,
    DamagedBlob,
    GateFailed,
    InvalidName,
    InvalidSetting,
    MissingBlob,
    StaleExpectation,
    UnknownTarget,
    UnknownVersion,
    VersionInUse,
)
from registry.lifecycle import REGISTERED
from registry.names import PRODUCTION, RETIRED, STAGING, Ref
from registry.program import Program
from registry.promotion import FAIL, INCONCLUSIVE, PASS, PromotionOutcome
from registry.recipe import ImageRecipe
from registry.registry import Registry
from registry.settings import Settings
from registry.steps import PUBLICATION
from registry.versions import Version
from tests.builders import picture, publish, tiny
from tests.registry.conftest import Clock

# Putting in


def test_what_was_published_can_be_run(registry: Registry) -> None:
    version = publish(registry, tiny())
    manifest = registry.manifest(version)
    recipe = registry.recipe(manifest)
    assert manifest == tiny().manifest
    assert isinstance(recipe, ImageRecipe)
    batch = recipe.collate([recipe.prepare(picture(seed)) for seed in range(3)])
    answer = Program(manifest, registry.blob).run(batch)
    assert answer["logits"].shape == (3, 3)
    assert answer["logits"].dtype == np.float32


def test_nothing_is_visible_before_it_is_registered(registry: Registry) -> None:
    made = tiny()
    with registry.publication() as publication:
        for kind, data in made.blobs:
            publication.store(kind, data)
        assert registry.versions().versions == ()
    assert registry.targets() == []


def test_a_version_whose_bytes_are_not_all_there_is_refused(registry: Registry) -> None:
    made = tiny()
    with registry.publication() as publication:
        for kind, data in made.blobs[1:]:
            publication.store(kind, data)
        with pytest.raises(MissingBlob, match=made.manifest.recipe):
            publication.register(made.manifest)
    assert registry.position() == 0


def test_publishing_again_returns_the_same_version(registry: Registry) -> None:
    assert publish(registry, tiny()) == publish(registry, tiny())
    assert len(registry.history("digits")) == 1


def test_a_second_head_on_a_trunk_stores_only_what_is_new(registry: Registry, settings: Settings) -> None:
    publish(registry, tiny(seed=1))
    folder = settings.blob_folder
    before = {stored.digest for stored in LocalBlobs(folder).list()}
    second = tiny(seed=2)
    publish(registry, second)
    new = {stored.digest for stored in LocalBlobs(folder).list()} - before
    assert second.manifest.segments[0].digest in before
    assert second.manifest.recipe in before
    assert new == {digest for _, digest in second.manifest.blobs()} - before | {second.manifest.digest}


def test_a_blob_that_is_there_may_be_reused(registry: Registry) -> None:
    made = tiny()
    publish(registry, made)
    trunk = made.manifest.segments[0]
    with registry.publication() as publication:
        assert publication.reuse(trunk.digest) == trunk.bytes
        with pytest.raises(MissingBlob, match="store it"):
            publication.reuse(Digest.of(b"never stored"))


def test_a_trunk_that_was_exported_before_is_found(registry: Registry) -> None:
    made = tiny()
    trunk = made.manifest.segments[0]
    with registry.publication() as publication:
        assert publication.find_export(trunk.weights) is None
        for kind, data in made.blobs:
            publication.store(kind, data)
        publication.remember_export(trunk.weights, trunk.digest)
        assert publication.find_export(trunk.weights) == (trunk.digest, trunk.bytes)
    with registry.publication() as publication:
        assert publication.find_export(trunk.weights) is None  # it was never registered
        for kind, data in made.blobs:
            publication.store(kind, data)
        publication.remember_export(trunk.weights, trunk.digest)
        publication.register(made.manifest)
    with registry.publication() as publication:
        assert publication.find_export(trunk.weights) == (trunk.digest, trunk.bytes)


@pytest.mark.parametrize("damage", [None, b"", b"x", "same size"])
def test_an_export_whose_bytes_are_damaged_is_exported_again_and_mended(
    registry: Registry, damage: bytes | str | None
) -> None:
    made = tiny()
    trunk, trunk_bytes = made.manifest.segments[0], made.blobs[3][1]
    with registry.publication() as publication:
        for kind, data in made.blobs:
            publication.store(kind, data)
        publication.remember_export(trunk.weights, trunk.digest)
        publication.register(made.manifest)
    path = registry.blob_path(trunk.digest)
    path.unlink()
    if damage is not None:
        path.write_bytes(bytes(trunk.bytes) if isinstance(damage, str) else damage)
    with registry.publication() as publication:
        assert publication.find_export(trunk.weights) is None
        publication.store("segment", trunk_bytes)
        assert publication.find_export(trunk.weights) == (trunk.digest, trunk.bytes)
    assert registry.verify().ok


def test_the_steps_of_a_publication_are_announced(settings: Settings) -> None:
    steps: list[str] = []
    with Registry.open(settings, announce=steps.append) as registry:
        publish(registry, tiny())
    assert [*dict.fromkeys(steps)] == [*PUBLICATION]
    assert steps[-3:] == [*PUBLICATION[-3:]]


def test_a_long_publication_keeps_its_leases(settings: Settings, clock: Clock) -> None:
    renewed = threading.Event()
    # Renewal comes every quarter of a lease.
    with Registry.open(settings, clock=clock, lease=timedelta(seconds=0.2)) as registry:
        made = tiny()
        with registry.publication() as publication:
            for kind, data in made.blobs:
                publication.store(kind, data)
            for _ in range(8):
                renewed.wait(0.1)
                registry.collect(grace=timedelta(0))
            publication.register(made.manifest)
        assert registry.verify().ok


def test_a_publication_that_was_cut_off_for_too_long_is_refused(settings: Settings, clock: Clock) -> None:
    made = tiny()
    with Registry.open(settings, clock=clock) as registry, registry.publication() as publication:
        for kind, data in made.blobs:
            publication.store(kind, data)
        clock.ahead = timedelta(hours=2)
        registry.collect()
        with pytest.raises(CondemnedBlob, match="store it again"):
            publication.register(made.manifest)
        for kind, data in made.blobs:
            publication.store(kind, data)
        publication.register(made.manifest)
        assert registry.verify().ok


# Finding


@pytest.fixture
def several(registry: Registry) -> dict[str, Version]:
    versions = [
        publish(registry, tiny(transfer, seed=seed))
        for seed, transfer in enumerate(["a/x", "a/x", "b/x", "b/x", "b/x", "a/y"])
    ]
    registry.promote("a/x@1", PRODUCTION)
    registry.promote("b/x@3", STAGING)
    return {str(version.ref): registry.resolve(version.ref) for version in versions}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x", "a/x@1"),
        ("x@production", "a/x@1"),
        ("a/x", "a/x@1"),
        ("x@staging", "b/x@3"),
        ("x@3", "b/x@3"),
        ("a/x@2", "a/x@2"),
        ("y@1", "a/y@1"),
        ("y@candidate", "a/y@1"),
    ],
)
def test_a_ref_means_a_version(
    registry: Registry, several: dict[str, Version], text: str, found: str
) -> None:
    assert registry.resolve(text) == several[found]
    assert registry.resolve(Ref.parse(text)) == several[found]


def test_a_digest_or_its_beginning_means_a_version(registry: Registry, several: dict[str, Version]) -> None:
    version = several["b/x@2"]
    assert registry.resolve(f"x@{version.digest}") == version
    assert registry.resolve(f"b/x@{version.digest[:19]}") == version


def test_a_ref_with_several_meanings_lists_them(registry: Registry, several: dict[str, Version]) -> None:
    with pytest.raises(AmbiguousRef, match=r"a/x@1.*write one of them in full") as caught:
        registry.resolve("x@1")
    assert "b/x@1" in str(caught.value)
    with pytest.raises(AmbiguousRef):
        registry.resolve("x@candidate")


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("z", UnknownTarget, "there are x, y"),
        ("y", UnknownVersion, "in production"),
        ("x@9", UnknownVersion, "like x@9"),
        ("b/x", UnknownVersion, "in production"),
        ("c/x@1", UnknownVersion, "c/x"),
        ("x@sha256:0000", UnknownVersion, "sha256:0000"),
        ("x@shadow", UnknownVersion, "in shadow"),
        ("X@1", InvalidName, "lower-case"),
    ],
)
def test_a_ref_without_meaning_is_explained(
    registry: Registry, several: dict[str, Version], text: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        registry.resolve(text)


def test_pages_follow_one_another(registry: Registry, several: dict[str, Version]) -> None:
    refs, cursor = [], None
    for expected in (4, 2):
        page = registry.versions(limit=4, cursor=cursor)
        assert len(page.versions) == expected
        refs += [str(version.ref) for version in page.versions]
        cursor = page.next
    assert cursor is None
    assert refs == [*reversed(several)]


@pytest.mark.parametrize(
    "wrong", [{"limit": 0}, {"limit": 1001}, {"cursor": "-1"}, {"cursor": "x"}, {"cursor": "9" * 30}]
)
def test_a_page_that_cannot_be_is_refused(registry: Registry, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidSetting):
        registry.versions(**wrong)


def test_what_is_deployed_is_told_for_all_targets(registry: Registry, several: dict[str, Version]) -> None:
    registry.promote("y@1", PRODUCTION)
    assert [str(version.ref) for version in registry.deployed()] == ["a/x@1", "a/y@1"]
    assert [str(version.ref) for version in registry.deployed(STAGING)] == ["b/x@3"]
    assert registry.deployed("shadow") == []
    with pytest.raises(InvalidSetting):
        registry.deployed(RETIRED)


def test_damaged_bytes_are_not_handed_out(registry: Registry) -> None:
    version = publish(registry, tiny())
    path = registry.blob_path(version.digest)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    for ask in (registry.blob, registry.blob_path, registry.manifest):
        with pytest.raises(DamagedBlob, match=version.digest):
            ask(version.digest)


# Moving


@pytest.fixture
def three(registry: Registry) -> list[Ref]:
    return [publish(registry, tiny(seed=seed)).ref for seed in range(3)]


def test_a_promotion_says_what_it_did(registry: Registry, three: list[Ref]) -> None:
    first = registry.promote("digits@1", PRODUCTION)
    second = registry.promote("digits@2", PRODUCTION, reason=" better ")
    assert (first.ref, first.previous) == (three[0], None)
    assert second.to_json() == {
        "target": "digits",
        "stage": PRODUCTION,
        "ref": "letters/digits@2",
        "previous": "letters/digits@1",
        "event": first.event + 1,
        "gates": [],
    }
    assert registry.history("digits")[-1].reason == "better"
    assert registry.stages("digits") == {PRODUCTION: three[1]}
    assert registry.resolve(three[0]).stages == (RETIRED,)


def test_promoting_what_is_there_changes_nothing(registry: Registry, three: list[Ref]) -> None:
    first = registry.promote(three[0], PRODUCTION)
    assert registry.promote(three[0], PRODUCTION).event == first.event
    assert registry.promote(three[0], PRODUCTION, expect=first.event).previous == three[0]
    registry.promote(three[1], RETIRED)
    position = registry.position()
    registry.promote(three[1], RETIRED)
    assert registry.position() == position


def test_a_promotion_that_expects_the_wrong_event_loses(registry: Registry, three: list[Ref]) -> None:
    event = registry.promote(three[0], PRODUCTION, expect=0).event
    with pytest.raises(StaleExpectation):
        registry.promote(three[1], PRODUCTION, expect=0)
    with pytest.raises(StaleExpectation):
        registry.promote(three[0], PRODUCTION, expect=event + 7)
    registry.promote(three[1], PRODUCTION, expect=event)


def test_a_stage_that_moves_while_the_gates_are_asked_is_noticed(settings: Settings) -> None:
    with Registry.open(settings) as other:
        one, two = (publish(other, tiny(seed=seed)) for seed in range(2))

        def gate(registry: Registry, version: Version, stage: str, rival: Version | None) -> PromotionOutcome:
            other.promote(two.ref, STAGING)
            return PromotionOutcome("slow", PASS, {})

        with Registry.open(settings, gates=[gate]) as registry, pytest.raises(StaleExpectation):
            registry.promote(one.ref, PRODUCTION)


@pytest.mark.parametrize("outcome", [FAIL, INCONCLUSIVE])
def test_a_gate_that_does_not_pass_stops_a_promotion_unless_forced(settings: Settings, outcome: str) -> None:
    asked: list[tuple[Ref, str, Ref | None]] = []

    def gate(registry: Registry, version: Version, stage: str, rival: Version | None) -> PromotionOutcome:
        asked.append((version.ref, stage, None if rival is None else rival.ref))
        return PromotionOutcome("accuracy", outcome if rival else PASS, {"difference": -0.1})

    with Registry.open(settings, gates=[gate]) as registry:
        one, two = (publish(registry, tiny(seed=seed)).ref for seed in range(2))
        assert [gate.outcome for gate in registry.promote(one, PRODUCTION).gates] == [PASS]
        with pytest.raises(GateFailed, match="accuracy"):
            registry.promote(two, PRODUCTION)
        with pytest.raises(InvalidSetting, match="reason"):
            registry.promote(two, PRODUCTION, force=True, reason=" ")
        forced = registry.promote(two, PRODUCTION, force=True, reason="a fix for the outage")
        assert [gate.outcome for gate in forced.gates] == [outcome]
        event = registry.history("digits")[-1]
        assert (event.forced, event.reason) == (True, "a fix for the outage")
        assert asked == [(one, PRODUCTION, None), (two, PRODUCTION, one), (two, PRODUCTION, one)]


def test_forcing_where_nothing_stands_in_the_way_is_no_force(registry: Registry, three: list[Ref]) -> None:
    registry.promote(three[0], PRODUCTION, force=True, reason="hurry")
    assert not registry.history("digits")[-1].forced


def test_rollback_says_what_it_did(registry: Registry, three: list[Ref]) -> None:
    for ref in three:
        registry.promote(ref, PRODUCTION)
    back = registry.rollback("digits", reason="worse at night")
    assert (back.ref, back.previous, back.stage) == (three[1], three[2], PRODUCTION)
    assert registry.rollback("digits", expect=back.event).ref == three[0]
    with pytest.raises(Conflict, match="promote a version instead"):
        registry.rollback("digits")
    with pytest.raises(StaleExpectation):
        registry.rollback("digits", expect=back.event)


def test_what_was_in_production_at_a_moment_has_an_exact_answer(
    registry: Registry, three: list[Ref], clock: Clock
) -> None:
    moments = [instants.now()]
    for ref in three[:2]:
        clock.ahead += timedelta(hours=1)
        registry.promote(ref, PRODUCTION)
        moments.append(registry.history("digits")[-1].at)
    clock.ahead += timedelta(hours=1)
    registry.rollback("digits")
    moments.append(registry.history("digits")[-1].at)
    then = [registry.stages_at("digits", moment).get(PRODUCTION) for moment in moments]
    assert then == [None, three[0], three[1], three[0]]
    just_before = registry.stages_at("digits", moments[2] - timedelta(microseconds=1))
    assert just_before == {PRODUCTION: three[0]}


def test_a_deleted_version_says_so(registry: Registry, three: list[Ref]) -> None:
    registry.delete(three[1], "trained on the test part")
    with pytest.raises(UnknownVersion, match=r"deleted on .* by ada: trained on the test part"):
        registry.resolve(three[1])
    with pytest.raises(UnknownVersion):
        registry.promote(three[1], PRODUCTION)
    with pytest.raises(InvalidSetting, match="reason"):
        registry.delete(three[0], "  ")
    assert publish(registry, tiny(seed=7)).number == 4
    assert [event.action for event in registry.history("digits")].count(REGISTERED) == 4


def test_what_is_in_production_is_not_deleted(registry: Registry, three: list[Ref]) -> None:
    registry.promote(three[0], PRODUCTION)
    with pytest.raises(VersionInUse):
        registry.delete(three[0], "why not")


@pytest.mark.parametrize("call", ["history", "stages", "rollback"])
def test_a_target_that_does_not_exist_is_unknown(registry: Registry, call: str) -> None:
    with pytest.raises(UnknownTarget, match="the registry is empty"):
        getattr(registry, call)("flowers")


# The house


def test_the_registry_loads_neither_torch_nor_bentoml_nor_onnx_runtime() -> None:
    script = (
        "import sys, registry.commands.versions, registry.registry, registry.verification; "
        "print(sorted({'torch', 'torchvision', 'bentoml', 'onnxruntime', 'sklearn', 'alembic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
