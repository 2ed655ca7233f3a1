"""Intervals hold the true value as often as they say."""

import pytest
from scipy import stats

from benchmarks.coverage import Cell, cells, exact_share, show, too_coarse


@pytest.fixture(scope="module")
def found() -> list[Cell]:
    return list(cells((100,), runs=150, resampled=4, shares=(0.5, 0.95)))


def test_intervals_cover_what_they_say(found: list[Cell]) -> None:
    counted = [each for each in found if each.interval in ("share", "difference")]
    assert len(counted) == 16
    assert all(each.reached and each.decided == each.runs for each in counted)


def test_the_table_has_a_row_for_each_setting(found: list[Cell]) -> None:
    lines = show(found).splitlines()
    assert len(lines) == 2 + 8
    assert "100, by 5, correlation 0.3, p 0.95" in lines[-3] and "not decidable" in lines[-3]


def test_exact_coverage_is_a_sum_over_counts() -> None:
    # Of 20, at least 18 right: 17 has an upper end of 94.8 %.
    assert exact_share(20, 0.95) == pytest.approx(stats.binom.sf(17, 20, 0.95), abs=1e-12)
    assert exact_share(20, 1.0) == 1
    assert too_coarse(20, 0.95) and too_coarse(20, 1.0) and not too_coarse(1000, 0.5)


def test_a_coverage_below_ninety_three_misses_its_aim() -> None:
    assert not Cell("share", 100, 1, 0.0, 0.5, 1000, 1000, 900).reached
    assert Cell("share", 100, 1, 0.0, 0.5, 1000, 1000, 950).reached
    assert Cell("auroc", 100, 1, 0.0, 0.5, 1000, 50, 0).coverage is None
