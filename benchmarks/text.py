"""What a sentence encoder is worth with few labels, against words that are counted: ``python -m benchmarks.text``.

Glosses of WordNet's nouns, 24 labels (``benchmarks.supersenses``). Every way chooses its penalty by cross-validation on
its shots, and sees no other label. Figures are kept in a folder as they come: an interrupted run goes on where it was.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import torch

from adapters.advise.verification import logits
from adapters.datasets import TEST, TRAIN, VALIDATION, Dataset, load
from adapters.evaluation.yardsticks import raw_yardstick
from adapters.progress import Bars, Progress
from adapters.shots import draw
from adapters.sources.bundled import MINILM
from adapters.sources.providers import find
from adapters.sources.source import Source
from adapters.techniques import Workshop, technique
from benchmarks import machine, supersenses
from benchmarks.cells import Cell, Log
from benchmarks.lead import Lead, cost_of
from benchmarks.table import table
from registry.cache import DiskStore
from registry.errors import CultivarError
from registry.manifest import Json

SHOTS = (1, 2, 4, 8, 20)
PAIRED_SHOTS = 4
"""Shots at which the encoder is trained on pairs: minutes for each draw."""

CACHE_BYTES = 1 << 30

COUNTED = "TF-IDF, logistic regression"
SOLVED, NEAREST, PAIRED = "MiniLM, frozen", "MiniLM, frozen, centroid", "MiniLM, contrastive"
FEWER, MORE = 4, 20
"""What is claimed: so many labels are enough for the encoder to be ahead of words counted on so many."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What everything is measured with.

    Attributes:
        source: the encoder.
        dataset: glosses to draw from, as the training part, and those that are tested on.
        store: where features are kept.
    """

    source: Source
    dataset: Dataset
    store: DiskStore

    @classmethod
    def make(cls, folder: Path, progress: Progress) -> "Bench":
        """Write the data into a folder, read them, and compute all features.

        Raises:
            DatasetError: WordNet is not installed.
            SourceUnavailable: the encoder is not.
        """
        source = find(MINILM)
        free, test = supersenses.write(folder)
        read = load(free, source.recipe, test=test, progress=progress)
        parts = {TRAIN: read.index(TRAIN, VALIDATION), TEST: read.index(TEST)}
        bench = cls(source, read.divided(parts), DiskStore(folder / "features", CACHE_BYTES))
        workshop = replace(bench.workshop(0), progress=progress)
        workshop.features(source.load(), bench.dataset, bench.dataset.index(TRAIN, TEST))
        return bench

    def workshop(self, seed: int) -> Workshop:
        """Return tools that find features again."""
        return Workshop(seed=seed, device=torch.device("cpu"), store=self.store)

    def shots(self, cell: Cell) -> Dataset:
        """Return a cell's draw to learn from, and everything that is tested on."""
        drawn = draw(self.dataset, cell.shots, cell.seed)
        return self.dataset.divided({TRAIN: drawn, TEST: self.dataset.index(TEST)})


def counted(_: Bench, dataset: Dataset, seed: int) -> np.ndarray:
    """Return logits of the yardstick that needs no network."""
    return raw_yardstick(dataset, dataset.labels, seed=seed).logits


def solved(kind: str, bench: Bench, dataset: Dataset, seed: int) -> np.ndarray:
    """Return logits of a head on features as they are."""
    workshop = bench.workshop(seed)
    fitted = technique("frozen", {"head": kind}).fit(bench.source, dataset, workshop)
    assert fitted.head is not None
    rows = workshop.features(fitted.stages, dataset, dataset.index(TEST))
    with torch.no_grad():
        scores: np.ndarray = fitted.head(torch.from_numpy(rows)).numpy()
    return scores


def paired(bench: Bench, dataset: Dataset, seed: int) -> np.ndarray:
    """Return logits of an encoder that was trained on pairs, as it comes."""
    # Its features are its own: nobody asks for them again.
    workshop = Workshop(seed=seed, device=torch.device("cpu"))
    fitted = technique("contrastive").fit(bench.source, dataset, workshop)
    return logits(fitted, dataset, dataset.index(TEST), workshop.device)


WAYS: Mapping[str, Callable[[Bench, Dataset, int], np.ndarray]] = {
    COUNTED: counted,
    SOLVED: partial(solved, "logistic"),
    NEAREST: partial(solved, "centroid"),
    PAIRED: paired,
}
"""From a draw and a seed to logits of the test part, float32 [N, labels]."""


