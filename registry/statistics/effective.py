"""How many independent examples say as much as examples in groups do.

Examples of one group (a patient, a writer) are alike, so that a thousand of them say less than a thousand
strangers. The design effect is the variance of a mean over what it would be with independent examples
(Kish, "Survey Sampling", 1965, 5.4, 8.2); the effective number is the number of examples divided by it. Here the
variance is that of a ratio of group totals, by linearisation. It is an estimate itself: few groups say little about
it, so that the number is reduced further by the square of the ratio of the normal's quantile to Student's (Korn and
Graubard, "Confidence intervals for proportions with small expected number of positive counts estimated from survey
data", 1998).

Its degrees of freedom are groups less one where the groups' deviations are normal, and fewer where a few groups have
them all: by O'Neill, "Some Useful Moment Results in Sampling Problems" (2014), 2 k / (kurtosis - (k - 3) / (k - 1)).
"""

import numpy as np

from registry.errors import InvalidValue
from registry.statistics.interval import LEVEL
from registry.statistics.quantiles import normal_quantile, student_quantile


def numbered(groups: np.ndarray | None, examples: int) -> np.ndarray:
    """Return groups as numbers from 0 up, int64 [N], each used.

    Args:
        groups: of each example, [N], or [N, bytes] of digests; None where each example stands alone.
        examples: how many there are, N.

    Raises:
        InvalidValue: there is another number of groups than of examples.
    """
    if groups is None:
        return np.arange(examples)
    if len(groups) != examples:
        raise InvalidValue(f"expected the group of each of {examples} examples, got {len(groups)}")
    _, numbers = np.unique(groups, axis=0, return_inverse=True)
    return numbers.reshape(-1).astype(np.int64)


def joined(groups: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the finest groups that hold whatever either grouping holds together.

    Args:
        groups: numbers, int64 [N].
        others: numbers of the same examples, int64 [N].

    Returns:
        numbers from 0 up, int64 [N], each used.
    """
    found = groups
    while True:
        # Each example takes the smallest number in its group, by either grouping, until nothing moves.
        lowest = found
        for each in (groups, others):
            least = np.full(int(each.max(initial=-1)) + 1, len(found))
            np.minimum.at(least, each, lowest)
            lowest = least[each]
        if np.array_equal(lowest, found):
            return numbered(found, len(found))
        found = lowest


def effective_number(values: np.ndarray, groups: np.ndarray, level: float = LEVEL) -> float:
    """Return how many independent examples say as much about a mean, above 0 and up to N.

    It is N where each example stands alone, and never less than if each group were a single example. Where all
    values are equal, nothing can be known of how alike a group's examples are: then it is that least number.

    Args:
        values: whose mean is estimated, [N]; 0 and 1, or -1, 0 and 1.
        groups: the number of each example's group, int64 [N], from 0 up, each used.
        level: of the interval that rests on it.
    """
    count = len(values)
    sizes = np.bincount(groups)
    kinds = len(sizes)
    if kinds == count:
        return float(count)
    largest = float((sizes**2).sum()) / count
    # One group has no variance between groups; one degree of freedom then says next to nothing, as it should.
    least = count / largest / _reduction(max(kinds - 1.0, 1.0), level)
    variance = float(values.var())
    if variance <= 0 or kinds == 1:
        return least
    deviations = np.bincount(groups, values, minlength=kinds) - values.mean() * sizes
    squares = float((deviations**2).sum())
    effect = max(1.0, squares * kinds / (kinds - 1) / (variance * count))
    return max(least, count / effect / _reduction(_freedom(deviations, squares), level))


def _freedom(deviations: np.ndarray, squares: float) -> float:
    """Return the degrees of freedom of a variance between groups, from 1 up to groups less one."""
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
