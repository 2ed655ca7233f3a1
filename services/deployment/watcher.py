"""What is served right now, kept in step with the registry.

A thread asks many times a second for the registry's last stage event, which registrations leave as it is. Where
stages moved it makes a new plan of what shall be served, opens and warms what the plan has anew beside what is open
already, then replaces the snapshot in one assignment. Requests take their version out of the snapshot
once, so those under way finish on the old one, which is released with the last of them. A version
that cannot be opened changes nothing but what is reported: the old one goes on answering.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from time import monotonic, time
from typing import TypeAlias

from registry.errors import CultivarError
from registry.registry import Registry
from registry.versions import Version
from services import metrics
from services.deployment.loading import LoadedVersion, VersionContents
from services.deployment.plan import Plan
from services.deployment.registry_poller import RegistryPoller
from services.deployment.rollout_barrier import RolloutBarrier
from services.deployment.sessions import Sessions
from services.deployment.snapshot import Refusal, Snapshot, Target

_log = logging.getLogger("cultivar.deployment")

Slot: TypeAlias = tuple[str, str]
"""A target and a stage: one version answers there."""

_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 60.0


class DeploymentWatcher:
    """Follows a registry.

    Args:
        connect: opens the registry; called from the thread that looks, again until it succeeds.
        stages: the stages to serve.
        targets: the targets to serve; empty for all.
        sessions: opens what is to be run.
        poll_s: seconds between two looks.
        barrier: where the workers of this server agree on the moment of a change; None where it is alone.
        swapped: called after each change, from the thread that looks.

    Attributes:
        snapshot: what is served; read it once for each request.
    """

    def __init__(
        self,
        connect: Callable[[], Registry],
        *,
        stages: tuple[str, ...],
        targets: tuple[str, ...] = (),
        sessions: Sessions,
        poll_s: float = 0.1,
        barrier: RolloutBarrier | None = None,
        swapped: Callable[[Snapshot], None] = lambda snapshot: None,
    ) -> None:
        self.snapshot = Snapshot()
        self._stages = stages
        self._wanted = frozenset(targets)
        self._sessions = sessions
        self._barrier = barrier
        self._swapped = swapped
        self._position: int | None = None
        self._read_from: Registry | None = None
        self._ahead: Snapshot | None = None
        self._retry_s = _FIRST_RETRY_S
        self._retry_at = float("inf")
        self._poller = RegistryPoller(
            connect,
            self._look,
            name="deployment",
            keeps="what is served stays as it is",
            poll_s=poll_s,
            told=self._note_away,
        )

    def start(self) -> None:
        """Begin to follow, in a thread."""
        self._poller.start()

    def close(self) -> None:
        """Stop following, and let go of the registry; what is served stays."""
        self._poller.close()

    def look(self) -> bool:
        """Bring the snapshot in step with the registry, if it moved or a refused version is due again.

        Returns:
            Whether there was something to do.

        Raises:
            CultivarError: the registry could not be read; what is served stays as it is.
        """
        return self._poller.look()

    def _look(self, registry: Registry) -> bool:
        position = registry.stage_position()
        metrics.REGISTRY_READ.set(time())
        # One that was away may be another one now, with the same position.
        same = position == self._position and registry is self._read_from
        if same and monotonic() < self._retry_at:
            return False
        if self._barrier is not None and self._position is not None and position < self._position:
            self._barrier.return_to(position)
        before = self.snapshot
        with self._watching():
            arranged = self._arrange(registry, self._read(registry))
        if not self._agreed(position, arranged):
            return True
        self._ahead = None
        self.snapshot = arranged
        self._swapped(self.snapshot)
        self._plan_retry(moved=position != self._position)
        self._position = position
        self._read_from = registry
        self._report(before)
        return True

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Step aside where the other workers change before this one is done."""
        if self._barrier is None or self._position is None:
            yield
            return
        with self._barrier.preparing(self._position, self._step_aside):
            yield

    def _step_aside(self) -> None:
        _log.warning("the other workers did not wait any longer: nothing is answered until this one is done")
        self.snapshot = replace(self.snapshot, behind=True)

    def _agreed(self, position: int, arranged: Snapshot) -> bool:
        """Tell whether what was arranged is to be served now; the first one of all is, at once."""
        if self._barrier is None:
            return True
        if not self.snapshot.settled or position == self._position:
            self._barrier.arrive(position)
            return True
        # Held until the next look, so that what was opened for it is found again.
        self._ahead = arranged
        return self._barrier.agree(position, self._poller.stopping)

    def _note_away(self, away: bool) -> None:
        self.snapshot = replace(self.snapshot, away=away)

    def _read(self, registry: Registry) -> dict[Slot, Version]:
        return {
            (version.target, stage): version
            for stage in self._stages
            for version in registry.deployed(stage)
            if not self._wanted or version.target in self._wanted
        }

    def _arrange(self, registry: Registry, wanted: dict[Slot, Version]) -> Snapshot:
        """Return a snapshot of what the registry wants, as far as it can be believed and opened."""
        before = {
            (target.name, stage): loaded
            for target in self.snapshot.targets.values()
            for stage, loaded in target.stages.items()
        }
        read = {_name(loaded.version): loaded.contents for loaded in before.values()}
        chosen: dict[Slot, VersionContents] = {}
        refused: dict[Slot, Refusal] = {}

        def refuse(slot: Slot, error: Exception) -> None:
            """Note that what is wanted cannot be had; what answers there goes on."""
            refused[slot] = self._refuse(slot, wanted[slot], error)
            chosen.pop(slot, None)
            if slot in before:
                chosen[slot] = before[slot].contents

        for slot in before.keys() - wanted.keys():
            try:
                registry.check_stage(*slot)
            except CultivarError as error:
                wanted[slot] = before[slot].version
                refuse(slot, error)
        for slot, version in wanted.items():
            if slot in refused:
                continue
            try:
                if slot not in before or _name(before[slot].version) != _name(version):
                    registry.check_stage(*slot)
                chosen[slot] = read.get(_name(version)) or VersionContents.read(registry, version)
                read[_name(version)] = chosen[slot]
            except Exception as error:
                refuse(slot, error)
        while True:
            plan = Plan.of({contents.version.digest: contents.manifest for contents in chosen.values()})
            loaded, failed = self._open(registry, plan, chosen, before)
            if not failed:
                break
            for slot, why in failed.items():
                refuse(slot, why)
        return Snapshot(self._targets(wanted, loaded, refused, before), plan, settled=True)

    def _open(
        self,
        registry: Registry,
        plan: Plan,
        chosen: Mapping[Slot, VersionContents],
        before: Mapping[Slot, LoadedVersion],
    ) -> tuple[dict[Slot, LoadedVersion], dict[Slot, Exception]]:
        """Open versions as a plan has them; return them, and those that failed.

        A version that answers already and cannot be opened in its new place stays where it was.
        """
        known = {_name(each.version): each for each in before.values()}
        proven = frozenset(step for each in before.values() for step in each.route.steps)
        loaded: dict[Slot, LoadedVersion] = {}
        failed: dict[Slot, Exception] = {}
        for slot, contents in chosen.items():
            name = _name(contents.version)
            path = plan.paths[contents.version.digest]
            current = known.get(name)
            if current is None or current.path != path:
                try:
                    known[name] = LoadedVersion.open(registry, contents, path, self._sessions, proven)
                except Exception as error:
                    if current is None:
                        failed[slot] = error
                        continue
                    _log.exception("%s cannot be opened anew and stays as it is", contents.version.ref)
            loaded[slot] = known[name]
        return loaded, failed

    def _targets(
        self,
        wanted: Mapping[Slot, Version],
        loaded: Mapping[Slot, LoadedVersion],
        refused: Mapping[Slot, Refusal],
        before: Mapping[Slot, LoadedVersion],
    ) -> dict[str, Target]:
        """Return the targets, and count and log what changes."""
        names = dict.fromkeys(target for target, _ in wanted)
        for _ in self.snapshot.targets.keys() - names.keys():
            metrics.SWAPS.labels("withdrawn").inc()
        for slot, each in loaded.items():
            if slot not in refused and (
                slot not in before or _name(before[slot].version) != _name(each.version)
            ):
                _log.info("%s serves %s", "@".join(slot), each.version.ref)
                metrics.SWAPS.labels("swapped").inc()
        return {
            name: Target(
                name,
                {stage: each for (target, stage), each in loaded.items() if target == name},
                {stage: each for (target, stage), each in refused.items() if target == name},
            )
            for name in names
        }

    def _refuse(self, slot: Slot, version: Version, error: Exception) -> Refusal:
        target = self.snapshot.targets.get(slot[0])
        before = None if target is None else target.refused.get(slot[1])
        if before is not None and before.version.digest == version.digest:
            return before
        words = str(error) if isinstance(error, CultivarError) else repr(error)
        _log.error("%s keeps what it has; %s is refused: %s", "@".join(slot), version.ref, words)
        metrics.SWAPS.labels("refused").inc()
        return Refusal(version, type(error).__name__)

    def _plan_retry(self, *, moved: bool) -> None:
        if not any(target.refused for target in self.snapshot.targets.values()):
            self._retry_at = float("inf")
            return
        self._retry_s = _FIRST_RETRY_S if moved else min(self._retry_s * 2, _LAST_RETRY_S)
        self._retry_at = monotonic() + self._retry_s

    def _report(self, before: Snapshot) -> None:
        """Bring ``cultivar_loaded`` in step with the snapshot."""
        now = {_label(loaded) for loaded in self.snapshot.loaded()}
        for gone in {_label(loaded) for loaded in before.loaded()} - now:
            metrics.LOADED.labels(*gone).set(0)
        for label in now:
            metrics.LOADED.labels(*label).set(1)


def _label(loaded: LoadedVersion) -> tuple[str, str, str]:
    return loaded.identity.target, loaded.identity.ref, loaded.providers[0]


def _name(version: Version) -> tuple[str, str]:
    """Return what tells two versions apart."""
    return str(version.ref), version.digest
