"""Following a real registry, step by step."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry.errors import AmbiguousRef, UnknownTarget, UnknownVersion
from registry.registry import Registry
from registry.settings import Settings
from registry.versions import Version
from services.api.status import readiness
from services.deployment import watcher as module
from services.deployment.sessions import Sessions
from services.deployment.snapshot import Selector
from services.deployment.states import READY, STALE, UNAVAILABLE
from services.deployment.watcher import DeploymentWatcher
from services.engine.batch import compute
from services.errors import MalformedRequest, TargetUnavailable
from tests.builders import Tiny, publish, tiny, tiny_text, total, with_segment

ANY = Selector()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry.open(Settings.read(tmp_path, actor="tests")) as registry:
        yield registry


def follow(registry: Registry, *stages: str, targets: tuple[str, ...] = ()) -> DeploymentWatcher:
    return DeploymentWatcher(
        lambda: registry,
        stages=("production", *stages),
        targets=targets,
        sessions=Sessions(threads=1, cores=1),
    )


def other_pooling(transfer: str) -> Tiny:
    """Return a version on the same table of words, which adds them up instead of averaging."""
    whole = tiny_text(transfer, seed=3)
    return with_segment(whole, "pool", total())


def damage(registry: Registry, version: Version) -> tuple[Path, bytes]:
    """Flip a bit of a version's head; return the file and its right bytes."""
    path = registry.blob_path(registry.manifest(version).segments[-1].digest)
    good = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    return path, good


def test_an_empty_registry_settles_with_nothing(registry: Registry) -> None:
    deployment = follow(registry)
    before = deployment.snapshot
    with pytest.raises(TargetUnavailable, match="still starting"):
        before.pick("digits", ANY)
    assert deployment.look()
    assert (before.settled, deployment.snapshot.settled) == (False, True)
    assert deployment.snapshot.targets == {}
    with pytest.raises(UnknownTarget):
        deployment.snapshot.pick("digits", ANY)


def test_a_registry_that_did_not_move_is_left_alone(registry: Registry) -> None:
    deployment = follow(registry)
    assert deployment.look()
    assert not deployment.look()
    version = publish(registry, tiny())
    assert not deployment.look()
    registry.promote(version.ref, "production")
    assert deployment.look()
    assert not deployment.look()


def test_what_happens_to_versions_that_are_not_served_is_none_of_its_business(registry: Registry) -> None:
    served = publish(registry, tiny(seed=1))
    registry.promote(served.ref, "production")
    deployment = follow(registry)
    deployment.look()
    other = publish(registry, tiny("letters/other", seed=2))
    registry.delete(other.ref, "a mistake")
    assert not deployment.look()


def test_closing_lets_go_of_the_registry(tmp_path: Path) -> None:
    loaded: list[Registry] = []

    class Watched(Registry):
        closed = False

        def close(self) -> None:
            super().close()
            self.closed = True

    def connect() -> Registry:
        loaded.append(Watched.open(Settings.read(tmp_path, actor="tests")))
        return loaded[-1]

    deployment = DeploymentWatcher(connect, stages=("production",), sessions=Sessions(threads=1, cores=1))
    deployment.close()
    assert loaded == []
    deployment.look()
    deployment.close()
    deployment.close()
    assert [isinstance(each, Watched) and each.closed for each in loaded] == [True]


def test_candidates_are_not_served_and_production_is(registry: Registry) -> None:
    deployment = follow(registry)
    version = publish(registry, tiny())
    deployment.look()
    assert deployment.snapshot.targets == {}
    registry.promote(version.ref, "production")
    deployment.look()
    assert deployment.snapshot.pick("digits", ANY).version.ref == version.ref


def test_promotion_and_rollback_replace_the_version_and_snapshots_stay_as_they_were(
    registry: Registry,
) -> None:
    deployment = follow(registry)
    first, second = publish(registry, tiny(seed=1)), publish(registry, tiny(seed=2))
    registry.promote(first.ref, "production")
    deployment.look()
    before = deployment.snapshot
    registry.promote(second.ref, "production")
    deployment.look()
    assert deployment.snapshot.pick("digits", ANY).version.ref == second.ref
    assert before.pick("digits", ANY).version.ref == first.ref
    registry.rollback("digits")
    deployment.look()
    assert deployment.snapshot.pick("digits", ANY).version.ref == first.ref


