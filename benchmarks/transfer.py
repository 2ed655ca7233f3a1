"""What a trunk is worth, by technique and number of labels: ``python -m benchmarks.transfer``.

Two controls stand beside it, trunks that learnt nothing. Print is carried over to handwriting. Techniques are taken
as they come, with a number of steps that does not depend on the number of labels; ``benchmarks.shots`` chooses
settings. Figures are kept in a folder as they come: an interrupted run goes on where it was.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import torch
from rich.console import Console
from torch.nn.functional import adaptive_avg_pool2d

from adapters.advise.verification import logits
from adapters.datasets import TEST, TRAIN, Dataset
from adapters.evaluation.raw import raw_inputs
from adapters.heads import logistic_head
from adapters.sources.bundled import GlyphSource
from adapters.sources.stages import CARRIED
from adapters.techniques import Workshop, technique
from benchmarks import machine
from benchmarks.bench import HELD_OUT, TRUNKS, Bench
from benchmarks.cells import Cell, Log
from benchmarks.lead import Lead, cost_of
from benchmarks.table import table
from registry.errors import CultivarError
from registry.manifest import Json
from registry.progress import Bars, Progress

SHOTS = (1, 5, 10, 20, 50)
BATCH = 32
STEPS, SCRATCH_STEPS = 150, 300
"""Of training from a trunk, and from nothing, which gets twice as many: a lead over it is not one in steps."""

MIDDLE, MIDDLE_BOUNDARY = "block2", 3
"""The middle one of five cut points, and how many stages are below it."""

WANTED_LEAD, AT_SHOTS = 0.04, 10
FEW = 5
"""Shots up to which a frozen head is to be ahead of full fine-tuning."""


def frozen_in_quarters(source: GlyphSource, dataset: Dataset, seed: int) -> float:
    """Return the accuracy of a head on the middle cut, averaged over quarters as the last one is.

    The like-for-like comparison of a middle cut with the last: 192 numbers each. ``layers`` averages over the
    whole picture, and so forgets where strokes are.
    """
    stages, workshop = source.load(), _workshop(seed)

    def rows(part: str) -> np.ndarray:
        carried = workshop.carry(stages, MIDDLE_BOUNDARY, dataset, dataset.index(part))
        maps = carried.batch(np.arange(len(carried)))[CARRIED]
        pooled: np.ndarray = adaptive_avg_pool2d(torch.from_numpy(np.array(maps)), 2).flatten(1).numpy()
        return pooled

    return _headed(rows(TRAIN), rows(TEST), dataset, seed)


def raw(_: GlyphSource, dataset: Dataset, seed: int) -> float:
    """Return the accuracy of logistic regression on pixels."""
    rows, held = (np.asarray(raw_inputs(dataset, dataset.index(part))) for part in (TRAIN, TEST))
    return _headed(rows, held, dataset, seed)


@dataclass(frozen=True, slots=True)
class As:
    """A technique with its settings, as it comes.

    Attributes:
        name: of the technique.
        settings: that differ from its own.
        steps: of training, where it trains.
    """

    name: str
    settings: Mapping[str, Json] = field(default_factory=dict)
    steps: int | None = None

    def __call__(self, source: GlyphSource, dataset: Dataset, seed: int) -> float:
        """Fit it to the training part and return its accuracy on the test part."""
        settings = dict(self.settings)
        if self.steps is not None:
            settings["epochs"] = math.ceil(self.steps / math.ceil(len(dataset.index(TRAIN)) / BATCH))
        fitted = technique(self.name, settings).fit(source, dataset, _workshop(seed))
        tested = dataset.index(TEST)
        answers = logits(fitted, dataset, tested, torch.device("cpu")).argmax(axis=1)
        return float((answers == dataset.targets(tested, fitted.labels)).mean())


@dataclass(frozen=True, slots=True)
class Way:
    """A trunk, ``none`` for none, and what is done with it."""

    trunk: str
    name: str

    def __str__(self) -> str:
        return self.name if self.trunk == "none" else f"{self.trunk}: {self.name}"


Fit = Callable[[GlyphSource, Dataset, int], float]
"""From a trunk, a dataset and a seed to an accuracy on the test part."""

FROZEN, QUARTERS, CHOSEN = "frozen, last cut", "frozen, middle cut in quarters", "layers"
AVERAGED = "frozen, middle cut averaged"
WITHOUT_TRAINING: Mapping[str, Fit] = {
    FROZEN: As("frozen"),
    AVERAGED: As("layers", {"cuts": [MIDDLE]}),
    QUARTERS: frozen_in_quarters,
    CHOSEN: As("layers"),
}
TRAINED: Mapping[str, Fit] = {
    "lp-ft": As("lp-ft", steps=STEPS),
    "full": As("full", steps=STEPS),
    "lora": As("lora", steps=STEPS),
}
NO_TRUNK: Mapping[str, Fit] = {"scratch": As("scratch", steps=SCRATCH_STEPS), "raw pixels": raw}
WAYS: Mapping[Way, Fit] = {
    Way(trunk, name): fit
    for trunks, fits in ((("letters",), TRAINED), (("none",), NO_TRUNK), (TRUNKS, WITHOUT_TRAINING))
    for trunk in trunks
    for name, fit in fits.items()
}

BEST = Way("letters", FROZEN)
SCRATCH, RAW = Way("none", "scratch"), Way("none", "raw pixels")
FULL, LP_FT = Way("letters", "full"), Way("letters", "lp-ft")
SHUFFLED = Way("shuffled", FROZEN)
PAIRS: Sequence[tuple[Way, Way]] = (
    (BEST, SCRATCH),
    (BEST, RAW),
    (BEST, Way("random", FROZEN)),
    (BEST, FULL),
    (BEST, LP_FT),
    (SHUFFLED, RAW),
    (Way("random", FROZEN), RAW),
    *((Way("shuffled", name), SHUFFLED) for name in (AVERAGED, QUARTERS, CHOSEN)),
)
"""What is compared, draw by draw."""


@dataclass(frozen=True, slots=True)
class Found:
    """Accuracies of every way, by number of shots, one for each draw."""

    accuracies: Mapping[Way, Mapping[int, Sequence[float]]]

    @property
    def shots(self) -> tuple[int, ...]:
        """Numbers of shots, ascending."""
        return tuple(sorted(self.accuracies[BEST]))

    def curve(self, way: Way) -> dict[int, float]:
        """Return a way's mean accuracy by number of shots."""
        return {number: fmean(each) for number, each in self.accuracies[way].items()}

    def lead(self, way: Way, other: Way, number: int) -> Lead:
        """Return by how much one way is ahead of another."""
        return Lead.of(self.accuracies[way][number], self.accuracies[other][number])

    def worth(self, number: int) -> float:
        """Return how many labels ``scratch`` needs for one that the frozen trunk needs."""
        return cost_of(self.curve(SCRATCH), self.curve(BEST)[number]) / number

    def verdicts(self) -> dict[str, bool]:
        """Return what is claimed, and whether it shows."""
        few = [number for number in self.shots if number <= FEW]
        most = self.shots[-1]
        # Twice the most shots were never measured.
        doubled = [number for number in self.shots if 2 * number <= most]

        def ahead(way: Way, other: Way, numbers: Sequence[int] = self.shots) -> bool:
            return all(self.lead(way, other, number).low > 0 for number in numbers)

        def behind(way: Way, other: Way) -> bool:
            return all(self.lead(way, other, number).value <= 0 for number in self.shots)

        middle, chosen = Way("shuffled", QUARTERS), Way("shuffled", CHOSEN)
        found = {
            f"frozen is ahead of full fine-tuning at {number} shots": ahead(BEST, FULL, [number])
            for number in few
        }
        found[f"full or lp-ft is ahead of frozen at {most} shots"] = any(
            ahead(tuned, BEST, [most]) for tuned in (FULL, LP_FT)
        )
        if AT_SHOTS in self.shots:
            lead = self.lead(BEST, SCRATCH, AT_SHOTS).value
            found[f"frozen leads scratch by four points or more at {AT_SHOTS} shots"] = lead >= WANTED_LEAD
        for number in doubled:
            words = f"{number} labels on the trunk do what {2 * number} do without"
            found[words] = self.worth(number) >= 2
        return found | {
            "letters are above raw pixels at every number of shots": ahead(BEST, RAW),
            "shuffled labels are flagged: their last cut is not above raw pixels": behind(SHUFFLED, RAW),
            "the middle cut of shuffled labels is ahead of their last, like for like": ahead(
                middle, SHUFFLED
            ),
            "layers chosen from shuffled labels are never behind their last cut": behind(SHUFFLED, chosen),
        }

    def lines(self) -> Iterator[str]:
        """Write the tables, in Markdown."""
        yield table("labels of each digit", self.shots, {str(way): self._accuracies(way) for way in WAYS})
        leads = {
            f"{way} − {other}": [self.lead(way, other, number).points() for number in self.shots]
            for way, other in PAIRS
        }
        yield table("points, paired by draw", self.shots, leads)
        most = self.shots[-1]
        worth = [(self.worth(number), number) for number in self.shots]
        shown = [
            f"{each:.1f}" if math.isfinite(each) else f"over {most / number:.1f}" for each, number in worth
        ]
        yield table("labels of each digit", self.shots, {"labels that `scratch` needs for one": shown})

    def _accuracies(self, way: Way) -> list[str]:
        return [
            f"{100 * fmean(each):.1f} ± {100 * stdev(each):.1f}"
            for each in (self.accuracies[way][number] for number in self.shots)
        ]


