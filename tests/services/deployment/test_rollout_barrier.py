"""Workers of one server change what they serve at one moment."""

import gc
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from registry.registry import Registry
from registry.settings import Settings
from services.deployment import sessions
from services.deployment.rollout_barrier import RolloutBarrier
from services.deployment.session_pool import SessionPool, open_pool
from services.deployment.sessions import Sessions
from services.deployment.snapshot import Selector
from services.deployment.watcher import DeploymentWatcher
from services.errors import TargetUnavailable
from tests.builders import chain, publish, tiny

GONE = 999


def meet(folder: Path, worker: int, patience_s: float = 20.0) -> RolloutBarrier:
    return RolloutBarrier(folder, patience_s=patience_s, worker=worker, alive=lambda number: number != GONE)


def test_nobody_changes_before_all_are_done_and_then_all_at_one_moment(tmp_path: Path) -> None:
    meetings = [meet(tmp_path, number) for number in range(3)]
    for barrier in meetings:
        barrier.arrive(1)
    changed: list[float] = []

    def prepare(barrier: RolloutBarrier, seconds: float) -> bool:
        time.sleep(seconds)
        prepared = time.monotonic()
        agreed = barrier.agree(2, threading.Event())
        changed.append(time.monotonic())
        assert changed[-1] >= prepared
        return agreed

    with ThreadPoolExecutor(3) as pool:
        began = time.monotonic()
        assert all(pool.map(prepare, meetings, (0.0, 0.1, 0.4)))
    assert min(changed) - began >= 0.4


def test_one_who_saw_more_of_the_registry_makes_the_others_look_again(tmp_path: Path) -> None:
    one, two = meet(tmp_path, 1), meet(tmp_path, 2)
    one.arrive(1)
    two.arrive(3)
    assert not one.agree(2, threading.Event())


def test_a_worker_that_is_gone_is_not_waited_for(tmp_path: Path) -> None:
    meet(tmp_path, GONE).arrive(1)
    assert meet(tmp_path, 1).agree(2, threading.Event())


def test_a_worker_that_is_not_done_is_left_behind_and_told(tmp_path: Path) -> None:
    slow, quick = meet(tmp_path, 1), meet(tmp_path, 2, patience_s=0.05)
    slow.arrive(1)
    told = threading.Event()
    with slow.preparing(1, told.set):
        assert quick.agree(2, threading.Event())
        assert told.wait(10)
    assert slow.agree(2, threading.Event())


def test_nobody_is_told_while_nobody_changes(tmp_path: Path) -> None:
    told = threading.Event()
    with meet(tmp_path, 1).preparing(1, told.set):
        meet(tmp_path, 2).arrive(2)
        assert not told.wait(0.05)


def test_waiting_ends_when_the_worker_stops(tmp_path: Path) -> None:
    meet(tmp_path, 2).arrive(1)
    stop = threading.Event()
    stop.set()
    assert not meet(tmp_path, 1).agree(2, stop)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry.open(Settings.read(tmp_path, actor="tests")) as registry:
        yield registry


def test_a_deployment_left_behind_answers_nothing_until_it_has_caught_up(
    registry: Registry, tmp_path: Path
) -> None:
    place = tmp_path / "meeting"
    deployment = DeploymentWatcher(
        lambda: registry,
        stages=("production",),
        sessions=Sessions(threads=1, cores=1),
        barrier=meet(place, 1),
    )
    first, second = publish(registry, tiny(seed=1)), publish(registry, tiny(seed=2))
    registry.promote(first.ref, "production")
    deployment.look()
    registry.promote(second.ref, "production")
    deployment._step_aside()
    with pytest.raises(TargetUnavailable, match="still preparing"):
        deployment.snapshot.pick("digits", Selector())
    deployment.look()
    assert deployment.snapshot.pick("digits", Selector()).version.ref == second.ref


def test_what_was_loaded_ahead_of_a_change_is_found_again_when_it_comes(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker is ahead: its sessions stay open until the others have caught up, and are opened once."""
    folder = tmp_path / "barrier"
    deployment = DeploymentWatcher(
        lambda: registry,
        stages=("production",),
        sessions=Sessions(threads=1, cores=1),
        barrier=meet(folder, 1),
    )
    first, second = (publish(registry, chain("letters/digits", values)) for values in ([1, 2], [3, 4]))
    registry.promote(first.ref, "production")
    deployment.look()
    opened: list[object] = []

    def counting(*arguments: Any, **options: Any) -> SessionPool:
        opened.append(arguments)
        return open_pool(*arguments, **options)

    monkeypatch.setattr(sessions, "open_pool", counting)
    registry.promote(second.ref, "production")
    # Another worker knows of more already: there is nothing to agree on yet.
    meet(folder, 2).arrive(10**6)
    assert deployment.look()
    assert deployment.snapshot.pick("digits", Selector()).version.ref == first.ref
    assert opened
    count = len(opened)
    gc.collect()
    meet(folder, 2).arrive(registry.stage_position())
    assert deployment.look()
    assert deployment.snapshot.pick("digits", Selector()).version.ref == second.ref
    assert len(opened) == count


def test_a_registry_that_was_put_back_leaves_nobody_behind(tmp_path: Path) -> None:
    one, two = meet(tmp_path, 1), meet(tmp_path, 2)
    for barrier in (one, two):
        barrier.arrive(5)
        barrier._name(5)
    told = threading.Event()
    for barrier in (one, two):
        barrier.return_to(3)
        barrier.arrive(3)
    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(lambda barrier: barrier.agree(3, threading.Event()), (one, two)))
    with one.preparing(3, told.set):
        assert not told.wait(0.05)


def test_workers_that_cannot_write_go_on_with_what_they_serve_until_they_can(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "barrier"
    deployment = DeploymentWatcher(
        lambda: registry,
        stages=("production",),
        sessions=Sessions(threads=1, cores=1),
        barrier=meet(folder, 1),
    )
    first, second = publish(registry, tiny(seed=1)), publish(registry, tiny(seed=2))
    registry.promote(first.ref, "production")
    deployment.look()
    registry.promote(second.ref, "production")
    gone = folder.rename(tmp_path / "gone")
    for _ in range(2):
        assert deployment.look()
        assert deployment.snapshot.pick("digits", Selector()).version.ref == first.ref
    assert [record.getMessage().split(",")[0] for record in caplog.records] == [
        "the workers cannot agree on a moment to switch versions"
    ]
    gone.rename(folder)
    deployment.look()
    assert deployment.snapshot.pick("digits", Selector()).version.ref == second.ref