def test_an_old_version_is_released_with_its_last_request(registry: Registry) -> None:
    deployment = follow(registry)
    first, second = publish(registry, tiny(seed=1)), publish(registry, tiny(seed=2, trunk_seed=2))
    registry.promote(first.ref, "production")
    deployment.look()
    held = deployment.snapshot.pick("digits", ANY)
    trunk = weakref.ref(held.route.steps[0])
    registry.promote(second.ref, "production")
    deployment.look()
    assert trunk() is not None
    del held
    gc.collect()
    assert trunk() is None


def test_versions_that_run_the_same_segments_share_one_session(registry: Registry) -> None:
    deployment = follow(registry)
    for transfer in ("letters/one", "letters/two"):
        registry.promote(publish(registry, tiny(transfer, labels=None)).ref, "production")
    deployment.look()
    one, two = (deployment.snapshot.pick(name, ANY) for name in ("one", "two"))
    assert one.route.steps[0] is two.route.steps[0]


def test_a_new_head_on_a_live_trunk_opens_no_session(registry: Registry) -> None:
    deployment = follow(registry)
    first, second = publish(registry, tiny(seed=1)), publish(registry, tiny(seed=2))
    registry.promote(first.ref, "production")
    deployment.look()
    trunk = deployment.snapshot.pick("digits", ANY).route.steps
    registry.promote(second.ref, "production")
    deployment.look()
    assert deployment.snapshot.pick("digits", ANY).route.steps == trunk


def test_a_version_that_branches_inside_a_run_splits_it_and_the_other_answers_all_along(
    registry: Registry,
) -> None:
    deployment = follow(registry)
    registry.promote(publish(registry, tiny_text("words/moods", seed=1)).ref, "production")
    deployment.look()
    before = deployment.snapshot.pick("moods", ANY)
    registry.promote(publish(registry, other_pooling("words/others")).ref, "production")
    deployment.look()
    moods, others = (deployment.snapshot.pick(name, ANY) for name in ("moods", "others"))
    assert [len(each.route.steps) for each in (before, moods, others)] == [1, 2, 2]
    assert moods.route.steps[0] is others.route.steps[0]
    fields = moods.recipe.collate([moods.recipe.prepare("a good day"), moods.recipe.prepare("bad")])
    whole, split = (compute(each.route, fields)["logits"] for each in (before, moods))
    np.testing.assert_allclose(whole, split, rtol=0, atol=1e-5)


def test_a_split_run_is_joined_again_when_nobody_branches_off_any_more(registry: Registry) -> None:
    deployment = follow(registry)
    registry.promote(publish(registry, tiny_text("words/moods", seed=1)).ref, "production")
    other = publish(registry, other_pooling("words/others"))
    registry.promote(other.ref, "production")
    deployment.look()
    registry.promote(other.ref, "retired")
    deployment.look()
    assert len(deployment.snapshot.pick("moods", ANY).route.steps) == 1


def test_targets_and_stages_that_nobody_asked_for_are_left_out(registry: Registry) -> None:
    for transfer in ("letters/digits", "letters/shapes"):
        versions = [publish(registry, tiny(transfer, seed=seed)) for seed in (1, 2)]
        registry.promote(versions[0].ref, "production")
        registry.promote(versions[1].ref, "staging")
    deployment = follow(registry, targets=("shapes",))
    deployment.look()
    assert set(deployment.snapshot.targets) == {"shapes"}
    assert set(deployment.snapshot.targets["shapes"].stages) == {"production"}


def test_any_deployed_version_can_be_chosen(registry: Registry) -> None:
    first, second = publish(registry, tiny(seed=1)), publish(registry, tiny("random/digits", seed=2))
    registry.promote(first.ref, "production")
    registry.promote(second.ref, "staging")
    deployment = follow(registry, "staging")
    deployment.look()

    def picked(**selector: Any) -> object:
        return deployment.snapshot.pick("digits", Selector(**selector)).version.ref

    assert picked() == picked(stage="production") == picked(source="letters") == first.ref
    assert (
        picked(stage="staging") == picked(source="random") == picked(digest=second.digest[:16]) == second.ref
    )
    with pytest.raises(AmbiguousRef, match="letters/digits@1, random/digits@1"):
        picked(number=1)
    assert picked(number=1, source="random") == second.ref
    for wrong in ({"number": 7}, {"stage": "canary"}, {"digest": "sha256:beef"}, {"source": "elsewhere"}):
        with pytest.raises(UnknownVersion):
            picked(**wrong)


def test_a_target_without_production_answers_for_its_stage_alone(registry: Registry) -> None:
    version = publish(registry, tiny())
    registry.promote(version.ref, "staging")
    deployment = follow(registry, "staging")
    deployment.look()
    assert deployment.snapshot.pick("digits", Selector(stage="staging")).version.ref == version.ref
    with pytest.raises(UnknownVersion):
        deployment.snapshot.pick("digits", ANY)