def measure(bench: Bench, log: Log, cells: Sequence[tuple[Way, Cell]], progress: Progress) -> list[float]:
    """Fit what is not known yet; return the accuracy of each."""
    found = []
    with progress.step("fits", len(cells)) as step:
        for way, cell in cells:
            figures = log.once(cell, way.name, partial(_fit, bench, way, cell))
            found.append(figures["accuracy"])
            step.advance(1, f"{way}, {cell.shots} shots")
    return found


def cells(shots: Sequence[int], seeds: int) -> list[tuple[Way, Cell]]:
    """Return everything that is measured, draw by draw."""
    return [
        (way, Cell("digits", way.trunk, number, seed))
        for seed in range(seeds)
        for number in shots
        for way in WAYS
    ]


def gathered(measured: Sequence[tuple[Way, Cell]], accuracies: Sequence[float]) -> Found:
    """Sort accuracies by way and number of shots; draws keep their order."""
    found: dict[Way, dict[int, list[float]]] = {}
    for (way, cell), accuracy in zip(measured, accuracies, strict=True):
        found.setdefault(way, {}).setdefault(cell.shots, []).append(accuracy)
    return Found(found)


def _fit(bench: Bench, way: Way, cell: Cell) -> dict[str, Json]:
    start = time.process_time()
    accuracy = WAYS[way](bench.source(cell), bench.dataset(cell), cell.seed)
    return {"accuracy": accuracy, "seconds": time.process_time() - start}


