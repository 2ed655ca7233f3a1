"""The effective number of independent examples in grouped data.

Examples of one group (a patient, a writer) are correlated, so a thousand of them carry less information than
a thousand independent examples. The design effect is the ratio of the variance of a mean to its variance with
independent examples (Kish, "Survey Sampling", 1965, 5.4, 8.2). The effective number is the number of examples
divided by the design effect. The variance is that of a ratio of group totals, by linearisation. It is itself
an estimate, and uncertain with few groups. Therefore the number is further reduced by the square of the ratio
of the normal quantile to Student's (Korn and Graubard, "Confidence intervals for proportions with small
expected number of positive counts estimated from survey data", 1998).

The degrees of freedom are the number of groups minus one if the groups' deviations are normal, and fewer if a
few groups dominate: by O'Neill, "Some Useful Moment Results in Sampling Problems" (2014), 2 k / (kurtosis -
(k - 3) / (k - 1)).
"""

import numpy as np

from registry.errors import InvalidValue
from registry.statistics.interval import LEVEL
from registry.statistics.quantiles import normal_quantile, student_quantile


def numbered(groups: np.ndarray | None, examples: int) -> np.ndarray:
    """Return groups as numbers from 0 up, int64 [N], each used.

    Args:
        groups: group of each example, [N], or [N, bytes] of digests; None if there are no groups.
        examples: number of examples, N.

    Raises:
        InvalidValue: the numbers of groups and examples differ.
    """
    if groups is None:
        return np.arange(examples)
    if len(groups) != examples:
        raise InvalidValue(f"expected the group of each of {examples} examples, got {len(groups)}")
    _, numbers = np.unique(groups, axis=0, return_inverse=True)
    return numbers.reshape(-1).astype(np.int64)


def joined(groups: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the finest grouping that is coarser than both groupings.

    Args:
        groups: indices, int64 [N].
        others: indices for the same examples, int64 [N].

    Returns:
        numbers from 0 up, int64 [N], each used.
    """
    found = groups
    while True:
        # Each example takes the smallest index in its group, by either grouping, until nothing changes.
        lowest = found
        for each in (groups, others):
            least = np.full(int(each.max(initial=-1)) + 1, len(found))
            np.minimum.at(least, each, lowest)
            lowest = least[each]
        if np.array_equal(lowest, found):
            return numbered(found, len(found))
        found = lowest


def effective_number(values: np.ndarray, groups: np.ndarray, level: float = LEVEL) -> float:
    """Return the effective number of independent examples for a mean, above 0 and up to N.

    It is N without groups, and never less than with one example per group. If all values are equal, the
    correlation within groups is unknown; then it is that minimum.

    Args:
        values: the values of the mean, [N]; 0 and 1, or -1, 0 and 1.
        groups: index of each example's group, int64 [N], from 0 without gaps.
        level: confidence level of the interval that uses it.
    """
    count = len(values)
    sizes = np.bincount(groups)
    kinds = len(sizes)
    if kinds == count:
        return float(count)
    largest = float((sizes**2).sum()) / count
    # One group has no variance between groups; one degree of freedom then rightly gives a very wide interval.
    least = count / largest / _reduction(max(kinds - 1.0, 1.0), level)
    variance = float(values.var())
    if variance <= 0 or kinds == 1:
        return least
    deviations = np.bincount(groups, values, minlength=kinds) - values.mean() * sizes
    squares = float((deviations**2).sum())
    effect = max(1.0, squares * kinds / (kinds - 1) / (variance * count))
    return max(least, count / effect / _reduction(_freedom(deviations, squares), level))


def _freedom(deviations: np.ndarray, squares: float) -> float:
    """Return the degrees of freedom of a variance between groups, from 1 to the number of groups minus one."""
    kinds = len(deviations)
    most = kinds - 1.0
    if squares <= 0:
        return most
    kurtosis = kinds * float((deviations**4).sum()) / squares**2
    excess = kurtosis - (kinds - 3) / (kinds - 1)
    return most if excess <= 0 else max(1.0, min(most, 2 * kinds / excess))


def _reduction(freedom: float, level: float) -> float:
    tail = (1 + level) / 2
    return (student_quantile(tail, freedom) / normal_quantile(tail)) ** 2