@dataclass(frozen=True, slots=True)
class Found:
    """Accuracies of every way, by number of shots, one for each draw; contrastive may have fewer draws."""

    accuracies: Mapping[str, Mapping[int, Sequence[float]]]

    @property
    def shots(self) -> tuple[int, ...]:
        """Numbers of shots, ascending."""
        return tuple(sorted(self.accuracies[SOLVED]))

    def lead(self, way: str, number: int, other: str, others: int) -> Lead:
        """Return by how much one way is ahead of another, on the draws that both have."""
        ours, theirs = self.accuracies[way][number], self.accuracies[other][others]
        both = min(len(ours), len(theirs))
        return Lead.of(ours[:both], theirs[:both])

    def worth(self, number: int) -> float:
        """Return how many labels counting words needs for one that the encoder needs."""
        curve = {each: fmean(seen) for each, seen in self.accuracies[COUNTED].items()}
        return cost_of(curve, fmean(self.accuracies[SOLVED][number])) / number

    def verdicts(self) -> dict[str, bool]:
        """Return what is claimed, and whether it shows."""
        found = {
            "the encoder is ahead of words counted at every number of shots": all(
                self.lead(SOLVED, number, COUNTED, number).low > 0 for number in self.shots
            )
        }
        if {FEWER, MORE} <= set(self.shots):
            lead = self.lead(SOLVED, FEWER, COUNTED, MORE)
            found[f"the encoder with {FEWER} shots is ahead of words counted with {MORE}"] = lead.low > 0
        return found

    def lines(self) -> Iterator[str]:
        """Write the tables, in Markdown."""
        corner = "glosses of each label"
        yield table(
            corner, self.shots, {way: self._row(partial(self._score, way)) for way in self.accuracies}
        )
        leads = {
            f"{way} − {other}": self._row(partial(self._lead, way, other))
            for way, other in ((SOLVED, COUNTED), (NEAREST, SOLVED), (PAIRED, SOLVED))
            if way in self.accuracies
        }
        yield table("points, paired by draw", self.shots, leads)
        yield table(corner, self.shots, {"labels that TF-IDF needs for one": self._row(self._worth)})
        if {FEWER, MORE} <= set(self.shots):
            lead = self.lead(SOLVED, FEWER, COUNTED, MORE)
            yield f"{SOLVED}, with {FEWER} − {COUNTED}, with {MORE}: {lead.points()} points\n"

    def _row(self, cell: Callable[[int], str]) -> list[str]:
        return [cell(number) for number in self.shots]

    def _score(self, way: str, number: int) -> str:
        seen = self.accuracies[way].get(number, ())
        spread = f" ± {100 * stdev(seen):.1f}" if len(seen) > 1 else ""
        return f"{100 * fmean(seen):.1f}{spread}" if seen else ""

    def _lead(self, way: str, other: str, number: int) -> str:
        return self.lead(way, number, other, number).points() if self.accuracies[way].get(number) else ""

    def _worth(self, number: int) -> str:
        worth = self.worth(number)
        return f"{worth:.1f}" if math.isfinite(worth) else f"over {self.shots[-1] / number:.1f}"


def cells(shots: Sequence[int], seeds: int, contrastive: int) -> list[tuple[str, Cell]]:
    """Return everything that is measured: contrastive last, on so many draws and one number of shots."""
    found = [
        (way, Cell("supersenses", "minilm", number, seed))
        for seed in range(seeds)
        for number in shots
        for way in (COUNTED, SOLVED, NEAREST)
    ]
    if PAIRED_SHOTS in shots:
        found += [(PAIRED, Cell("supersenses", "minilm", PAIRED_SHOTS, seed)) for seed in range(contrastive)]
    return found


def gathered(measured: Sequence[tuple[str, Cell]], accuracies: Sequence[float]) -> Found:
    """Sort accuracies by way and number of shots; draws keep their order."""
    found: dict[str, dict[int, list[float]]] = {}
    for (way, cell), accuracy in zip(measured, accuracies, strict=True):
        found.setdefault(way, {}).setdefault(cell.shots, []).append(accuracy)
    return Found(found)


def measure(bench: Bench, log: Log, wanted: Sequence[tuple[str, Cell]], progress: Progress) -> list[float]:
    """Fit what is not known yet; return the accuracy of each."""
    found = []
    with progress.step("fits", len(wanted)) as step:
        for way, cell in wanted:
            found.append(float(log.once(cell, way, partial(_fit, bench, way, cell))["accuracy"]))
            step.advance(1, f"{way}, {cell.shots} shots")
    return found


def _fit(bench: Bench, way: str, cell: Cell) -> dict[str, Json]:
    dataset = bench.shots(cell)
    start = time.process_time()
    answers = WAYS[way](bench, dataset, cell.seed).argmax(axis=1)
    seconds = time.process_time() - start
    right = answers == dataset.targets(dataset.index(TEST))
    return {"accuracy": float(right.mean()), "seconds": seconds}


def main() -> None:
    """Measure and print; exit 1 where a claim does not show."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shots", type=int, nargs="+", default=SHOTS, help="glosses of each label")
    parser.add_argument("--seeds", type=int, default=5, help="draws of shots")
    parser.add_argument(
        "--contrastive", type=int, default=1, metavar="N", help="draws on which the encoder is trained, too"
    )
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "cultivar-text")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was seen")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    wanted = cells(sorted(arguments.shots), arguments.seeds, arguments.contrastive)
    start, progress = time.perf_counter(), Bars(sys.stderr)
    try:
        bench = Bench.make(arguments.folder, progress)
        accuracies = measure(bench, Log(arguments.folder / "text.jsonl"), wanted, progress)
    except KeyboardInterrupt:
        sys.exit(130)
    except CultivarError as error:
        sys.exit(str(error))
    found = gathered(wanted, accuracies)
    print(*found.lines(), sep="\n")
    tested = len(bench.dataset.index(TEST))
    print(f"{tested} test items, {arguments.seeds} draws; {time.perf_counter() - start:.0f} s\n")
    verdicts = found.verdicts()
    for words, holds in verdicts.items():
        print(f"{words}: {'yes' if holds else 'no'}")
    if arguments.json:
        seen = [
            {"way": way, "cell": asdict(cell), "accuracy": accuracy}
            for (way, cell), accuracy in zip(wanted, accuracies, strict=True)
        ]
        document = {"machine": machine.describe(), "verdicts": verdicts, "seen": seen}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    if not all(verdicts.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
