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
from dataclasses import dataclass, field, replace
from time import monotonic, time
from typing import TypeAlias

from registry.digests import PREFIX
from registry.errors import AmbiguousRef, CultivarError, UnknownTarget, UnknownVersion
from registry.names import PRODUCTION
from registry.registry import Registry
from registry.versions import Version
from services import metrics
from services.errors import MalformedRequest, TargetUnavailable
from services.follower import Follower
from services.meeting import Meeting
from services.opened import Loaded, Opened
from services.plan import Plan
from services.sessions import Sessions
from services.states import READY, STALE, UNAVAILABLE

_log = logging.getLogger("cultivar.deployment")

Slot: TypeAlias = tuple[str, str]
"""A target and a stage: one version answers there."""

_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 60.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """A version that should be served and could not be opened.

    Attributes:
        version: which one.
        reason: the error's name; its words may hold paths and stay in the log.
    """

    version: Version
    reason: str


@dataclass(frozen=True, slots=True)
class Selector:
    """Which deployed version of a target is meant; all None for the one in production.

    Attributes:
        stage: a stage's name.
        number: a version's number.
        digest: the beginning of a version's digest, ``sha256:`` included.
        source: the source task.
    """

    stage: str | None = None
    number: int | None = None
    digest: str | None = None
    source: str | None = None

    @classmethod
    def parse(cls, stage: str | None, version: str | None, source: str | None) -> "Selector":
        """Read the query's ``stage``, ``version`` (a number or ``sha256:…``) and ``source``.

        Raises:
            MalformedRequest: a value has another form, or a stage and a version are both given.
        """
        if version is None:
            return cls(stage=stage, source=source)
        if stage is not None:
            raise MalformedRequest("stage= and version= both choose the version; give one of them")
        if version.startswith(PREFIX):
            return cls(digest=version, source=source)
        if not version.isascii() or not version.isdigit() or len(version) > 9:
            raise MalformedRequest(f"version= is a number or sha256: and digits, got {version[:80]!r}")
        return cls(number=int(version), source=source)

    def matches(self, version: Version) -> bool:
        """Tell whether a version is meant, its stage aside."""
        return (
            self.number in (None, version.number)
            and (self.digest is None or version.digest.startswith(self.digest))
            and self.source in (None, version.source)
        )


ANY = Selector()
"""Of those who do not choose: what is in production."""


