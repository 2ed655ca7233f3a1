"""Events, and where they leave the versions of a target."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.digests import Digest
from registry.errors import BrokenHistory, Conflict, InvalidName, InvalidValue
from registry.lifecycle import (
    DELETED,
    PROMOTED,
    REGISTERED,
    ROLLED_BACK,
    Event,
    Standing,
    check_chain,
    check_destination,
    fold,
)
from registry.names import CANDIDATE, PRODUCTION, RETIRED, STAGING, Ref

START = datetime(2026, 5, 3, 14, tzinfo=UTC)


def ref(number: int) -> Ref:
    return Ref("flowers", "imagenet-1k", number=number)


class History:
    """A target's events, appended as a catalog does."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.versions = 0
        self.clock = START

    def append(self, action: str, number: int, stage: str | None) -> Event:
        last = self.events[-1] if self.events else None
        event = Event.after(
            last,
            id=3 * len(self.events) + 1,
            at=self.clock,
            actor="ada",
            action=action,
            ref=ref(number),
            digest=Digest.of(str(number).encode()),
            stage=stage,
        )
        self.events.append(event)
        self.clock += timedelta(seconds=1)
        return event

    def register(self) -> int:
        self.versions += 1
        self.append(REGISTERED, self.versions, CANDIDATE)
        return self.versions

    def promote(self, number: int, stage: str = PRODUCTION) -> None:
        self.append(PROMOTED, number, stage)

    def rollback(self) -> None:
        back = self.standing.rollback("flowers").number
        assert back is not None
        self.append(ROLLED_BACK, back, PRODUCTION)

    @property
    def standing(self) -> Standing:
        return fold(self.events)

    @property
    def production(self) -> int | None:
        held = self.standing.stages.get(PRODUCTION)
        return None if held is None else held.number


def history(*promoted: int) -> History:
    past = History()
    for _ in range(max(promoted, default=0)):
        past.register()
    for number in promoted:
        past.promote(number)
    return past


def test_a_promotion_takes_the_place_of_the_version_before() -> None:
    past = history(1, 2)
    assert past.standing.stages == {PRODUCTION: ref(2)}
    assert past.standing.stages_of(ref(1)) == ()


def test_an_event_moves_the_place_that_it_names_and_no_other() -> None:
    past = history(1)
    past.promote(1, STAGING)
    assert past.standing.stages_of(ref(1)) == (PRODUCTION, STAGING)


def test_rollback_repeated_goes_further_back() -> None:
    past = history(1, 2, 3)
    past.rollback()
    assert past.production == 2
    past.rollback()
    assert past.production == 1
    with pytest.raises(Conflict, match="none; promote"):
        past.standing.rollback("flowers")


def test_a_version_that_was_rolled_back_from_is_not_returned_to() -> None:
    past = history(1, 2, 3)
    past.rollback()
    past.promote(4 if past.versions > 3 else past.register())
    past.rollback()
    assert past.production == 2
    assert not past.standing.needs(ref(3))


def test_a_version_may_come_again() -> None:
    past = history(1, 2, 1)
    past.rollback()
    assert past.production == 2
    past.rollback()
    assert past.production == 1


def test_retiring_empties_every_place_and_frees_the_version() -> None:
    past = history(1, 2)
    past.promote(2, STAGING)
    past.promote(2, RETIRED)
    assert past.standing.stages == {}
    assert not past.standing.needs(ref(2))
    past.rollback()
    assert past.production == 1


def test_retiring_from_the_middle_never_makes_a_rollback_stand_still() -> None:
    past = history(1, 2, 1)
    past.promote(2, RETIRED)
    assert past.production == 1
    with pytest.raises(Conflict):
        past.standing.rollback("flowers")


def test_coming_back_to_an_emptied_place_never_makes_a_rollback_stand_still() -> None:
    past = history(1, 2)
    past.promote(2, RETIRED)
    past.promote(1)
    with pytest.raises(Conflict):
        past.standing.rollback("flowers")


def test_time_does_not_go_back_with_the_clock() -> None:
    past = history(1)
    past.clock = START - timedelta(days=1)
    past.promote(1, STAGING)
    assert past.events[-1].at == past.events[-2].at


@pytest.mark.parametrize("stage", ["Production", "", "in production"])
def test_the_grammar_of_stages_holds(stage: str) -> None:
    with pytest.raises(InvalidName):
        check_destination(stage)


def test_nothing_is_promoted_to_candidate() -> None:
    with pytest.raises(Conflict, match="candidate"):
        check_destination(CANDIDATE)


def test_an_event_says_which_version_in_full() -> None:
    with pytest.raises(InvalidValue, match="source/flowers@number"):
        Event.after(
            None, id=1, at=START, actor="a", action=REGISTERED, ref=Ref("flowers"), digest=Digest.of(), stage=None
        )  # fmt: skip


# Whatever is done, in whatever order

MOVES = st.lists(
    st.tuples(
        st.sampled_from(["register", "promote", "rollback", "delete"]),
        st.integers(1, 6),
        st.sampled_from([PRODUCTION, PRODUCTION, STAGING, RETIRED, "shadow"]),
    ),
    max_size=40,
)


