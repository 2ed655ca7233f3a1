"""Decides what to serve, from what the registry wants, what is served now, and what could be read.

Pure: nothing here reads, loads or logs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from registry.versions import Version
from services.deployment.loading import LoadedVersion, VersionContents
from services.deployment.plan import Plan
from services.deployment.snapshot import Refusal, Snapshot, Target

Slot: TypeAlias = tuple[str, str]
"""A target and a stage, for which one version answers."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The version that the registry wants in a slot.

    Attributes:
        version: the version.
        contents: its contents, or the error why it cannot be served.
    """

    version: Version
    contents: VersionContents | Exception


@dataclass(frozen=True, slots=True)
class Arrangement:
    """What to serve in each slot, and why wanted versions are refused.

    Attributes:
        served: the version for each slot: the wanted one, or else the current one.
        refused: the error for each slot whose wanted version cannot be served.
        plan: the execution plan of the served versions.
    """

    served: Mapping[Slot, VersionContents]
    refused: Mapping[Slot, Exception]
    plan: Plan

    @classmethod
    def of(cls, wanted: Mapping[Slot, Wanted], current: Mapping[Slot, LoadedVersion]) -> "Arrangement":
        """Decide. A slot keeps its current version if the wanted one cannot be served."""
        served: dict[Slot, VersionContents] = {}
        refused: dict[Slot, Exception] = {}
        for slot, each in wanted.items():
            if not isinstance(each.contents, Exception):
                served[slot] = each.contents
                continue
            refused[slot] = each.contents
            if slot in current:
                served[slot] = current[slot].contents
        plan = Plan.of({each.version.digest: each.manifest for each in served.values()})
        return cls(served, refused, plan)


def slots_of(snapshot: Snapshot) -> dict[Slot, LoadedVersion]:
    """Return what a snapshot serves, by slot."""
    return {
        (target.name, stage): loaded
        for target in snapshot.targets.values()
        for stage, loaded in target.stages.items()
    }


def targets_of(
    wanted: Mapping[Slot, Wanted], loaded: Mapping[Slot, LoadedVersion], refused: Mapping[Slot, Refusal]
) -> dict[str, Target]:
    """Return the targets of a snapshot, in the order of ``wanted``."""
    return {
        name: Target(
            name,
            {stage: each for (target, stage), each in loaded.items() if target == name},
            {stage: each for (target, stage), each in refused.items() if target == name},
        )
        for name in dict.fromkeys(target for target, _ in wanted)
    }


def name_of(version: Version) -> tuple[str, str]:
    """Return what identifies a version: its ref and digest."""
    return str(version.ref), version.digest
