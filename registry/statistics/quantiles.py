"""Quantiles of the normal and of Student's t distribution."""

from functools import lru_cache
from math import exp, lgamma, log, pi, sqrt
from statistics import NormalDist

from registry.errors import InvalidValue

_NORMAL = NormalDist()
_STEPS = 200
_TINY = 1e-300
_PRECISION = 1e-13


def normal_quantile(probability: float) -> float:
    """Return the quantile of the standard normal distribution for a probability, 0 to 1 exclusive."""
    return _NORMAL.inv_cdf(probability)


def normal_probability(value: float) -> float:
    """Return the probability that a standard normal variable lies below a value."""
    return _NORMAL.cdf(value)


@lru_cache(maxsize=1024)
def student_quantile(probability: float, freedom: float) -> float:
    """Return the quantile of Student's t distribution for a probability.

    Args:
        probability: 0.5 up to 1, exclusive.
        freedom: degrees of freedom, above 0, not necessarily whole.

    Raises:
        InvalidValue: an argument is out of range.
    """
    if not 0.5 <= probability < 1 or freedom <= 0:
        raise InvalidValue(
            f"expected a probability from 0.5 up to 1 and degrees of freedom above 0, got {probability}, {freedom}"
        )
    scale = exp(lgamma((freedom + 1) / 2) - lgamma(freedom / 2)) / sqrt(freedom * pi)
    # The distribution function is concave above 0, so Newton steps from below never overshoot.
    value = normal_quantile(probability)
    for _ in range(_STEPS):
        density = scale * (1 + value * value / freedom) ** (-(freedom + 1) / 2)
        step = (probability - _student_probability(value, freedom)) / density
        value += step
        if step <= _PRECISION * value:
            break
    return value


def _student_probability(value: float, freedom: float) -> float:
    """Return the probability that Student's t lies below a value of at least 0."""
    # Compute the smaller of the two complements to avoid cancellation.
    squared = value * value
    if squared < freedom:
        return 0.5 + 0.5 * _incomplete_beta(0.5, freedom / 2, squared / (freedom + squared))
    return 1 - 0.5 * _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + squared))


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Return the regularised incomplete beta function, by its continued fraction.

    Abramowitz and Stegun, "Handbook of Mathematical Functions" (1964), 26.5.8, evaluated by Lentz's method.
    """
    if x <= 0:
        return 0.0
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log(1 - x)) / a
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, _STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d, c = 1 / _away(1 + term * d), _away(1 + term / c)
            fraction *= c * d
        if abs(c * d - 1) < _PRECISION:
            break
    return front * fraction


def _away(value: float) -> float:
    """Return a value that is not too close to 0 to divide by."""
    return value if abs(value) > _TINY else _TINY
