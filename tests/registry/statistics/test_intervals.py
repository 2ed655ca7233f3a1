"""Intervals of shares and of paired differences, beside statsmodels and published figures."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import optimize, stats
from statsmodels.stats.proportion import proportion_confint

from registry.errors import InvalidValue
from registry.statistics import Interval, difference, difference_of_counts, effective_number, numbered, share
from registry.statistics.difference import score, tango
from registry.statistics.effective import joined
from registry.statistics.quantiles import student_quantile
from registry.statistics.share import wilson


@pytest.mark.parametrize(
    ("right", "count"), [(18, 18), (0, 5), (1, 1), (17, 20), (500, 1000), (9_999, 10_000)]
)
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_a_share_has_wilsons_interval(right: int, count: int, level: float) -> None:
    found = share(np.arange(count) < right, level=level)
    low, high = proportion_confint(right, count, 1 - level, method="wilson")
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
    assert (found.method, found.examples, found.groups, found.effective) == ("wilson", count, count, count)


def test_eighteen_of_eighteen_is_not_all() -> None:
    found = share(np.ones(18, bool))
    assert found.value == found.high == 1
    assert found.low == pytest.approx(0.8241, abs=1e-4)


@pytest.mark.parametrize(
    ("only", "other", "count", "low", "high"),
    [
        # Fagerland, Lydersen and Laake, "Recommended tests and confidence intervals for paired binomial
        # proportions" (2014): airway hyper-responsiveness, -0.517 to -0.026.
        (1, 7, 21, -0.5172, -0.0260),
        # No disagreement at all: z² / (n + z²) on either side.
        (0, 0, 20, -0.16112, 0.16112),
        (0, 0, 200, -0.018846, 0.018846),
        (0, 0, 1, -0.79346, 0.79346),
    ],
)
def test_a_paired_difference_has_tangos_interval(
    only: int, other: int, count: int, low: float, high: float
) -> None:
    found = difference_of_counts(only, other, count)
    assert (found.low, found.high) == pytest.approx((low, high), abs=2e-4)
    turned = difference_of_counts(other, only, count)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), abs=1e-12)


def _likelihood_score(only: int, other: int, count: int, supposed: float) -> float:
    """Tango's statistic with the nuisance share found by maximising the likelihood, not by the formula."""

    def loss(q: float) -> float:
        cells = np.array([q + supposed, q, 1 - 2 * q - supposed])
        return -float(np.array([only, other, count - only - other]) @ np.log(np.maximum(cells, 1e-300)))

    q = optimize.minimize_scalar(
        loss, bounds=(max(0, -supposed), (1 - supposed) / 2), method="bounded", options={"xatol": 1e-12}
    ).x
    return float((only - other - count * supposed) / np.sqrt(count * (2 * q + supposed * (1 - supposed))))


@pytest.mark.parametrize(("only", "other", "count"), [(5, 2, 40), (12, 30, 300), (3, 3, 12), (20, 1, 25)])
def test_the_score_rests_on_the_likeliest_nuisance(only: int, other: int, count: int) -> None:
    for supposed in (-0.3, -0.02, 0.1, 0.25):
        found = score(only / count, other / count, count, supposed)
        assert found == pytest.approx(_likelihood_score(only, other, count, supposed), rel=1e-4)
    low, high = tango(only / count, other / count, count)
    z = stats.norm.ppf(0.975)
    assert score(only / count, other / count, count, low) == pytest.approx(z, abs=1e-6)
    assert score(only / count, other / count, count, high) == pytest.approx(-z, abs=1e-6)


@pytest.mark.parametrize(
    ("only", "other", "count"), [(4, 0, 4), (0, 7, 7), (1, 0, 1), (50, 50, 100), (0, 1, 10_000)]
)
def test_ends_stay_between_one_and_minus_one_and_around_the_difference(
    only: int, other: int, count: int
) -> None:
    found = difference_of_counts(only, other, count)
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high


def test_a_difference_is_paired() -> None:
    right = np.arange(100) < 80
    same = difference(right, right)
    apart = difference(right, right[::-1])
    assert same.value == apart.value == 0
    assert same.high < apart.high


def test_groups_widen_an_interval_by_how_alike_their_examples_are() -> None:
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 5)
    alike = np.repeat(random.random(60) < 0.8, 5)
    apart = random.random(300) < 0.8
    found = share(alike, groups)
    assert found.effective == pytest.approx(60, rel=0.1) and found.groups == 60 and found.examples == 300
    assert share(apart, groups).effective > 200
    lone = share(alike)
    assert found.high - found.low > 2 * (lone.high - lone.low)
    assert difference(alike, ~alike, groups).effective == pytest.approx(60, rel=0.1)


def test_groups_of_one_change_nothing() -> None:
    right = np.arange(30) % 4 > 0
    assert share(right, np.random.default_rng(0).permutation(30)) == share(right)


def test_one_pair_among_many_changes_hardly_anything() -> None:
    right = np.arange(200) > 0
    groups = np.minimum(np.arange(200), 198)
    assert share(right, groups).effective == pytest.approx(200, rel=0.03)


def test_where_all_are_right_a_group_counts_as_one_example() -> None:
    found = share(np.ones(100, bool), np.repeat(np.arange(20), 5))
    assert found.effective == pytest.approx(20 * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, 19)) ** 2)
    same = difference(np.ones(100, bool), np.ones(100, bool), np.repeat(np.arange(20), 5))
    assert same.effective == found.effective