def test_a_damaged_version_changes_nothing_but_what_is_said(registry: Registry) -> None:
    good, bad = publish(registry, tiny(seed=1)), publish(registry, tiny(seed=2))
    registry.promote(good.ref, "production")
    deployment = follow(registry)
    deployment.look()
    damage(registry, bad)
    registry.promote(bad.ref, "production")
    deployment.look()
    target = deployment.snapshot.targets["digits"]
    assert deployment.snapshot.pick("digits", ANY).version.ref == good.ref
    assert target.state("production") == STALE
    assert target.refused["production"].reason == "DamagedBlob"
    assert deployment.snapshot.degraded() == []


def test_a_damaged_version_alone_leaves_its_target_unavailable_until_it_is_repaired(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_RETRY_S", 0.0)
    bad, other = publish(registry, tiny(seed=1)), publish(registry, tiny("letters/shapes", seed=2))
    path, good_bytes = damage(registry, bad)
    registry.promote(bad.ref, "production")
    registry.promote(other.ref, "production")
    deployment = follow(registry)
    deployment.look()
    assert deployment.snapshot.settled
    assert deployment.snapshot.degraded() == ["digits"]
    assert deployment.snapshot.targets["digits"].state("production") == UNAVAILABLE
    assert deployment.snapshot.targets["shapes"].state("production") == READY
    assert readiness(deployment.snapshot, strict=False)[0]
    assert not readiness(deployment.snapshot, strict=True)[0]
    with pytest.raises(TargetUnavailable):
        deployment.snapshot.pick("digits", ANY)
    with pytest.raises(TargetUnavailable):
        deployment.snapshot.pick("digits", Selector(number=1))
    path.write_bytes(good_bytes)
    assert deployment.look()
    assert deployment.snapshot.pick("digits", ANY).version.ref == bad.ref
    assert not deployment.look()


def test_a_version_that_cannot_be_loaded_is_tried_again_after_twice_the_time_each_time(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    bad = publish(registry, tiny(seed=1))
    damage(registry, bad)
    registry.promote(bad.ref, "production")
    deployment = follow(registry)
    assert deployment.look()
    waits = []
    for _ in range(8):
        began = now
        while not deployment.look():
            now += 0.5
        waits.append(now - began)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_a_promotion_ends_the_wait_for_another_try(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    bad, good = publish(registry, tiny(seed=1)), publish(registry, tiny(seed=2))
    damage(registry, bad)
    registry.promote(bad.ref, "production")
    deployment = follow(registry)
    deployment.look()
    assert not deployment.look()
    registry.promote(good.ref, "production")
    assert deployment.look()
    assert deployment.snapshot.pick("digits", ANY).version.ref == good.ref


def test_a_target_that_leaves_production_is_withdrawn(registry: Registry) -> None:
    version = publish(registry, tiny())
    registry.promote(version.ref, "production")
    deployment = follow(registry)
    deployment.look()
    registry.promote(version.ref, "retired")
    deployment.look()
    assert deployment.snapshot.targets == {}


def test_a_registry_that_cannot_be_reached_at_first_is_tried_again(registry: Registry) -> None:
    attempts: list[None] = []

    def connect() -> Registry:
        attempts.append(None)
        if len(attempts) == 1:
            raise OSError("not yet")
        return registry

    deployment = DeploymentWatcher(connect, stages=("production",), sessions=Sessions(threads=1, cores=1))
    with pytest.raises(OSError, match="not yet"):
        deployment.look()
    assert not deployment.snapshot.settled
    deployment.look()
    assert deployment.snapshot.settled


def test_the_thread_follows_by_itself(registry: Registry) -> None:
    version = publish(registry, tiny())
    seen: list[object] = []
    deployment = DeploymentWatcher(
        lambda: registry,
        stages=("production",),
        sessions=Sessions(threads=1, cores=1),
        poll_s=0.01,
        swapped=lambda snapshot: seen.append(snapshot),
    )
    deployment.start()
    registry.promote(version.ref, "production")
    while "digits" not in deployment.snapshot.targets:
        pass
    deployment.close()
    assert seen[-1] is deployment.snapshot


@pytest.mark.parametrize(
    "fields", [("staging", "1", None), (None, "x", None), (None, "-1", None), (None, "1" * 10, None)]
)
def test_selectors_of_another_form_are_refused(fields: tuple[str | None, str | None, str | None]) -> None:
    with pytest.raises(MalformedRequest):
        Selector.parse(*fields)
