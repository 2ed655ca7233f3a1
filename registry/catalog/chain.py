"""Targets and their chains of events. Every function runs in the caller's transaction."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from registry.catalog.schema import counters, events, targets
from registry.digests import Digest
from registry.errors import StaleExpectation
from registry.lifecycle import STAGE_ACTIONS, Event, Standing, fold
from registry.names import Ref, Transfer

EVENT_COUNT = sa.select(counters.c.value).where(counters.c.name == "events")
"""Selects the id of the last event of all."""

STAGE_COUNT = sa.select(counters.c.value).where(counters.c.name == "stages")
"""Selects the id of the last event that moved a stage."""


def lock(connection: sa.Connection, target: str) -> None:
    """Lock a target's chain against other writers until the transaction ends."""
    connection.execute(sa.select(targets.c.name).where(targets.c.name == target).with_for_update()).all()


def expected(connection: sa.Connection, target: str, expect: int) -> Standing:
    """Lock a target and check that its stages did not move.

    Raises:
        StaleExpectation: the stages moved.
    """
    lock(connection, target)
    standing = standing_of(connection, target)
    if standing.event != expect:
        raise StaleExpectation(
            f"expected the last stage event of {target} to be {expect or 'none'}, it is {standing.event or 'none'}: "
            "somebody else moved it; look again, then repeat"
        )
    return standing


def standing_of(connection: sa.Connection, target: str) -> Standing:
    """Return the standing of a target's versions, from its stage events."""
    moves = (
        sa.select(events)
        .where(events.c.target == target, events.c.action.in_(STAGE_ACTIONS))
        .order_by(events.c.seq)
    )
    return fold(event_of(row) for row in connection.execute(moves))


def append(
    connection: sa.Connection,
    actor: str,
    at: datetime,
    action: str,
    ref: Ref,
    digest: Digest,
    stage: str | None,
    reason: str | None = None,
    forced: bool = False,
) -> Event:
    """Append an event to the chain of its locked target, and store the new end of the chain."""
    last = connection.execute(
        sa.select(events).where(events.c.target == ref.target).order_by(events.c.seq.desc()).limit(1)
    ).one_or_none()
    counter = counters.update().where(counters.c.name == "events").values(value=counters.c.value + 1)
    event = Event.after(
        None if last is None else event_of(last),
        id=int(connection.execute(counter.returning(counters.c.value)).scalar_one()),
        at=at,
        actor=actor,
        action=action,
        ref=ref,
        digest=digest,
        stage=stage,
        reason=reason,
        forced=forced,
    )
    connection.execute(
        events.insert().values(
            id=event.id,
            target=event.target,
            seq=event.seq,
            at=event.at,
            actor=event.actor,
            action=event.action,
            source=event.ref.source,
            number=event.ref.number,
            digest=event.digest,
            stage=event.stage,
            reason=event.reason,
            forced=event.forced,
            previous=event.previous,
            hash=event.hash,
        )
    )
    end: dict[str, object] = {"seq": event.seq, "hash": event.hash}
    if event.moves_stage:
        end["stage_event"] = event.id
        moved = counters.update().where(counters.c.name == "stages").values(value=event.id)
        connection.execute(moved)
    connection.execute(targets.update().where(targets.c.name == ref.target).values(**end))
    return event


def event_of(row: sa.Row[Any]) -> Event:
    """Return the event that a row of ``events`` holds."""
    return Event(
        id=row.id,
        target=row.target,
        seq=row.seq,
        at=row.at,
        actor=row.actor,
        action=row.action,
        ref=Ref.of(Transfer(row.source, row.target), row.number),
        digest=Digest(row.digest),
        stage=row.stage,
        reason=row.reason,
        forced=row.forced,
        previous=row.previous and Digest(row.previous),
        hash=Digest(row.hash),
    )
