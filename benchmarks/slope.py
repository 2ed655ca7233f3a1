"""Whether something grows: a straight line through a series whose neighbours resemble each other."""

from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True, slots=True)
class Slope:
    """The slope of a least-squares line, and where it would lie, at a level of 95 %.

    The interval stands on standard errors that are robust to autocorrelation: Newey and West (1987), with
    Bartlett's kernel and the bandwidth that Andrews (1991) derives from a first-order autoregression. It is
    as wide as that bandwidth's share of the series asks for: Kiefer and Vogelsang (2005), table 1.

    Attributes:
        value: change of the series for one unit of time.
        low: the interval's lower end.
        high: its upper end.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, times: np.ndarray, values: np.ndarray) -> Self:
        """Fit a line.

        Args:
            times: float64 [N], rising; evenly spaced, or nearly so; N is 8 or more.
            values: float64 [N].

        Raises:
            ValueError: there are too few.
        """
        count = len(times)
        if count < 8:
            raise ValueError(f"a slope takes 8 values or more, got {count}")
        centred = np.asarray(times, float) - np.mean(times)
        spread = float(centred @ centred)
        value = float(centred @ values) / spread
        # Of a series that does not move at all, every residual is rounding.
        residuals = values - np.mean(values) - value * centred
        scores = centred * residuals
        variance = float(scores @ scores)
        lags = bandwidth(scores)
        for lag in range(1, lags + 1):
            weight = 1 - lag / (lags + 1)
            variance += 2 * weight * float(scores[lag:] @ scores[:-lag])
        error = float(np.sqrt(max(variance, 0.0) * count / (count - 2))) / spread
        half = _quantile(lags / count) * error
        return cls(value, value - half, value + half)

    def per(self, units: float) -> Self:
        """Return the same for another unit of time, so many times as long."""
        return type(self)(self.value * units, self.low * units, self.high * units)

    def show(self, places: int = 2) -> str:
        """Return ``+1.20 (-0.30 to +2.70)``."""
        return f"{self.value:+.{places}f} ({self.low:+.{places}f} to {self.high:+.{places}f})"


def bandwidth(series: np.ndarray) -> int:
    """Return how many lags matter, by Andrews's rule for Bartlett's kernel; at most half the series."""
    count = len(series)
    centred = series - series.mean()
    power = float(centred[:-1] @ centred[:-1])
    correlation = min(0.97, abs(float(centred[1:] @ centred[:-1]) / power)) if power else 0.0
    alpha = 4 * correlation**2 / (1 - correlation**2) ** 2
    return min(count // 2, int(np.ceil(1.1447 * (alpha * count) ** (1 / 3))))


def _quantile(share: float) -> float:
    """Return the 97.5 % quantile of a slope's t statistic where the bandwidth has a share of the series."""
    return 1.96 + 2.9694 * share + 0.416 * share**2 - 0.5324 * share**3