def _headed(rows: np.ndarray, held: np.ndarray, dataset: Dataset, seed: int) -> float:
    """Fit a logistic head to the training rows and return its accuracy on the held-out ones."""
    head = logistic_head(rows, dataset.targets(dataset.index(TRAIN)), len(dataset.labels), seed=seed)
    answers = (held @ head.weight.T + head.bias).argmax(axis=1)
    return float((answers == dataset.targets(dataset.index(TEST))).mean())


def _workshop(seed: int) -> Workshop:
    return Workshop(seed=seed, device=torch.device("cpu"))


def main() -> None:
    """Measure and print; exit 1 where a claim does not show."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shots", type=int, nargs="+", default=SHOTS, help="labels of each digit")
    parser.add_argument("--seeds", type=int, default=5, help="draws of shots, two or more")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "cultivar-transfer")
    parser.add_argument(
        "--part", type=int, nargs=2, metavar=("K", "N"), help="only the K-th of N parts, and no tables"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was seen")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    bench, log = Bench(arguments.folder), Log(arguments.folder / "transfer.jsonl")
    wanted = cells(sorted(arguments.shots), arguments.seeds)
    if arguments.part:
        part, parts = arguments.part
        wanted = wanted[part::parts]
    start = time.perf_counter()
    try:
        accuracies = measure(bench, log, wanted, Bars(Console(stderr=True)))
    except KeyboardInterrupt:
        sys.exit(130)
    except CultivarError as error:
        sys.exit(str(error))
    if arguments.part:
        return
    found = gathered(wanted, accuracies)
    print(*found.lines(), sep="\n")
    print(f"{HELD_OUT} test items, {arguments.seeds} draws; {time.perf_counter() - start:.0f} s\n")
    verdicts = found.verdicts()
    for words, holds in verdicts.items():
        print(f"{words}: {'yes' if holds else 'no'}")
    if arguments.json:
        seen = [
            {"way": str(way), "cell": asdict(cell), "accuracy": accuracy}
            for (way, cell), accuracy in zip(wanted, accuracies, strict=True)
        ]
        document = {"machine": machine.describe(), "verdicts": verdicts, "seen": seen}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    if not all(verdicts.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
