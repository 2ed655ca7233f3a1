import math

import numpy as np

from benchmarks.overload import recovery
from benchmarks.spread import Spread
from benchmarks.verdict import Verdict
from tests.benchmarks.records import records

EDGES = [0.0, 5.0, 10.0, 15.0]
DUE = np.arange(0, 15, 0.01)


def test_a_server_that_is_itself_again_at_once_takes_no_time() -> None:
    assert recovery(records(DUE, np.full(len(DUE), 0.02), EDGES), 2) == 0


def test_late_answers_after_an_overload_are_no_recovery() -> None:
    took = np.where((DUE >= 5) & (DUE < 11.4), 1.0, 0.02)
    assert recovery(records(DUE, took, EDGES), 2) == 1.5


def test_one_refusal_begins_the_count_anew() -> None:
    status = np.full(len(DUE), 200, np.int16)
    status[np.argmin(abs(DUE - 10.6))] = 503
    assert recovery(records(DUE, np.full(len(DUE), 0.02), EDGES, status=status), 2) == 0.75


def test_a_server_that_never_recovers_takes_for_ever() -> None:
    took = np.where(DUE >= 5, 1.0, 0.02)
    assert recovery(records(DUE, took, EDGES), 2) == math.inf


def test_a_verdict_is_by_the_median_and_by_its_side_of_the_bound() -> None:
    spread = Spread.of([0.9, 1.0, 1.4])
    assert Verdict("more", spread, 1.0).reached
    assert not Verdict("more", spread, 1.1).reached
    assert Verdict("less", spread, 1.0, at_least=False).reached
    assert str(Verdict("less", spread, 0.5, at_least=False, unit=" s")).endswith("aim at most 0.5 s: missed")
    assert Verdict("never", Spread.of([math.inf]), 1.0, at_least=False).to_json()["median"] is None
