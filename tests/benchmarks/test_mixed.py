from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from benchmarks.hostile.attack import ATTACKS, Subject
from benchmarks.hostile.delivery import Delivery
from benchmarks.hostile.record import KINDS
from benchmarks.mixed import show, strikes, verdicts
from benchmarks.openloop import Records
from tests.benchmarks.records import records

EDGES = [0.0, 100.0, 200.0, 300.0]


def seen(hostile_s: float, status: np.ndarray | None = None) -> Records:
    due = np.arange(0, 300, 0.1)
    took = np.where((due >= 100) & (due < 200), hostile_s, 0.010)
    found = records(due, took, EDGES, status=status)
    return replace(found, number=(found.number % len(KINDS)).astype(np.int32))


def test_every_attack_strikes_as_often_as_every_other_and_in_every_way() -> None:
    attacks = [kind(Subject()) for kind in ATTACKS]
    drawn = list(islice(strikes(attacks, 0), 20 * len(attacks)))
    names = [attack.name for attack, _ in drawn]
    assert all(names.count(attack.name) == 20 for attack in attacks)
    assert {delivery for _, delivery in drawn} == set(Delivery)
    assert drawn == list(islice(strikes(attacks, 0), 20 * len(attacks)))


@pytest.mark.parametrize(("hostile_s", "reached"), [(0.014, True), (0.016, False)])
def test_the_tail_is_held_against_that_of_before_and_after(hostile_s: float, reached: bool) -> None:
    found = verdicts(seen(hostile_s))
    assert [each.reached for each in found] == [reached] * len(KINDS) + [True]
    assert found[0].figure.median == pytest.approx(hostile_s / 0.010)


def test_a_lost_request_is_counted_wherever_it_was() -> None:
    status = np.full(3000, 200, np.int16)
    status[[5, 1500]] = (0, 503)
    lost = verdicts(seen(0.010, status))[-1]
    assert (lost.figure.median, lost.reached) == (2, False)
    assert "with attacks" in show(seen(0.010, status))
