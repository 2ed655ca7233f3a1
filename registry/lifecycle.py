"""The events of a target, and the stages that follow from them. Pure functions.

Every change of a target is an event. Events are appended and never altered. The stages are a fold over the
events, so the stages at a past time are the fold of the events up to that time. Every event contains the hash
of the previous one, so changes and deletions of events are detected.

A stage other than ``candidate`` and ``retired`` is a *place*: it holds one version. An event moves only the
place that it names: promoting the version in staging to production leaves it in staging too. A version that
was never in a place is a candidate; one that has left all its places is retired. Promoting to ``retired``
removes a version from every place and from the versions that a rollback can return to. This empties a place,
and allows the version to be deleted.

The history of production is a stack. A promotion pushes the new version; a rollback pops it and returns to
the one below. So repeated rollbacks go further back, and never return to a version that was rolled back.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Self

from registry import instants
from registry.digests import Digest
from registry.errors import BrokenHistory, Conflict, InvalidValue
from registry.names import CANDIDATE, PRODUCTION, Ref, check_stage, check_task

REGISTERED = "registered"
PROMOTED = "promoted"
ROLLED_BACK = "rolled-back"
DELETED = "deleted"
ACTIONS = (REGISTERED, PROMOTED, ROLLED_BACK, DELETED)
STAGE_ACTIONS = (PROMOTED, ROLLED_BACK)
"""The actions that move a place; a promotion's compare-and-swap checks them."""


@dataclass(frozen=True, slots=True)
class Event:
    """One change of a version's state.

    Attributes:
        id: its position among the events of all targets, from 1, in commit order.
        target: the target task.
        seq: its position among the target's events, from 1, without gaps.
        at: its time, in UTC; never before the target's previous event.
        actor: who requested it, not authenticated.
        action: ``registered``, ``promoted``, ``rolled-back`` or ``deleted``.
        ref: the version's full ref; for a rollback the version that it returned to.
        digest: the version's identity.
        stage: the version's new stage: ``candidate`` on registration, None on deletion.
        reason: the stated reason, or None.
        forced: True if gates were overruled.
        previous: hash of the target's event before, or None for the first.
        hash: digest of all of the above except ``id``, which belongs to the catalog, not the target.
    """

    id: int
    target: str
    seq: int
    at: datetime
    actor: str
    action: str
    ref: Ref
    digest: Digest
    stage: str | None
    reason: str | None
    forced: bool
    previous: Digest | None
    hash: Digest = field(default=Digest.of())

    def __post_init__(self) -> None:
        check_task(self.target)
        if self.action not in ACTIONS:
            raise InvalidValue(f"an event's action is one of {', '.join(ACTIONS)}, got {self.action!r}")
        if self.id < 1 or self.seq < 1:
            raise InvalidValue(f"events are counted from 1, got id {self.id}, seq {self.seq}")
        if self.at.utcoffset() != timedelta(0):
            raise InvalidValue(f"an event's time is in UTC, got {self.at.isoformat()}")
        if self.ref.target != self.target or self.ref.source is None or self.ref.number is None:
            raise InvalidValue(
                f"an event of {self.target} concerns source/{self.target}@number, got {self.ref}"
            )

    @classmethod
    def after(
        cls,
        previous: "Event | None",
        *,
        id: int,
        at: datetime,
        actor: str,
        action: str,
        ref: Ref,
        digest: Digest,
        stage: str | None,
        reason: str | None = None,
        forced: bool = False,
    ) -> Self:
        """Return the event that follows another of the same target, chained to it.

        If the clock went back, the time is that of the previous event.
        """
        loose = cls(
            id=id,
            target=ref.target,
            seq=1 if previous is None else previous.seq + 1,
            at=at if previous is None else max(at, previous.at),
            actor=actor,
            action=action,
            ref=ref,
            digest=digest,
            stage=stage,
            reason=reason,
            forced=forced,
            previous=None if previous is None else previous.hash,
        )
        return replace(loose, hash=loose.expected_hash())

    def expected_hash(self) -> Digest:
        """Return the correct ``hash`` of the event."""
        body = self.to_json()
        del body["id"]
        return Digest.of_json(
            body | {"target": self.target, "digest": self.digest, "previous": self.previous}
        )

    @property
    def moves_stage(self) -> bool:
        """True for promotions and rollbacks."""
        return self.action in STAGE_ACTIONS

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "id": self.id,
            "seq": self.seq,
            "at": instants.to_text(self.at),
            "actor": self.actor,
            "action": self.action,
            "ref": str(self.ref),
            "stage": self.stage,
            "reason": self.reason,
            "forced": self.forced,
        }


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of a target's versions after some events.

    Attributes:
        stages: the version in each place; empty places are absent.
        below: the versions that rollbacks of production would return to, the next one last.
        event: id of the last event that moved a place, 0 before the first.
    """

    stages: Mapping[str, Ref] = field(default_factory=dict)
    below: tuple[Ref, ...] = ()
    event: int = 0

    def after(self, event: Event) -> "Standing":
        """Return the standing after another event.

        Raises:
            BrokenHistory: the event cannot follow this standing.
        """
        match event.action, event.stage:
            case ("registered", "candidate"):
                return self
            case ("deleted", None) if not self.needs(event.ref):
                return self
            case ("promoted", "retired"):
                return replace(self.without(event.ref), event=event.id)
            case ("promoted", str(stage)) if stage != CANDIDATE:
                return replace(self.having(stage, event.ref), event=event.id)
            case ("rolled-back", "production") if self.below[-1:] == (event.ref,):
                return Standing({**self.stages, PRODUCTION: event.ref}, self.below[:-1], event.id)
        raise BrokenHistory(
            f"event {event.id} says that {event.ref} was {event.action} (stage {event.stage}), "
            "which cannot follow the events before it"
        )

    def having(self, stage: str, ref: Ref) -> "Standing":
        """Return the standing after a version has taken a place."""
        displaced = self.stages.get(stage)
        if displaced == ref:
            return self
        stages = {**self.stages, stage: ref}
        if stage != PRODUCTION:
            return replace(self, stages=stages)
        below = [*self.below] if displaced is None else [*self.below, displaced]
        return replace(self, stages=stages, below=_unrepeated(below, ref))

    def without(self, ref: Ref) -> "Standing":
        """Return the standing after a version has left every place and all rollback targets."""
        stages = {stage: held for stage, held in self.stages.items() if held != ref}
        below = _unrepeated([held for held in self.below if held != ref], stages.get(PRODUCTION))
        return replace(self, stages=stages, below=below)

    def stages_of(self, ref: Ref) -> tuple[str, ...]:
        """Return a version's places, in alphabetical order."""
        return tuple(sorted(stage for stage, held in self.stages.items() if held == ref))

    def needs(self, ref: Ref) -> bool:
        """Tell whether a version is in a place, or a rollback may return to it."""
        return ref in self.stages.values() or ref in self.below

    def rollback(self, target: str) -> Ref:
        """Return the version that a rollback of production returns to.

        Raises:
            Conflict: there is none.
        """
        if not self.below:
            raise Conflict(
                f"expected an earlier version in the history of {target}@{PRODUCTION} to roll back to, "
                "there is none; promote a version instead"
            )
        return self.below[-1]


