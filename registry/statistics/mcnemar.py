"""Exact paired tests of two versions on the same examples."""

from math import exp, lgamma, log

import numpy as np


def mcnemar(only: int, only_other: int) -> float:
    """Return the two-sided p-value of McNemar's exact test (1947): a binomial test on the discordant examples.

    Args:
        only: examples that only the first has right.
        only_other: examples that only the second has right.
    """
    count, fewer = only + only_other, min(only, only_other)
    if count == 0:
        return 1.0
    tail = sum(
        exp(lgamma(count + 1) - lgamma(k + 1) - lgamma(count - k + 1) - count * log(2))
        for k in range(fewer + 1)
    )
    return min(1.0, 2 * tail)


def randomisation(differences: np.ndarray) -> float:
    """Return the two-sided p-value of the exact sign-flip test over groups.

    This is Fisher's randomisation test of pairs ("The Design of Experiments", 1935, section 21) with groups
    as pairs. With one example per group it is McNemar's exact test.

    Args:
        differences: for each group, the number of examples that only the first version has right minus the
            number that only the second has right, int64 [K].

    Returns:
        the p-value; below 1e-12 it is not accurate.
    """
    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    if len(sizes) < 2:
        return mcnemar(int((differences > 0).sum()), int((differences < 0).sum()))
    observed = abs(int(differences.sum()))
    if observed == 0:
        return 1.0
    # The characteristic function of a sum of random signs is a product of cosines; invert it by Fourier
    # transform.
    length = 2 * int(sizes @ counts) + 1
    frequencies = np.arange(length // 2 + 1)
    product = np.ones(len(frequencies))
    for size, count in zip(sizes, counts, strict=True):
        product *= np.cos(2 * np.pi * (size * frequencies % length) / length) ** count
    chances = np.fft.irfft(product, length)
    return float(min(1.0, max(0.0, chances[observed : length - observed + 1].sum())))
