"""Accuracies by number of shots, of several ways to get them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Generic, Self, TypeVar

from benchmarks.cells import Cell
from benchmarks.lead import Lead, cost_of

W = TypeVar("W")


@dataclass(frozen=True, slots=True)
class Curves(Generic[W]):
    """Accuracies of every way, by number of shots, one for each draw; a way may have fewer of either."""

    accuracies: Mapping[W, Mapping[int, Sequence[float]]]

    @classmethod
    def gathered(cls, measured: Sequence[tuple[W, Cell]], accuracies: Sequence[float]) -> Self:
        """Sort accuracies by way and number of shots; draws keep their order."""
        found: dict[W, dict[int, list[float]]] = {}
        for (way, cell), accuracy in zip(measured, accuracies, strict=True):
            found.setdefault(way, {}).setdefault(cell.shots, []).append(accuracy)
        return cls(found)

    @property
    def shots(self) -> tuple[int, ...]:
        """Numbers of shots, ascending."""
        return tuple(sorted({number for curve in self.accuracies.values() for number in curve}))

    def lead(self, way: W, other: W, number: int, others: int | None = None) -> Lead:
        """Return by how much one way is ahead of another, on the draws that both have.

        Args:
            way: the one.
            other: the other.
            number: of shots.
            others: of the other's shots, where it is another.
        """
        ours, theirs = self.accuracies[way][number], self.accuracies[other][others or number]
        both = min(len(ours), len(theirs))
        return Lead.of(ours[:both], theirs[:both])

    def worth(self, way: W, other: W, number: int) -> float:
        """Return how many labels another way needs for one that a way needs with so many."""
        curve = {each: fmean(seen) for each, seen in self.accuracies[other].items()}
        return cost_of(curve, fmean(self.accuracies[way][number])) / number

    def scores(self, way: W) -> list[str]:
        """Return mean and standard deviation in percent, for each number of shots; empty where there is none."""
        return [_score(self.accuracies[way].get(number, ())) for number in self.shots]

    def leads(self, way: W, other: W) -> list[str]:
        """Return leads in points, for each number of shots; empty where a way has no figure."""
        return [
            self.lead(way, other, number).points()
            if number in self.accuracies[way] and number in self.accuracies[other]
            else ""
            for number in self.shots
        ]

    def worths(self, way: W, other: W) -> list[str]:
        """Return ``worth`` for each number of shots."""
        most = self.shots[-1]
        worths = ((self.worth(way, other, number), number) for number in self.shots)
        return [
            f"{worth:.1f}" if math.isfinite(worth) else f"over {most / number:.1f}"
            for worth, number in worths
        ]


def _score(seen: Sequence[float]) -> str:
    spread = f" ± {100 * stdev(seen):.1f}" if len(seen) > 1 else ""
    return f"{100 * fmean(seen):.1f}{spread}" if seen else ""
