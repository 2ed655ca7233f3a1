"""An aim, and what came of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.spread import Spread


@dataclass(frozen=True, slots=True)
class Verdict:
    """One claim.

    Attributes:
        claim: what is aimed at, in a few words.
        figure: what was measured.
        aim: the bound on its median.
        at_least: whether the bound is a lower one; otherwise it is an upper one.
        unit: what follows the figures.
    """

    claim: str
    figure: Spread
    aim: float
    at_least: bool = True
    unit: str = ""

    @property
    def reached(self) -> bool:
        """Whether the median keeps the bound."""
        return bool(self.figure.median >= self.aim if self.at_least else self.figure.median <= self.aim)

    def __str__(self) -> str:
        word = "reached" if self.reached else "missed"
        bound = "at least" if self.at_least else "at most"
        places = 3 if abs(self.figure.median) < 10 else 1
        return f"{self.claim}: {self.figure.show(places)}{self.unit}, aim {bound} {self.aim:g}{self.unit}: {word}"

    def to_json(self) -> Mapping[str, object]:
        """Return the JSON form."""
        return {
            "claim": self.claim,
            "median": finite(self.figure.median),
            "low": finite(self.figure.low),
            "high": finite(self.figure.high),
            "repeats": self.figure.repeats,
            "aim": self.aim,
            "at_least": self.at_least,
            "unit": self.unit,
            "reached": self.reached,
        }


def finite(value: float) -> float | None:
    """Return a number as JSON knows it: none where it is infinite or not a number."""
    return float(value) if math.isfinite(value) else None


def show(verdicts: Sequence[Verdict]) -> bool:
    """Print verdicts, a line each; return whether all were reached."""
    for verdict in verdicts:
        print(verdict)
    return all(verdict.reached for verdict in verdicts)
