import time

import pytest

from benchmarks.raw import MIN_STEPS, Setting, measure, settings
from benchmarks.spread import Spread, quantile


def test_every_lane_works_for_the_whole_time_and_counts_its_rows() -> None:
    def step(count: int) -> int:
        time.sleep(0.02)
        return 3

    measured = measure([step, step], seconds=0.1)
    assert measured.rows % 3 == 0
    assert measured.rows_per_s <= 2 * 3 / 0.02
    assert measured.p50_ms >= 20


def test_a_lane_takes_two_steps_however_short_the_window() -> None:
    assert measure([lambda count: 1], seconds=0.0).rows == MIN_STEPS


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_lane_that_fails_leaves_no_figure() -> None:
    def step(count: int) -> int:
        raise ValueError("broken")

    with pytest.raises(RuntimeError, match="a lane failed"):
        measure([step, lambda count: 1], seconds=0.0)


def test_settings_use_all_cores_in_every_way_once() -> None:
    found = settings(2, (1, 8))
    assert len(found) == len(set(found)) == 8
    assert all(setting.lanes * setting.threads == 2 for setting in found)
    assert len(settings(1, (1,))) == 2
    assert str(Setting(2, 1, 2, False, 8)) == "2 sessions × 1 thread, 2 lanes, batch 8"


def test_a_spread_is_median_and_range() -> None:
    spread = Spread.of([3.0, 1.0, 2.0])
    assert spread == Spread(2.0, 1.0, 3.0, 3)
    assert spread.show(1) == "2.0 (1.0–3.0)"


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1)])
def test_a_quantile_is_the_least_value_that_enough_do_not_exceed(share: float, expected: int) -> None:
    assert quantile(list(range(100, 0, -1)), share) == expected
