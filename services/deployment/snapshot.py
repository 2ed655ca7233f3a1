"""An immutable snapshot of what is served: targets and their versions by stage, and how a request selects one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from registry.digests import PREFIX
from registry.errors import AmbiguousRef, UnknownTarget, UnknownVersion
from registry.names import PRODUCTION
from registry.versions import Version
from services.deployment.loading import LoadedVersion
from services.deployment.plan import Plan
from services.deployment.states import READY, STALE, UNAVAILABLE
from services.errors import MalformedRequest, TargetUnavailable


@dataclass(frozen=True, slots=True)
class Refusal:
    """A version that should be served but could not be opened.

    Attributes:
        version: the version.
        reason: the error's name. The message may contain paths, so it is only in the log.
    """

    version: Version
    reason: str


@dataclass(frozen=True, slots=True)
class Selector:
    """Selects a deployed version of a target; all None selects the one in production.

    Attributes:
        stage: a stage's name.
        number: a version's number.
        digest: a prefix of a version's digest, including ``sha256:``.
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
            MalformedRequest: a value is malformed, or both a stage and a version are given.
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
        """Return whether a version is selected, regardless of its stage."""
        return (
            self.number in (None, version.number)
            and (self.digest is None or version.digest.startswith(self.digest))
            and self.source in (None, version.source)
        )


ANY = Selector()
"""The selector of requests without a choice: the version in production."""


@dataclass(frozen=True, slots=True)
class Target:
    """The deployed versions of one target.

    Attributes:
        name: the target task.
        stages: the version that answers for each stage.
        refused: the version of each stage that should answer and cannot.
    """

    name: str
    stages: Mapping[str, LoadedVersion] = field(default_factory=dict)
    refused: Mapping[str, Refusal] = field(default_factory=dict)

    def state(self, stage: str) -> str:
        """Return ``ready``, ``stale`` (an older version answers) or ``unavailable``."""
        if stage not in self.stages:
            return UNAVAILABLE
        return STALE if stage in self.refused else READY

    def pick(self, selector: Selector) -> LoadedVersion:
        """Return the version that a request selects.

        Raises:
            UnknownVersion: it is not deployed.
            TargetUnavailable: it should be, but could not be opened.
            AmbiguousRef: several versions match.
        """
        stage = selector.stage
        if selector is ANY and (loaded := self.stages.get(PRODUCTION)) is not None:
            return loaded
        if stage is None and selector.number is None and selector.digest is None and selector.source is None:
            stage = PRODUCTION
        if stage is not None:
            loaded = self.stages.get(stage)
            if loaded is not None and selector.matches(loaded.version):
                return loaded
            refused = [self.refused[stage]] if stage in self.refused else []
        else:
            found = {
                each.version.digest: each for each in self.stages.values() if selector.matches(each.version)
            }
            if len(found) > 1:
                refs = ", ".join(sorted(each.identity.ref for each in found.values()))
                raise AmbiguousRef(f"several deployed versions of {self.name} match: {refs}")
            if found:
                return next(iter(found.values()))
            refused = list(self.refused.values())
        if any(selector.matches(each.version) for each in refused):
            raise TargetUnavailable(f"the requested version of {self.name} could not be loaded")
        there = ", ".join(f"{each.identity.ref} ({stage})" for stage, each in self.stages.items()) or "none"
        raise UnknownVersion(f"no such version of {self.name} is deployed; there is {there}")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that is served at one moment; immutable.

    Attributes:
        targets: the targets, by name.
        plan: the execution plan of their versions.
        settled: the first attempt at loading every target has ended.
        behind: the other workers of this server serve something newer; all requests are refused.
        away: the registry cannot be read; what is served stays unchanged.
    """

    targets: Mapping[str, Target] = field(default_factory=dict)
    plan: Plan = field(default_factory=Plan)
    settled: bool = False
    behind: bool = False
    away: bool = False

    def pick(self, target: str, selector: Selector) -> LoadedVersion:
        """Return the version that a request selects.

        Raises:
            UnknownTarget: the target is not served.
            UnknownVersion: the version is not deployed.
            TargetUnavailable: it should be, but could not be opened.
            AmbiguousRef: several versions match.
        """
        if self.behind:
            raise TargetUnavailable(
                "this worker is still preparing the versions that the others serve already"
            )
        found = self.targets.get(target)
        if found is None and not self.settled:
            raise TargetUnavailable("the server is still starting")
        if found is None:
            served = ", ".join(sorted(self.targets)) or "none yet"
            raise UnknownTarget(f"no target {target[:80]!r} is served; there is {served[:500]}")
        return found.pick(selector)

    def degraded(self) -> list[str]:
        """Return the targets without any version that answers."""
        return sorted(name for name, target in self.targets.items() if not target.stages)

    def loaded(self) -> Iterator[LoadedVersion]:
        """Yield every version that answers, once for each stage."""
        for target in self.targets.values():
            yield from target.stages.values()
