"""How benchmarks compare two ways."""

import math

import pytest

from benchmarks.lead import Lead, cost_of


def test_a_lead_is_the_mean_of_paired_differences_with_students_interval() -> None:
    lead = Lead.of([0.9, 0.8, 0.7], [0.8, 0.7, 0.5])
    assert lead.value == pytest.approx(0.4 / 3)
    # t(0.975, 2) = 4.3027; the differences' standard deviation is 0.1 / sqrt(3).
    assert lead.high - lead.value == pytest.approx(4.3027 * 0.1 / 3, rel=1e-4)
    assert lead.points() == f"+13.3 ({100 * lead.low:.1f} to {100 * lead.high:.1f})"


def test_what_all_draws_share_does_not_widen_a_lead() -> None:
    lead = Lead.of([0.9, 0.5, 0.7], [0.8, 0.4, 0.6])
    assert lead.low == pytest.approx(lead.high)


def test_one_draw_bounds_nothing() -> None:
    lead = Lead.of([0.9], [0.8])
    assert math.isinf(lead.low) and math.isinf(lead.high)
    assert lead.points() == "+10.0 (one draw)"


def test_shots_between_measured_numbers_are_found_by_their_logarithm() -> None:
    curve = {1: 0.5, 4: 0.7, 16: 0.8}
    assert cost_of(curve, 0.6) == pytest.approx(2)
    assert cost_of(curve, 0.75) == pytest.approx(8)
    assert cost_of(curve, 0.8) == pytest.approx(16)


def test_what_the_fewest_shots_reach_costs_those_and_what_none_reach_has_no_price() -> None:
    curve = {5: 0.5, 10: 0.6}
    assert cost_of(curve, 0.1) == 5
    assert cost_of(curve, 0.7) == math.inf


def test_a_curve_that_dips_costs_what_it_costs_the_first_time() -> None:
    assert cost_of({1: 0.5, 2: 0.7, 4: 0.6, 8: 0.9}, 0.65) == pytest.approx(2**0.75)
