"""What shall be served, decided from what is wanted, what is served and what could be read."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.errors import IntegrityError
from registry.registry import Registry
from registry.settings import Settings
from services.deployment.arrangement import Arrangement, Wanted, targets_of
from services.deployment.loading import LoadedVersion, VersionContents
from services.deployment.plan import Plan
from services.deployment.sessions import Sessions
from services.deployment.snapshot import Refusal
from tests.builders import publish, tiny

SLOT, OTHER = ("digits", "production"), ("digits", "staging")
DAMAGED = IntegrityError("bytes are missing")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry.open(Settings.read(tmp_path, actor="tests")) as registry:
        yield registry


@pytest.fixture
def versions(registry: Registry) -> list[VersionContents]:
    return [VersionContents.read(registry, publish(registry, tiny(seed=seed))) for seed in range(2)]


def loaded(registry: Registry, contents: VersionContents) -> LoadedVersion:
    path = Plan.of({contents.version.digest: contents.manifest}).paths[contents.version.digest]
    return LoadedVersion.open(registry, contents, path, Sessions(threads=1, cores=1))


def test_what_is_wanted_and_was_read_is_served(versions: list[VersionContents]) -> None:
    old, new = versions
    arrangement = Arrangement.of({SLOT: Wanted(new.version, new), OTHER: Wanted(old.version, old)}, {})
    assert arrangement.served == {SLOT: new, OTHER: old}
    assert not arrangement.refused
    assert set(arrangement.plan.paths) == {old.version.digest, new.version.digest}


def test_what_could_not_be_read_leaves_the_current_version_in_its_slot(
    registry: Registry, versions: list[VersionContents]
) -> None:
    old, new = versions
    current = {SLOT: loaded(registry, old)}
    arrangement = Arrangement.of({SLOT: Wanted(new.version, DAMAGED)}, current)
    assert arrangement.served == {SLOT: old}
    assert arrangement.refused == {SLOT: DAMAGED}


def test_what_could_not_be_read_leaves_an_empty_slot_empty(versions: list[VersionContents]) -> None:
    old, new = versions
    wanted = {SLOT: Wanted(new.version, DAMAGED), OTHER: Wanted(old.version, old)}
    arrangement = Arrangement.of(wanted, {})
    assert arrangement.served == {OTHER: old}
    assert arrangement.refused == {SLOT: DAMAGED}


def test_a_slot_that_nobody_wants_is_not_served(registry: Registry, versions: list[VersionContents]) -> None:
    old, _ = versions
    assert not Arrangement.of({}, {SLOT: loaded(registry, old)}).served


def test_targets_have_a_version_or_a_refusal_or_both_for_each_stage(
    registry: Registry, versions: list[VersionContents]
) -> None:
    old, new = versions
    serving = {SLOT: loaded(registry, old)}
    refused = {SLOT: Refusal(new.version, "IntegrityError"), OTHER: Refusal(new.version, "IntegrityError")}
    wanted = {slot: Wanted(new.version, DAMAGED) for slot in (SLOT, OTHER)}
    target = targets_of(wanted, serving, refused)["digits"]
    assert target.stages == {"production": serving[SLOT]}
    assert set(target.refused) == {"production", "staging"}
