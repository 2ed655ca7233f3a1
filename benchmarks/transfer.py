"""What a trunk is worth, by technique and number of labels: ``python -m benchmarks.transfer``.

Latin print is carried over to handwritten digits, beside two controls, trunks that learnt nothing; and to Cyrillic,
where no way is near the end of what can be right. Techniques are taken as they come, with a number of steps that does
not depend on the number of labels; ``benchmarks.shots`` chooses settings. Figures are kept in a folder as they come:
an interrupted run goes on where it was.
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

import numpy as np
import torch
from rich.console import Console
from torch.nn.functional import adaptive_avg_pool2d

from adapters.advise.trial import logits
from adapters.datasets import TEST, TRAIN, Dataset
from adapters.evaluation.raw import raw_inputs
from adapters.heads import logistic_head
from adapters.sources.bundled import GlyphSource
from adapters.sources.stages import CARRIED
from adapters.techniques import Context, technique
from benchmarks import code, machine
from benchmarks.bench import TRUNKS, Bench
from benchmarks.cells import Cell, Log
from benchmarks.curves import Curves
from benchmarks.cyrillic import Cyrillic
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
    stages, context = source.load(), _workshop(seed)

    def rows(part: str) -> np.ndarray:
        carried = context.carry(stages, MIDDLE_BOUNDARY, dataset, dataset.index(part))
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

BEST = Way("letters", FROZEN)
SCRATCH, RAW = Way("none", "scratch"), Way("none", "raw pixels")
FULL, LP_FT = Way("letters", "full"), Way("letters", "lp-ft")
SHUFFLED = Way("shuffled", FROZEN)


class Found(Curves[Way]):
    """What was found of every way."""

    __slots__ = ()

    def ahead(self, way: Way, other: Way, numbers: Sequence[int] | None = None) -> bool:
        """Say whether one way is ahead of another at some numbers of shots, or at all: the whole interval is."""
        return all(self.lead(way, other, number).low > 0 for number in numbers or self.shots)

    def crossing(self) -> dict[str, bool]:
        """Return whether the frozen trunk is ahead of fine-tuning with few shots, and behind it with the most."""
        most = self.shots[-1]
        found = {
            f"frozen is ahead of full fine-tuning at {number} shots": self.ahead(BEST, FULL, [number])
            for number in self.shots
            if number <= FEW
        }
        words = f"full or lp-ft is ahead of frozen at {most} shots"
        return found | {words: any(self.ahead(tuned, BEST, [most]) for tuned in (FULL, LP_FT))}


def of_digits(found: Found) -> dict[str, bool]:
    """Return what is claimed of digits, and whether it shows."""
    most = found.shots[-1]
    # Twice the most shots were never measured.
    doubled = [number for number in found.shots if 2 * number <= most]

    def behind(way: Way, other: Way) -> bool:
        return all(found.lead(way, other, number).value <= 0 for number in found.shots)

    middle, chosen = Way("shuffled", QUARTERS), Way("shuffled", CHOSEN)
    claims = found.crossing()
    if AT_SHOTS in found.shots:
        lead = found.lead(BEST, SCRATCH, AT_SHOTS).value
        claims[f"frozen leads scratch by four points or more at {AT_SHOTS} shots"] = lead >= WANTED_LEAD
    for number in doubled:
        claims[f"{number} labels on the trunk do what {2 * number} do without"] = (
            found.worth(BEST, SCRATCH, number) >= 2
        )
    return claims | {
        "letters are above raw pixels at every number of shots": found.ahead(BEST, RAW),
        "shuffled labels are flagged: their last cut is not above raw pixels": behind(SHUFFLED, RAW),
        "the middle cut of shuffled labels is ahead of their last, like for like": found.ahead(
            middle, SHUFFLED
        ),
        "layers chosen from shuffled labels are never behind their last cut": behind(SHUFFLED, chosen),
    }


def of_cyrillic(found: Found) -> dict[str, bool]:
    """Return what is claimed of Cyrillic, and whether it shows."""
    return found.crossing() | {
        "letters are above raw pixels at every number of shots": found.ahead(BEST, RAW),
        "frozen is ahead of scratch at every number of shots": found.ahead(BEST, SCRATCH),
    }


@dataclass(frozen=True, slots=True)
class Study:
    """A task, and what is done with it.

    Attributes:
        task: its name.
        label: what one of its labels is called.
        draws: of shots.
        ways: what is measured.
        pairs: what is compared, draw by draw.
        claims: from figures to what is claimed, and whether it shows.
        bench: from a folder to data and trunks.
    """

    task: str
    label: str
    draws: int
    ways: Mapping[Way, Fit]
    pairs: Sequence[tuple[Way, Way]]
    claims: Callable[[Found], dict[str, bool]]
    bench: Callable[[Path], Bench | Cyrillic]

    def cells(self, shots: Sequence[int], draws: int) -> list[tuple[Way, Cell]]:
        """Return everything that is measured, draw by draw."""
        return [
            (way, Cell(self.task, way.trunk, number, seed))
            for seed in range(draws)
            for number in shots
            for way in self.ways
        ]

    def lines(self, found: Found) -> Iterator[str]:
        """Write the tables, in Markdown."""
        corner = f"labels of each {self.label}"
        yield table(corner, found.shots, {str(way): found.scores(way) for way in self.ways})
        leads = {f"{way} − {other}": found.leads(way, other) for way, other in self.pairs}
        yield table("points, paired by draw", found.shots, leads)
        yield table(corner, found.shots, {"labels that `scratch` needs for one": found.worths(BEST, SCRATCH)})


DIGITS = Study(
    "digits",
    "digit",
    draws=5,
    ways={
        Way(trunk, name): fit
        for trunks, fits in ((("letters",), TRAINED), (("none",), NO_TRUNK), (TRUNKS, WITHOUT_TRAINING))
        for trunk in trunks
        for name, fit in fits.items()
    },
    pairs=(
        (BEST, SCRATCH),
        (BEST, RAW),
        (BEST, Way("random", FROZEN)),
        (BEST, FULL),
        (BEST, LP_FT),
        (SHUFFLED, RAW),
        (Way("random", FROZEN), RAW),
        *((Way("shuffled", name), SHUFFLED) for name in (AVERAGED, QUARTERS, CHOSEN)),
    ),
    claims=of_digits,
    bench=Bench,
)
CYRILLIC = Study(
    "cyrillic",
    "capital",
    draws=10,
    ways={
        BEST: WITHOUT_TRAINING[FROZEN],
        FULL: TRAINED["full"],
        LP_FT: TRAINED["lp-ft"],
        SCRATCH: NO_TRUNK["scratch"],
        RAW: NO_TRUNK["raw pixels"],
    },
    pairs=((BEST, FULL), (BEST, LP_FT), (BEST, SCRATCH), (BEST, RAW)),
    claims=of_cyrillic,
    bench=Cyrillic,
)
STUDIES = {study.task: study for study in (DIGITS, CYRILLIC)}


def measure(
    study: Study, folder: Path, log: Log, wanted: Sequence[tuple[Way, Cell]], progress: Progress
) -> list[float]:
    """Fit what is not known yet; return the accuracy of each."""
    bench = study.bench(folder)
    found = []
    with progress.step(f"{study.task}: fits", len(wanted)) as step:
        for way, cell in wanted:
            figures = log.once(cell, way.name, partial(_fit, study.ways[way], bench, cell))
            found.append(figures["accuracy"])
            step.advance(1, f"{way}, {cell.shots} shots")
    return found


def _fit(fit: Fit, bench: Bench | Cyrillic, cell: Cell) -> dict[str, Json]:
    source, dataset = bench.source(cell), bench.dataset(cell)
    start = time.process_time()
    accuracy = fit(source, dataset, cell.seed)
    return {"accuracy": accuracy, "seconds": time.process_time() - start}


def _headed(rows: np.ndarray, held: np.ndarray, dataset: Dataset, seed: int) -> float:
    """Fit a logistic head to the training rows and return its accuracy on the held-out ones."""
    head = logistic_head(rows, dataset.targets(dataset.index(TRAIN)), len(dataset.labels), seed=seed)
    answers = (held @ head.weight.T + head.bias).argmax(axis=1)
    return float((answers == dataset.targets(dataset.index(TEST))).mean())


def _workshop(seed: int) -> Context:
    return Context(seed=seed, device=torch.device("cpu"))


def main() -> None:
    """Measure and print; exit 1 where a claim does not show."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", choices=STUDIES, help="one task; by default all of them")
    parser.add_argument("--shots", type=int, nargs="+", default=SHOTS, help="labels of each")
    parser.add_argument("--seeds", type=int, help="draws of shots, two or more; by default the task's")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "cultivar-transfer")
    parser.add_argument(
        "--part", type=int, nargs=2, metavar=("K", "N"), help="only the K-th of N parts, and no tables"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was seen")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = code.place(arguments.folder, Path(__file__))
    part, parts = arguments.part or (0, 1)
    verdicts, seen = {}, []
    for study in [STUDIES[arguments.task]] if arguments.task else STUDIES.values():
        wanted = study.cells(sorted(arguments.shots), arguments.seeds or study.draws)[part::parts]
        start, log = time.perf_counter(), Log(folder / "transfer.jsonl")
        try:
            accuracies = measure(study, folder, log, wanted, Bars(Console(stderr=True)))
        except KeyboardInterrupt:
            sys.exit(130)
        except CultivarError as error:
            sys.exit(str(error))
        if arguments.part:
            print(f"{study.task}: {log.account()}")
            continue
        found = Found.gathered(wanted, accuracies)
        print(*study.lines(found), sep="\n")
        draws = arguments.seeds or study.draws
        print(f"{study.task}: {draws} draws; {time.perf_counter() - start:.0f} s. {log.account()}\n")
        for words, holds in study.claims(found).items():
            print(f"{study.task}: {words}: {'yes' if holds else 'no'}")
            verdicts[f"{study.task}: {words}"] = holds
        print()
        seen += [
            {"way": str(way), "cell": asdict(cell), "accuracy": accuracy}
            for (way, cell), accuracy in zip(wanted, accuracies, strict=True)
        ]
    if arguments.json:
        document = {"code": folder.name, "machine": machine.describe(), "verdicts": verdicts, "seen": seen}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    if not all(verdicts.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
