"""Tests between two versions, beside scipy's and statsmodels'."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as reference

from registry.statistics import mcnemar, randomisation


@pytest.mark.parametrize(("only", "other"), [(0, 0), (5, 5), (0, 5), (1, 9), (40, 61), (3, 0)])
def test_mcnemars_exact_test_is_a_binomial_one(only: int, other: int) -> None:
    expected = reference([[7, only], [other, 9]], exact=True).pvalue if only + other else 1.0
    assert mcnemar(only, other) == pytest.approx(expected)
    assert mcnemar(other, only) == pytest.approx(expected)
    if only + other:
        assert mcnemar(only, other) == pytest.approx(stats.binomtest(only, only + other).pvalue)


def test_large_counts_do_not_overflow() -> None:
    assert mcnemar(40_000, 40_000) == pytest.approx(1.0)
    assert mcnemar(30_000, 50_000) == 0.0


def test_randomisation_of_single_examples_is_mcnemars_test() -> None:
    differences = np.array([1] * 9 + [-1] + [0] * 30)
    assert randomisation(differences) == mcnemar(9, 1)


@pytest.mark.parametrize(
    "differences", [[3, 1, -1, 2, 0, 4], [-2, 5, 1, 1, 1, 0, -3, 2], [1, 2, 3, 4, 5, 6, 7, 8, 9], [2, -1, -1]]
)
def test_randomisation_over_groups_is_exact(differences: list[int]) -> None:
    found = np.array(differences)
    expected = stats.permutation_test(
        (found,), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    ).pvalue
    assert randomisation(found) == pytest.approx(expected, abs=1e-12)
    assert randomisation(-found) == pytest.approx(expected, abs=1e-12)


def test_groups_that_agree_with_themselves_are_less_surprising() -> None:
    examples = np.array([1] * 20)
    assert randomisation(np.array([10, 9, 1])) > 0.2 > randomisation(examples)


def test_many_groups_are_no_burden() -> None:
    differences = np.random.default_rng(0).integers(-3, 4, 100_000)
    assert 0 <= randomisation(differences) <= 1