def play(moves: list[tuple[str, int, str]]) -> History:
    past = History()
    deleted: set[int] = set()
    for action, number, stage in moves:
        if action == "register":
            past.register()
        elif number > past.versions or number in deleted:
            continue
        elif action == "promote":
            past.promote(number, stage)
        elif action == "rollback" and past.standing.below:
            past.rollback()
        elif action == "delete" and not past.standing.needs(ref(number)):
            past.append(DELETED, number, None)
            deleted.add(number)
    return past


@given(MOVES)
def test_production_is_what_a_plain_stack_says(moves: list[tuple[str, int, str]]) -> None:
    past = play(moves)
    stack: list[int] = []
    empty = False
    for event in past.events:
        number = event.ref.number
        assert number is not None
        if event.action == PROMOTED and event.stage == PRODUCTION and (empty or stack[-1:] != [number]):
            stack, empty = [*stack, number], False
        elif event.action == PROMOTED and event.stage == RETIRED:
            empty = empty or stack[-1:] == [number]
            stack = [held for held in stack if held != number]
            unrepeated = [held for at, held in enumerate(stack) if at == 0 or stack[at - 1] != held]
            stack = unrepeated
            empty = empty or not stack
        elif event.action == ROLLED_BACK:
            stack = stack if empty else stack[:-1]
            empty = False
    assert past.production == (stack[-1] if stack and not empty else None)


@given(MOVES)
def test_no_place_ever_holds_a_deleted_version(moves: list[tuple[str, int, str]]) -> None:
    past = play(moves)
    gone = {event.ref for event in past.events if event.action == DELETED}
    standing = past.standing
    assert not gone & {*standing.stages.values(), *standing.below}


@given(MOVES, st.data())
def test_the_past_is_the_fold_of_the_events_up_to_it(
    moves: list[tuple[str, int, str]], data: st.DataObject
) -> None:
    past = play(moves)
    standing = Standing()
    for event in past.events:
        standing = standing.after(event)
        assert standing == fold(each for each in past.events if each.at <= event.at)


@given(MOVES)
def test_registrations_may_be_left_out_of_the_fold(moves: list[tuple[str, int, str]]) -> None:
    past = play(moves)
    assert fold(event for event in past.events if event.moves_stage) == past.standing


@given(MOVES)
def test_an_honest_chain_passes(moves: list[tuple[str, int, str]]) -> None:
    check_chain(play(moves).events)


CHANGES: dict[str, Any] = {
    "actor": "eve",
    "action": DELETED,
    "stage": "shadow",
    "reason": "because",
    "forced": True,
    "at": START + timedelta(days=3),
    "digest": Digest.of(b"another"),
    "ref": ref(77),
    "seq": 99,
    "previous": Digest.of(b"x"),
    "hash": Digest.of(b"y"),
}


@given(MOVES.filter(lambda moves: any(move[0] == "register" for move in moves)), st.data())
def test_a_chain_that_somebody_touched_does_not(
    moves: list[tuple[str, int, str]], data: st.DataObject
) -> None:
    events = play(moves).events
    index = data.draw(st.integers(0, len(events) - 1))
    field = data.draw(st.sampled_from(sorted(CHANGES)))
    if getattr(events[index], field) == CHANGES[field]:
        return
    events[index] = replace(events[index], **{field: CHANGES[field]})
    with pytest.raises(BrokenHistory):
        check_chain(events)


@given(MOVES.filter(lambda moves: sum(move[0] == "register" for move in moves) > 2), st.data())
def test_an_event_taken_out_is_missed(moves: list[tuple[str, int, str]], data: st.DataObject) -> None:
    events = play(moves).events
    del events[data.draw(st.integers(0, len(events) - 2))]
    with pytest.raises(BrokenHistory):
        check_chain(events)


@given(MOVES.filter(lambda moves: sum(move[0] == "register" for move in moves) > 1), st.data())
def test_a_forged_event_needs_a_forged_future(moves: list[tuple[str, int, str]], data: st.DataObject) -> None:
    events = play(moves).events
    index = data.draw(st.integers(0, len(events) - 2))
    forged = replace(events[index], actor="eve")
    events[index] = replace(forged, hash=forged.expected_hash())
    with pytest.raises(BrokenHistory):
        check_chain(events)


@pytest.mark.parametrize(
    ("action", "number", "stage"),
    [
        (REGISTERED, 1, CANDIDATE),
        (PROMOTED, 9, PRODUCTION),
        (PROMOTED, 1, CANDIDATE),
        (ROLLED_BACK, 1, PRODUCTION),
        (DELETED, 2, None),
    ],
)
def test_a_move_that_could_not_have_happened_breaks_the_chain(
    action: str, number: int, stage: str | None
) -> None:
    past = history(2)
    past.append(action, number, stage)
    with pytest.raises(BrokenHistory):
        check_chain(past.events)


def test_nothing_happens_to_a_deleted_version() -> None:
    past = history(2)
    past.append(DELETED, 1, None)
    check_chain(past.events)
    past.promote(1)
    with pytest.raises(BrokenHistory, match="did not exist"):
        check_chain(past.events)
