"""Killed at any step, a publication or a promotion has happened or has not."""

import json
import subprocess
from collections.abc import Iterator
from datetime import timedelta

import pytest

from registry import steps
from registry.blobs import LocalBlobs
from registry.names import PRODUCTION
from registry.registry import Registry
from registry.settings import Settings
from tests.builders import publish, tiny
from tests.registry import worker
from tests.registry.conftest import Clock


@pytest.fixture
def crashing(settings: Settings, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    process = worker.start(settings, "crash", request.param)
    yield process
    process.communicate()


def crash(process: subprocess.Popen[str], step: int) -> tuple[bool, list[str]]:
    """Do the trip, killed at a step; return whether it was, and what it had announced and acknowledged."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{step}\n")
    process.stdin.flush()
    answer = json.loads(process.stdout.readline())
    return answer["killed"], answer["words"]


@pytest.mark.parametrize("crashing", ["publication"], indirect=True)
def test_a_publication_killed_at_any_step(
    crashing: subprocess.Popen[str], settings: Settings, clock: Clock
) -> None:
    registered: set[str] = set()
    fatal: list[str] = []
    killed = True
    while killed:
        killed, words = crash(crashing, len(fatal))
        fatal += words[-1:] if killed else []
        with Registry.open(settings) as registry:
            assert registry.verify().ok
            seen = {str(version.ref) for version in registry.versions().versions}
            # What was committed is there, what was not is not.
            assert len(seen - registered) == (steps.COMMITTED in words)
            assert registered <= seen
            registered = seen
    assert set(fatal) == set(steps.PUBLICATION)
    assert registered == {f"letters/digits@{number}" for number in range(1, len(registered) + 1)}

    with Registry.open(settings, clock=clock) as registry:
        assert (
            registry.collect(grace=timedelta(0)).bytes == 0
        )  # dead publications hold their leases for a while
        clock.ahead = timedelta(hours=2)
        assert registry.collect(grace=timedelta(0)).bytes > 0
        assert registry.verify().ok
        needed = {
            digest
            for version in registry.versions().versions
            for digest in (version.digest, *(digest for _, digest in registry.manifest(version).blobs()))
        }
    folder = settings.blob_folder
    blobs = LocalBlobs(folder)
    assert {stored.digest for stored in blobs.list()} == needed
    assert [*blobs.staged()] == []


@pytest.mark.parametrize("crashing", ["promotion"], indirect=True)
def test_a_promotion_killed_at_any_step(crashing: subprocess.Popen[str], settings: Settings) -> None:
    with Registry.open(settings) as registry:
        first = publish(registry, tiny(seed=0))
        registry.promote(first.ref, PRODUCTION)
    fatal: list[str] = []
    killed = True
    while killed:
        with Registry.open(settings) as registry:
            before = registry.resolve("digits")
            newest = publish(registry, tiny(seed=1 + len(fatal)))
        killed, words = crash(crashing, len(fatal))
        fatal += words[-1:] if killed else []
        with Registry.open(settings) as registry:
            assert registry.verify().ok
            expected = newest if steps.COMMITTED in words else before
            assert registry.resolve("digits").ref == expected.ref
    assert tuple(fatal) == steps.PROMOTION