def fold(events: Iterable[Event]) -> Standing:
    """Return the standing of a target's versions after its events, oldest first.

    Events that move no place, such as registrations, may be omitted.

    Raises:
        BrokenHistory: an event cannot follow the ones before it.
    """
    standing = Standing()
    for event in events:
        standing = standing.after(event)
    return standing


def check_chain(events: Iterable[Event]) -> None:
    """Check all events of one target, oldest first: counts, hashes, times and moves.

    Raises:
        BrokenHistory: an event was changed, removed or added, or refers to a version that did not exist.
    """
    previous: Event | None = None
    standing = Standing()
    there: dict[Ref, Digest | None] = {}
    for event in events:
        _check_link(previous, event)
        if event.action == REGISTERED:
            if event.ref in there:
                raise BrokenHistory(f"event {event.id} registers {event.ref} a second time")
            there[event.ref] = event.digest
        elif there.get(event.ref) != event.digest:
            raise BrokenHistory(f"event {event.id} refers to {event.ref} {event.digest}, which did not exist")
        standing = standing.after(event)
        if event.action == DELETED:
            # Its number is not reused, and no later event can refer to it.
            there[event.ref] = None
        previous = event


def _check_link(previous: Event | None, event: Event) -> None:
    if event.hash != event.expected_hash():
        raise BrokenHistory(f"event {event.id} of {event.target} was changed: its hash is wrong")
    if previous is None:
        fits = event.seq == 1 and event.previous is None
    else:
        fits = (
            event.seq == previous.seq + 1
            and event.previous == previous.hash
            and event.target == previous.target
            and event.id > previous.id
            and event.at >= previous.at
        )
    if not fits:
        raise BrokenHistory(f"event {event.id} of {event.target} does not continue the previous event")


def check_destination(stage: str) -> str:
    """Check that versions can be promoted to a stage, and return it.

    Raises:
        InvalidName: it violates the grammar.
        Conflict: it is ``candidate``, the initial stage, to which no version returns.
    """
    if check_stage(stage) == CANDIDATE:
        raise Conflict(
            "a version is a candidate from its registration until it is first promoted, and not again; "
            "promote it to staging, production, retired or a stage of your own"
        )
    return stage


def _unrepeated(stack: list[Ref], top: Ref | None) -> tuple[Ref, ...]:
    """Drop entries with which a rollback would return to the same version."""
    kept: list[Ref] = []
    for ref in stack:
        if not kept or kept[-1] != ref:
            kept.append(ref)
    if kept and kept[-1] == top:
        kept.pop()
    return tuple(kept)
