from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.capacity import Capacity
from benchmarks.prepared import DISTINCT
from benchmarks.promotions import Material, Reign, Trial, judge
from tests.benchmarks.records import records

EDGES = [0.0, 5.0, 10.0, 15.0, 18.0]
DUE = np.arange(0, 18, 0.01)
FIRST, SECOND, DAMAGED, LABEL, OTHER = range(5)
NAMES = ("a/moving@1", "a/moving@2", "a/moving@3", "circle", "square")
MATERIAL = Material(
    Path(),
    NAMES[:2],
    NAMES[2],
    {},
    {(ref, number): "circle" for ref in NAMES[:2] for number in range(DISTINCT)},
)
TOOK = np.full(len(DUE), 0.03)


REIGNS = (Reign(NAMES[FIRST], 0.0), Reign(NAMES[SECOND], 6.0, moved=6.01))


def judged(
    ref: np.ndarray,
    label: np.ndarray | None = None,
    took: np.ndarray = TOOK,
    reigns: Sequence[Reign] = REIGNS,
) -> Trial:
    """Judge a run; unless told otherwise the second version was promoted at 6 s."""
    label = np.full(len(DUE), LABEL) if label is None else label
    seen = records(DUE, took, EDGES, ref=ref.astype(np.int16), label=label.astype(np.int16), names=NAMES)
    return judge(seen, reigns, MATERIAL, workers=1, capacity=Capacity(200, 100))


def test_answers_of_whom_production_was_are_right() -> None:
    trial = judged(np.where(DUE < 6.02, FIRST, SECOND))
    assert (trial.failed, trial.wrong_version, trial.wrong_label, trial.damaged) == (0, 0, 0, 0)
    assert trial.answers == len(DUE)
    assert 30 <= trial.reached_ms[0] <= 51


def test_the_old_version_may_not_answer_what_was_sent_after_the_new_one_was_seen() -> None:
    ref = np.where(DUE < 6.02, FIRST, SECOND)
    ref[np.argmin(abs(DUE - 7))] = FIRST
    assert judged(ref).wrong_version == 1


def test_the_new_version_may_not_answer_before_it_was_promoted() -> None:
    ref = np.where(DUE < 6.02, FIRST, SECOND)
    ref[np.argmin(abs(DUE - 5))] = SECOND
    assert judged(ref).wrong_version == 1


def test_a_version_that_the_server_passed_over_is_neither_wrong_nor_reached() -> None:
    reigns = [*REIGNS, Reign(NAMES[FIRST], 6.5, moved=6.51), Reign(NAMES[SECOND], 7.5, moved=7.51)]
    trial = judged(np.where(DUE < 7.6, FIRST, SECOND), reigns=reigns)
    assert trial.wrong_version == 0
    assert len(trial.reached_ms) == 2


def test_the_server_may_not_go_back_to_a_version_that_it_left() -> None:
    reigns = [*REIGNS, Reign(NAMES[FIRST], 8.0, moved=8.01)]
    ref = np.where((DUE < 6.02) | (DUE > 8.05), FIRST, SECOND)
    assert judged(ref, reigns=reigns).wrong_version == 0
    ref[np.argmin(abs(DUE - 7))] = FIRST
    ref[np.argmin(abs(DUE - 9))] = SECOND
    assert judged(ref, reigns=reigns).wrong_version == 2


def test_answers_of_the_damaged_version_and_wrong_labels_are_counted() -> None:
    ref = np.where(DUE < 6.02, FIRST, SECOND)
    ref[-1] = DAMAGED
    label = np.full(len(DUE), LABEL)
    label[:3] = OTHER
    trial = judged(ref, label)
    assert trial.damaged == 1
    assert trial.wrong_label == 3 + 1


def test_the_tail_while_versions_move_is_beside_that_before_and_after() -> None:
    moving = (DUE >= 5) & (DUE < 10)
    trial = judged(np.where(DUE < 6.02, FIRST, SECOND), took=np.where(moving, 0.06, 0.03))
    assert abs(trial.moving_p99_ms / trial.steady_p99_ms - 2) < 1e-6
