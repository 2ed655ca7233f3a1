"""Keeps what is served up to date with the registry.

A thread polls the registry's last stage event several times a second; registrations do not change it. When stages
have changed, the thread makes a new plan, opens and warms up what is new beside the open sessions, and replaces the
snapshot in one assignment. A request takes its version from the snapshot once. So requests in progress finish on the
old version, which is released after the last of them. A version that cannot be opened is only reported: the old one
still answers.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from time import monotonic, time

from registry.errors import CultivarError
from registry.registry import Registry
from registry.versions import Version
from services import metrics
from services.deployment.arrangement import Arrangement, Slot, Wanted, name_of, slots_of, targets_of
from services.deployment.loading import LoadedVersion, VersionContents
from services.deployment.registry_poller import RegistryPoller
from services.deployment.rollout_barrier import RolloutBarrier
from services.deployment.sessions import Sessions
from services.deployment.snapshot import Refusal, Snapshot

_log = logging.getLogger("cultivar.deployment")

_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 60.0


class DeploymentWatcher:
    """Follows a registry.

    Args:
        connect: opens the registry; called from the polling thread, repeatedly until it succeeds.
        stages: the stages to serve.
        targets: the targets to serve; empty for all.
        sessions: opens sessions.
        poll_s: seconds between two polls.
        barrier: lets the workers of this server switch at the same moment; None with one worker.
        swapped: called after each change, from the polling thread.

    Attributes:
        snapshot: what is served; read it once per request.
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
        self._kept_alive: Snapshot | None = None
        self._no_agreement = False
        self._retry_s = _FIRST_RETRY_S
        self._retry_at = float("inf")
        self._poller = RegistryPoller(
            connect,
            self._look,
            name="deployment",
            keeps="what is served stays unchanged",
            poll_s=poll_s,
            on_away=self._note_away,
        )

    def start(self) -> None:
        """Start following the registry, in a thread."""
        self._poller.start()

    def close(self) -> None:
        """Stop following the registry and close it; what is served stays."""
        self._poller.close()

    def look(self) -> bool:
        """Update the snapshot, if the registry changed or it is time to try a refused version again.

        Returns:
            Whether there was something to do.

        Raises:
            CultivarError: the registry could not be read; what is served stays unchanged.
        """
        return self._poller.look()

    def _look(self, registry: Registry) -> bool:
        position = registry.stage_position()
        metrics.REGISTRY_READ.set(time())
        # A new connection may be to another registry, with the same position.
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
        self._kept_alive = None
        self.snapshot = arranged
        self._swapped(self.snapshot)
        self._plan_retry(moved=position != self._position)
        self._position = position
        self._read_from = registry
        self._report(before)
        return True

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Refuse requests if the other workers switch before this one is prepared."""
        if self._barrier is None or self._position is None:
            yield
            return
        with self._barrier.preparing(self._position, self._step_aside):
            yield

    def _step_aside(self) -> None:
        _log.warning(
            "the other workers switched without this one, which refuses requests until it is prepared"
        )
        self.snapshot = replace(self.snapshot, behind=True)

    def _agreed(self, position: int, arranged: Snapshot) -> bool:
        """Return whether to serve the new snapshot now; the first one is served at once."""
        if self._barrier is None:
            return True
        at_once = not self.snapshot.settled or position == self._position
        # Keeps its sessions open until the next poll uses them.
        self._kept_alive = None if at_once else arranged
        try:
            if at_once:
                self._barrier.arrive(position)
                return True
            agreed = self._barrier.agree(position, self._poller.stopping)
        except OSError as error:
            self._note_no_agreement(error)
            return at_once
        self._no_agreement = False
        return agreed

    def _note_no_agreement(self, error: OSError) -> None:
        if not self._no_agreement:
            _log.error(
                "the workers cannot agree on a moment to switch versions, and go on with those before: %s; "
                "free space in the server's temporary folder",
                error,
            )
        self._no_agreement = True

    def _note_away(self, away: bool) -> None:
        self.snapshot = replace(self.snapshot, away=away)

    def _read(self, registry: Registry) -> dict[Slot, Version]:
        return {
            (version.target, stage): version
            for stage in self._stages
            for version in registry.deployed(stage)
            if not self._wanted or version.target in self._wanted
        }

    def _arrange(self, registry: Registry, deployed: Mapping[Slot, Version]) -> Snapshot:
        """Return a snapshot of what the registry wants, as far as it passes the checks and can be loaded."""
        current = slots_of(self.snapshot)
        wanted = self._wanted_in(registry, deployed, current)
        while True:
            arrangement = Arrangement.of(wanted, current)
            loaded, failed = self._load(registry, arrangement, current)
            if not failed:
                break
            for slot, error in failed.items():
                wanted[slot] = replace(wanted[slot], contents=error)
        refused = {
            slot: self._refusal(slot, wanted[slot].version, error)
            for slot, error in arrangement.refused.items()
        }
        return Snapshot(targets_of(wanted, loaded, refused), arrangement.plan, settled=True)

    def _wanted_in(
        self, registry: Registry, deployed: Mapping[Slot, Version], current: Mapping[Slot, LoadedVersion]
    ) -> dict[Slot, Wanted]:
        """Read what the registry wants. An emptied slot whose events fail the check keeps its version."""
        read = {name_of(loaded.version): loaded.contents for loaded in current.values()}
        wanted: dict[Slot, Wanted] = {}
        for slot, loaded in current.items():
            if slot not in deployed:
                try:
                    registry.check_stage(*slot)
                except CultivarError as error:
                    wanted[slot] = Wanted(loaded.version, error)
        for slot, version in deployed.items():
            name = name_of(version)
            try:
                if slot not in current or name_of(current[slot].version) != name:
                    registry.check_stage(*slot)
                if name not in read:
                    read[name] = VersionContents.read(registry, version)
                wanted[slot] = Wanted(version, read[name])
            except Exception as error:
                wanted[slot] = Wanted(version, error)
        return wanted

    def _load(
        self, registry: Registry, arrangement: Arrangement, current: Mapping[Slot, LoadedVersion]
    ) -> tuple[dict[Slot, LoadedVersion], dict[Slot, Exception]]:
        """Load versions by a plan; return them, and the errors of those that failed.

        A served version that cannot be loaded by the new plan keeps its old path.
        """
        known = {name_of(each.version): each for each in current.values()}
        proven = frozenset(step for each in current.values() for step in each.route.steps)
        loaded: dict[Slot, LoadedVersion] = {}
        failed: dict[Slot, Exception] = {}
        for slot, contents in arrangement.served.items():
            name = name_of(contents.version)
            path = arrangement.plan.paths[contents.version.digest]
            before = known.get(name)
            if before is None or before.path != path:
                try:
                    known[name] = LoadedVersion.open(registry, contents, path, self._sessions, proven)
                except Exception as error:
                    if before is None:
                        failed[slot] = error
                        continue
                    _log.exception("%s cannot be loaded again and stays unchanged", contents.version.ref)
            loaded[slot] = known[name]
        return loaded, failed

    def _refusal(self, slot: Slot, version: Version, error: Exception) -> Refusal:
        """Return why a version is not served; log and count it if it was not refused before."""
        target = self.snapshot.targets.get(slot[0])
        before = None if target is None else target.refused.get(slot[1])
        if before is not None and before.version.digest == version.digest:
            return before
        words = str(error) if isinstance(error, CultivarError) else repr(error)
        _log.error("%s stays unchanged; %s is refused: %s", "@".join(slot), version.ref, words)
        metrics.SWAPS.labels("refused").inc()
        return Refusal(version, type(error).__name__)

    def _plan_retry(self, *, moved: bool) -> None:
        if not any(target.refused for target in self.snapshot.targets.values()):
            self._retry_at = float("inf")
            return
        self._retry_s = _FIRST_RETRY_S if moved else min(self._retry_s * 2, _LAST_RETRY_S)
        self._retry_at = monotonic() + self._retry_s

    def _report(self, before: Snapshot) -> None:
        """Log and count the changes, and update ``cultivar_loaded``."""
        current, now = slots_of(before), slots_of(self.snapshot)
        for _ in before.targets.keys() - self.snapshot.targets.keys():
            metrics.SWAPS.labels("withdrawn").inc()
        for slot, loaded in now.items():
            if slot not in current or name_of(current[slot].version) != name_of(loaded.version):
                _log.info("%s serves %s", "@".join(slot), loaded.version.ref)
                metrics.SWAPS.labels("swapped").inc()
        labels = {_label(loaded) for loaded in now.values()}
        for gone in {_label(loaded) for loaded in current.values()} - labels:
            metrics.LOADED.labels(*gone).set(0)
        for label in labels:
            metrics.LOADED.labels(*label).set(1)


def _label(loaded: LoadedVersion) -> tuple[str, str, str]:
    return loaded.identity.target, loaded.identity.ref, loaded.providers[0]