@dataclass(frozen=True, slots=True)
class Target:
    """The deployed versions of one target.

    Attributes:
        name: the target task.
        stages: the version that answers for each stage.
        refused: for each stage the version that ought to answer and cannot.
    """

    name: str
    stages: Mapping[str, Opened] = field(default_factory=dict)
    refused: Mapping[str, Refusal] = field(default_factory=dict)

    def state(self, stage: str) -> str:
        """Return ``ready``, ``stale`` (an older version answers) or ``unavailable``."""
        if stage not in self.stages:
            return UNAVAILABLE
        return STALE if stage in self.refused else READY

    def pick(self, selector: Selector) -> Opened:
        """Return the version that a request means.

        Raises:
            UnknownVersion: it is not deployed.
            TargetUnavailable: it should be, and could not be opened.
            AmbiguousRef: several are meant.
        """
        stage = selector.stage
        if selector is ANY and (opened := self.stages.get(PRODUCTION)) is not None:
            return opened
        if stage is None and selector.number is None and selector.digest is None and selector.source is None:
            stage = PRODUCTION
        if stage is not None:
            opened = self.stages.get(stage)
            if opened is not None and selector.matches(opened.version):
                return opened
            refused = [self.refused[stage]] if stage in self.refused else []
        else:
            found = {
                each.version.digest: each for each in self.stages.values() if selector.matches(each.version)
            }
            if len(found) > 1:
                refs = ", ".join(sorted(each.identity.ref for each in found.values()))
                raise AmbiguousRef(f"several deployed versions of {self.name} are meant: {refs}")
            if found:
                return next(iter(found.values()))
            refused = list(self.refused.values())
        if any(selector.matches(each.version) for each in refused):
            raise TargetUnavailable(f"the version of {self.name} that was asked for could not be loaded")
        there = ", ".join(f"{each.identity.ref} ({stage})" for stage, each in self.stages.items()) or "none"
        raise UnknownVersion(f"no such version of {self.name} is deployed; there is {there}")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that is served at one moment; immutable.

    Attributes:
        targets: by name.
        plan: what their versions share.
        settled: every target's first attempt at loading has ended.
        behind: the other workers of this server serve something newer: nobody is answered.
        away: the registry cannot be read; what is served stays as it is.
    """

    targets: Mapping[str, Target] = field(default_factory=dict)
    plan: Plan = field(default_factory=Plan)
    settled: bool = False
    behind: bool = False
    away: bool = False

    def pick(self, target: str, selector: Selector) -> Opened:
        """Return the version that a request means.

        Raises:
            UnknownTarget: the target is not served.
            UnknownVersion: the version is not deployed.
            TargetUnavailable: it should be, and could not be opened.
            AmbiguousRef: several are meant.
        """
        if self.behind:
            raise TargetUnavailable("this worker is still preparing what the others serve already")
        found = self.targets.get(target)
        if found is None and not self.settled:
            raise TargetUnavailable("the server is still starting")
        if found is None:
            served = ", ".join(sorted(self.targets)) or "none yet"
            raise UnknownTarget(f"no target {target[:80]!r} is served; there is {served[:500]}")
        return found.pick(selector)

    def degraded(self) -> list[str]:
        """Return the targets that nothing answers for."""
        return sorted(name for name, target in self.targets.items() if not target.stages)

    def opened(self) -> Iterator[Opened]:
        """Yield every version that answers, once for each stage."""
        for target in self.targets.values():
            yield from target.stages.values()


class Deployment:
    """Follows a registry.

    Args:
        connect: opens the registry; called from the thread that looks, again until it succeeds.
        stages: the stages to serve.
        targets: the targets to serve; empty for all.
        sessions: opens what is to be run.
        poll_s: seconds between two looks.
        meeting: where the workers of this server agree on the moment of a change; None where it is alone.
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
        meeting: Meeting | None = None,
        swapped: Callable[[Snapshot], None] = lambda snapshot: None,
    ) -> None:
        self.snapshot = Snapshot()
        self._stages = stages
        self._wanted = frozenset(targets)
        self._sessions = sessions
        self._meeting = meeting
        self._swapped = swapped
        self._position: int | None = None
        self._read_from: Registry | None = None
        self._ahead: Snapshot | None = None
        self._retry_s = _FIRST_RETRY_S
        self._retry_at = float("inf")
        self._follower = Follower(
            connect,
            self._look,
            name="deployment",
            keeps="what is served stays as it is",
            poll_s=poll_s,
            told=self._note_away,
        )

    def start(self) -> None:
        """Begin to follow, in a thread."""
        self._follower.start()

    def close(self) -> None:
        """Stop following, and let go of the registry; what is served stays."""
        self._follower.close()

    def look(self) -> bool:
        """Bring the snapshot in step with the registry, if it moved or a refused version is due again.

        Returns:
            Whether there was something to do.

        Raises:
            CultivarError: the registry could not be read; what is served stays as it is.
        """
        return self._follower.look()

    def _look(self, registry: Registry) -> bool:
        position = registry.stage_position()
        metrics.REGISTRY_READ.set(time())
        # One that was away may be another one now, with the same position.
        same = position == self._position and registry is self._read_from
        if same and monotonic() < self._retry_at:
            return False
        if self._meeting is not None and self._position is not None and position < self._position:
            self._meeting.return_to(position)
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
        if self._meeting is None or self._position is None:
            yield
            return
        with self._meeting.preparing(self._position, self._step_aside):
            yield

    def _step_aside(self) -> None:
        _log.warning("the other workers did not wait any longer: nothing is answered until this one is done")
        self.snapshot = replace(self.snapshot, behind=True)

    def _agreed(self, position: int, arranged: Snapshot) -> bool:
        """Tell whether what was arranged is to be served now; the first one of all is, at once."""
        if self._meeting is None:
            return True
        if not self.snapshot.settled or position == self._position:
            self._meeting.arrive(position)
            return True
        # Held until the next look, so that what was opened for it is found again.
        self._ahead = arranged
        return self._meeting.agree(position, self._follower.stopping)

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
            (target.name, stage): opened
            for target in self.snapshot.targets.values()
            for stage, opened in target.stages.items()
        }
        read = {_name(opened.version): opened.loaded for opened in before.values()}
        chosen: dict[Slot, Loaded] = {}
        refused: dict[Slot, Refusal] = {}

        def refuse(slot: Slot, error: Exception) -> None:
            """Note that what is wanted cannot be had; what answers there goes on."""
            refused[slot] = self._refuse(slot, wanted[slot], error)
            chosen.pop(slot, None)
            if slot in before:
                chosen[slot] = before[slot].loaded

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
                chosen[slot] = read.get(_name(version)) or Loaded.read(registry, version)
                read[_name(version)] = chosen[slot]
            except Exception as error:
                refuse(slot, error)
        while True:
            plan = Plan.of({loaded.version.digest: loaded.manifest for loaded in chosen.values()})
            opened, failed = self._open(registry, plan, chosen, before)
            if not failed:
                break
            for slot, why in failed.items():
                refuse(slot, why)
        return Snapshot(self._targets(wanted, opened, refused, before), plan, settled=True)

    def _open(
        self,
        registry: Registry,
        plan: Plan,
        chosen: Mapping[Slot, Loaded],
        before: Mapping[Slot, Opened],
    ) -> tuple[dict[Slot, Opened], dict[Slot, Exception]]:
        """Open versions as a plan has them; return them, and those that failed.

        A version that answers already and cannot be opened in its new place stays where it was.
        """
        known = {_name(each.version): each for each in before.values()}
        proven = frozenset(step for each in before.values() for step in each.route.steps)
        opened: dict[Slot, Opened] = {}
        failed: dict[Slot, Exception] = {}
        for slot, loaded in chosen.items():
            name = _name(loaded.version)
            path = plan.paths[loaded.version.digest]
            current = known.get(name)
            if current is None or current.path != path:
                try:
                    known[name] = Opened.open(registry, loaded, path, self._sessions, proven)
                except Exception as error:
                    if current is None:
                        failed[slot] = error
                        continue
                    _log.exception("%s cannot be opened anew and stays as it is", loaded.version.ref)
            opened[slot] = known[name]
        return opened, failed

    def _targets(
        self,
        wanted: Mapping[Slot, Version],
        opened: Mapping[Slot, Opened],
        refused: Mapping[Slot, Refusal],
        before: Mapping[Slot, Opened],
    ) -> dict[str, Target]:
        """Return the targets, and count and log what changes."""
        names = dict.fromkeys(target for target, _ in wanted)
        for _ in self.snapshot.targets.keys() - names.keys():
            metrics.SWAPS.labels("withdrawn").inc()
        for slot, each in opened.items():
            if slot not in refused and (
                slot not in before or _name(before[slot].version) != _name(each.version)
            ):
                _log.info("%s serves %s", "@".join(slot), each.version.ref)
                metrics.SWAPS.labels("swapped").inc()
        return {
            name: Target(
                name,
                {stage: each for (target, stage), each in opened.items() if target == name},
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
        now = {_label(opened) for opened in self.snapshot.opened()}
        for gone in {_label(opened) for opened in before.opened()} - now:
            metrics.LOADED.labels(*gone).set(0)
        for label in now:
            metrics.LOADED.labels(*label).set(1)


def _label(opened: Opened) -> tuple[str, str, str]:
    return opened.identity.target, opened.identity.ref, opened.providers[0]


def _name(version: Version) -> tuple[str, str]:
    """Return what tells two versions apart."""
    return str(version.ref), version.digest
