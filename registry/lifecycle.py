"""What happens to the versions of a target, and where that leaves them. Pure.

Everything that changes a target is an event, appended and never altered. The stages are a fold
over the events, so that what was in production at some moment is the fold of the events up to it.
Every event carries the hash of the one before, so that none can be changed or taken out unseen.

A stage other than ``candidate`` and ``retired`` is a place for one version. An event moves the
place that it names and no other: promoting the version in staging to production leaves it in
staging too. A version that was never in a place is a candidate; one that was, and is in none
now, is retired. Promoting into ``retired`` takes a version out of every place and out of what a
rollback can return to: the way to empty a place, and to free a version for deletion.

The history of production is a stack. A promotion lays the new version on top; a rollback takes
the top away and returns to the one below. So a rollback repeated goes further back, and a version
that was rolled back from is not returned to.
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
"""The actions that move a place: what a promotion's compare-and-swap looks at."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a version of a target.

    Attributes:
        id: its place among the events of all targets, from 1, in the order of their commits.
        target: the target task.
        seq: its place among the target's events, from 1, without gaps.
        at: when, in UTC; never before the target's previous event.
        actor: who asked for it, as asserted.
        action: ``registered``, ``promoted``, ``rolled-back`` or ``deleted``.
        ref: the version, in full; of a rollback the one that was returned to.
        digest: the version's identity.
        stage: where it came to stand: ``candidate`` on registration, None on deletion.
        reason: why, where somebody said so.
        forced: True where gates were overruled.
        previous: hash of the target's event before, or None for the first.
        hash: digest of all of the above but ``id``, which is the catalog's and not the target's.
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

        A clock that went back does not take history with it: the time is at least the previous one's.
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
        """Return what ``hash`` is for an event that nobody touched."""
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
        """Return the form in which history shows it."""
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
    """Where the versions of a target stand after some events.

    Attributes:
        stages: the version in each place; empty places are not in it.
        below: the versions that rollbacks of production would return to, the next one last.
        event: id of the last event that moved a place, 0 before the first.
    """

    stages: Mapping[str, Ref] = field(default_factory=dict)
    below: tuple[Ref, ...] = ()
    event: int = 0

    def after(self, event: Event) -> "Standing":
        """Return the standing that an event leads to.

        Raises:
            BrokenHistory: the event cannot have followed what is here.
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
        """Return the standing in which a version has taken a place."""
        displaced = self.stages.get(stage)
        if displaced == ref:
            return self
        stages = {**self.stages, stage: ref}
        if stage != PRODUCTION:
            return replace(self, stages=stages)
        below = [*self.below] if displaced is None else [*self.below, displaced]
        return replace(self, stages=stages, below=_unrepeated(below, ref))

    def without(self, ref: Ref) -> "Standing":
        """Return the standing in which a version is in no place, and no rollback leads to it."""
        stages = {stage: held for stage, held in self.stages.items() if held != ref}
        below = _unrepeated([held for held in self.below if held != ref], stages.get(PRODUCTION))
        return replace(self, stages=stages, below=below)

    def stages_of(self, ref: Ref) -> tuple[str, ...]:
        """Return the places that a version is in, in alphabetical order."""
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
    """Return where a target's versions stand after its events, oldest first.

    Events that moved no place (registrations) may be left out.

    Raises:
        BrokenHistory: one of them cannot have followed those before it.
    """
    standing = Standing()
    for event in events:
        standing = standing.after(event)
    return standing


def check_chain(events: Iterable[Event]) -> None:
    """Check all the events of one target, oldest first: the count, the hashes, the times, the moves.

    Raises:
        BrokenHistory: one was changed, taken out or added, or concerns a version that was not there.
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
            raise BrokenHistory(f"event {event.id} concerns {event.ref} {event.digest}, which was not there")
        standing = standing.after(event)
        if event.action == DELETED:
            # Its number stays taken, and no later event can concern it.
            there[event.ref] = None
        previous = event


def _check_link(previous: Event | None, event: Event) -> None:
    if event.hash != event.expected_hash():
        raise BrokenHistory(f"event {event.id} of {event.target} was changed: its hash does not fit")
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
        raise BrokenHistory(f"event {event.id} of {event.target} does not continue the one before it")


def check_destination(stage: str) -> str:
    """Return a stage that a version may be promoted to.

    Raises:
        InvalidName: the grammar refuses it.
        Conflict: it is ``candidate``, where versions begin and never return.
    """
    if check_stage(stage) == CANDIDATE:
        raise Conflict(
            "a version is a candidate from its registration until it is first promoted, and not again; "
            "promote it to staging, production, retired or a stage of your own"
        )
    return stage


def _unrepeated(stack: list[Ref], top: Ref | None) -> tuple[Ref, ...]:
    """Drop what would make a rollback return to the very version that it leaves."""
    kept: list[Ref] = []
    for ref in stack:
        if not kept or kept[-1] != ref:
            kept.append(ref)
    if kept and kept[-1] == top:
        kept.pop()
    return tuple(kept)