def test_one_group_alone_says_next_to_nothing() -> None:
    found = share(np.ones(50, bool), np.zeros(50, np.int64))
    assert found.effective < 0.1 and found.low < 0.01 and found.high == 1


def test_the_design_effect_is_the_ratio_of_the_variances() -> None:
    random = np.random.default_rng(1)
    sizes = random.integers(1, 9, 400)
    groups = np.repeat(np.arange(400), sizes)
    values = (random.random(len(groups)) < np.repeat(random.beta(2, 1, 400), sizes)).astype(np.float64)
    totals, counts = np.bincount(groups, values), np.bincount(groups)
    draws = random.integers(0, 400, (4000, 400))
    resampled = totals[draws].sum(axis=1) / counts[draws].sum(axis=1)
    effect = resampled.var() / (values.var() / len(values))
    assert effective_number(values, groups) == pytest.approx(len(values) / effect, rel=0.1)


def test_groups_are_known_by_number_name_or_digest() -> None:
    assert numbered(np.array(["b", "a", "b"]), 3).tolist() == [1, 0, 1]
    assert numbered(np.array([[1, 2], [1, 3], [1, 2]], np.uint8), 3).tolist() == [0, 1, 0]
    assert numbered(None, 2).tolist() == [0, 1]
    with pytest.raises(InvalidValue, match="group of each of 4"):
        numbered(np.zeros(3), 4)


def test_two_groupings_hold_together_what_either_does() -> None:
    ours, theirs = np.array([0, 0, 1, 2, 3, 4]), np.array([0, 1, 1, 2, 3, 3])
    assert joined(ours, theirs).tolist() == [0, 0, 0, 1, 2, 2]
    assert joined(ours, ours).tolist() == ours.tolist()
    chain = np.arange(40)
    assert not joined(chain // 2, (chain + 1) // 2).any()


@pytest.mark.parametrize("freedom", [1, 1.5, 2, 3.7, 9, 30, 400, 1e6])
@pytest.mark.parametrize("probability", [0.5, 0.7, 0.9, 0.975, 0.999])
def test_students_quantiles_are_scipys(probability: float, freedom: float) -> None:
    expected = stats.t.ppf(probability, freedom)
    assert student_quantile(probability, freedom) == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_quantiles_are_of_the_upper_half() -> None:
    with pytest.raises(InvalidValue, match=r"0\.5"):
        student_quantile(0.3, 4)
    with pytest.raises(InvalidValue, match="freedom"):
        student_quantile(0.9, 0)


def test_an_interval_that_is_not_decidable_has_no_ends() -> None:
    found = Interval(0.9, None, "bca", 8, 8, 8.0, "there are 8 groups")
    assert not found.decidable and found.holds(0.1)
    for end in ("low", "high"):
        with pytest.raises(InvalidValue, match="not decidable: there are 8 groups"):
            getattr(found, end)


@pytest.mark.parametrize(
    "made",
    [
        lambda: Interval(0.5, (0.6, 0.7), "wilson", 9, 9, 9.0),
        lambda: Interval(0.5, (0.4, float("nan")), "wilson", 9, 9, 9.0),
        lambda: Interval(0.5, None, "wilson", 9, 9, 9.0),
        lambda: Interval(0.5, (0.4, 0.6), "wilson", 9, 9, 9.0, "why"),
        lambda: Interval(0.5, (0.4, 0.6), "wilson", 9, 10, 9.0),
        lambda: Interval(0.5, (0.4, 0.6), "wilson", 9, 9, 9.5),
        lambda: Interval(0.5, (0.4, 0.6), "", 9, 9, 9.0),
        lambda: Interval(float("inf"), (0.4, 0.6), "wilson", 9, 9, 9.0),
        lambda: Interval(0.5, (0.4, 0.6), "wilson", 9, 9, 9.0, level=1.0),
    ],
)
def test_an_interval_checks_itself(made: Callable[[], Interval]) -> None:
    with pytest.raises(InvalidValue, match="interval"):
        made()


@pytest.mark.parametrize(
    "interval",
    [share(np.arange(20) > 2), Interval(0.9, None, "bca", 8, 8, 8.0, "there are 8 groups")],
)
def test_an_interval_is_read_back_from_json(interval: Interval) -> None:
    assert Interval.from_json(interval.to_json()) == interval


@pytest.mark.parametrize(
    "change", [{"low": None}, {"examples": 2.0}, {"method": 3}, {"more": 1}, {"value": True}, {"low": "0"}]
)
def test_other_json_is_no_interval(change: dict[str, object]) -> None:
    given = share(np.arange(20) > 2).to_json() | change
    with pytest.raises(InvalidValue):
        Interval.from_json(given)
    with pytest.raises(InvalidValue, match="expected an interval"):
        Interval.from_json([1])
    del given["low"]
    with pytest.raises(InvalidValue):
        Interval.from_json(given)


def test_nothing_has_no_share() -> None:
    with pytest.raises(InvalidValue, match="at least one"):
        share(np.zeros(0, bool))
    with pytest.raises(InvalidValue, match="at least one"):
        difference(np.zeros(0, bool), np.zeros(0, bool))
    with pytest.raises(InvalidValue, match="two predictions"):
        difference(np.zeros(2, bool), np.zeros(3, bool))


def test_rounding_never_puts_an_end_on_the_wrong_side() -> None:
    for count in range(1, 200):
        for value in (0.0, 1.0, 1 / count):
            low, high = wilson(value, count)
            assert 0 <= low <= value <= high <= 1
