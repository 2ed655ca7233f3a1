"""What a sentence encoder is worth with few labels, against words that are counted: ``python -m benchmarks.text``.

Glosses of WordNet's nouns, 24 labels (``benchmarks.supersenses``). No way sees a label but those of its shots, by
which it also chooses its penalty. Figures are kept in a folder as they come: an interrupted run goes on where it was.
"""

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from adapters.advise.trial import logits
from adapters.datasets import TEST, TRAIN, VALIDATION, Dataset, load
from adapters.evaluation.baselines import raw_baseline
from adapters.evaluation.raw import raw_inputs
from adapters.few_shot import draw
from adapters.sources.bundled import MINILM
from adapters.sources.providers import find
from adapters.sources.source import Source
from adapters.techniques import Context, technique
from benchmarks import code, machine, supersenses, word_vectors
from benchmarks.cells import Cell, Log
from benchmarks.curves import Curves
from benchmarks.table import table
from benchmarks.whole import whole
from registry.cache import DiskStore
from registry.errors import CultivarError
from registry.manifest import Json
from registry.progress import Bars, Progress

SHOTS = (1, 2, 4, 8, 20)
PAIRED_SHOTS = 4
"""Shots at which the encoder is trained on pairs: minutes for each draw."""

CACHE_BYTES = 1 << 30

NOTHING, WORDS, ENCODER = "none", "vectors", "minilm"

PLAIN = "TF-IDF of words"
COUNTED = "TF-IDF of words, pairs and letters"
AVERAGED = "word vectors, frozen"
SOLVED, NEAREST, PAIRED = "MiniLM, frozen", "MiniLM, frozen, centroid", "MiniLM, contrastive"
FEWER, MORE = 4, 20
"""What is claimed: so many labels are enough for the encoder to be ahead of words counted on so many."""


@dataclass(frozen=True, slots=True)
class Trunk:
    """A source, and what it is measured on.

    Attributes:
        source: an encoder.
        dataset: glosses to draw from, as the training part, and those that are tested on.
        store: where features are kept.
    """

    source: Source
    dataset: Dataset
    store: DiskStore

    def context(self, seed: int) -> Context:
        """Return tools that find features again."""
        return Context(seed=seed, device=torch.device("cpu"), store=self.store)

    def shots(self, cell: Cell) -> Dataset:
        """Return a cell's draw to learn from, and everything that is tested on."""
        drawn = draw(self.dataset, cell.shots, cell.seed)
        return self.dataset.divided({TRAIN: drawn, TEST: self.dataset.index(TEST)})


def trunks(folder: Path, progress: Progress) -> dict[str, Trunk]:
    """Write the data into a folder, read them for each trunk, and compute all features.

    Word vectors are counted from WordNet's noun glosses but for those that are tested on; no label is looked at.

    Raises:
        DatasetError: WordNet is not installed.
        SourceUnavailable: the encoder is not.
    """
    encoder = find(MINILM)
    free, test = supersenses.write(folder)
    vectors = whole(
        folder / "words.txt",
        lambda place: word_vectors.write(place, *word_vectors.learnt(supersenses.others(test))),
    )
    found = {}
    for name, source in ((ENCODER, encoder), (WORDS, find(f"vectors:{vectors}"))):
        read = load(free, source.recipe, test=test, progress=progress)
        parts = {TRAIN: read.index(TRAIN, VALIDATION), TEST: read.index(TEST)}
        trunk = Trunk(source, read.divided(parts), DiskStore(folder / "features", CACHE_BYTES))
        context = replace(trunk.context(0), progress=progress)
        context.features(source.load(), trunk.dataset, trunk.dataset.index(TRAIN, TEST))
        found[name] = trunk
    # Counting words needs no trunk, only the texts.
    return found | {NOTHING: found[WORDS]}


def counted(_: Trunk, dataset: Dataset, seed: int) -> np.ndarray:
    """Return logits of the baseline that needs no network."""
    return raw_baseline(dataset, dataset.labels, seed=seed).logits


def plain(_: Trunk, dataset: Dataset, seed: int) -> np.ndarray:
    """Return scores of what most people mean by TF-IDF and logistic regression: scikit-learn's, as they come."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    index = dataset.index(TRAIN)
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000, random_state=seed))
    model.fit(raw_inputs(dataset, index), dataset.targets(index))
    scores: np.ndarray = model.decision_function(raw_inputs(dataset, dataset.index(TEST)))
    return scores


def solved(kind: str, trunk: Trunk, dataset: Dataset, seed: int) -> np.ndarray:
    """Return logits of a head on features as they are."""
    context = trunk.context(seed)
    fitted = technique("frozen", {"head": kind}).fit(trunk.source, dataset, context)
    assert fitted.head is not None
    rows = context.features(fitted.stages, dataset, dataset.index(TEST))
    with torch.no_grad():
        scores: np.ndarray = fitted.head(torch.from_numpy(rows)).numpy()
    return scores


def paired(trunk: Trunk, dataset: Dataset, seed: int) -> np.ndarray:
    """Return logits of an encoder that was trained on pairs, as it comes."""
    # Its features are its own: nobody asks for them again.
    context = Context(seed=seed, device=torch.device("cpu"))
    fitted = technique("contrastive").fit(trunk.source, dataset, context)
    return logits(fitted, dataset, dataset.index(TEST), context.device)


Fit = Callable[[Trunk, Dataset, int], np.ndarray]
"""From a draw and a seed to logits of the test part, float32 [N, labels]."""

WAYS: Mapping[str, tuple[str, Fit]] = {
    PLAIN: (NOTHING, plain),
    COUNTED: (NOTHING, counted),
    AVERAGED: (WORDS, partial(solved, "logistic")),
    SOLVED: (ENCODER, partial(solved, "logistic")),
    NEAREST: (ENCODER, partial(solved, "centroid")),
    PAIRED: (ENCODER, paired),
}
"""The trunk of each way, and what is done with it."""


class Found(Curves[str]):
    """What was found of every way."""

    __slots__ = ()

    def verdicts(self) -> dict[str, bool]:
        """Return what is claimed, and whether it shows."""
        found = {}
        for other in (PLAIN, COUNTED):
            found[f"the encoder is ahead of {other} at every number of shots"] = all(
                self.lead(SOLVED, other, number).low > 0 for number in self.shots
            )
            if {FEWER, MORE} <= set(self.shots):
                lead = self.lead(SOLVED, other, FEWER, MORE)
                found[f"the encoder with {FEWER} shots is ahead of {other} with {MORE}"] = lead.low > 0
        return found

    def lines(self) -> Iterator[str]:
        """Write the tables, in Markdown."""
        corner = "glosses of each label"
        yield table(corner, self.shots, {way: self.scores(way) for way in self.accuracies})
        leads = {
            f"{way} − {other}": self.leads(way, other)
            for way, other in (
                (SOLVED, PLAIN),
                (SOLVED, COUNTED),
                (AVERAGED, COUNTED),
                (SOLVED, AVERAGED),
                (NEAREST, SOLVED),
                (PAIRED, SOLVED),
            )
            if way in self.accuracies
        }
        yield table("points, paired by draw", self.shots, leads)
        worth = {
            f"labels that {other} needs for one": self.worths(SOLVED, other) for other in (PLAIN, COUNTED)
        }
        yield table(corner, self.shots, worth)
        if {FEWER, MORE} <= set(self.shots):
            for other in (PLAIN, COUNTED):
                lead = self.lead(SOLVED, other, FEWER, MORE)
                yield f"{SOLVED}, with {FEWER} − {other}, with {MORE}: {lead.points()} points\n"


def cells(shots: Sequence[int], seeds: int, contrastive: int) -> list[tuple[str, Cell]]:
    """Return everything that is measured: contrastive last, on so many draws and one number of shots."""
    found = [
        (way, Cell("supersenses", trunk, number, seed))
        for seed in range(seeds)
        for number in shots
        for way, (trunk, _) in WAYS.items()
        if way != PAIRED
    ]
    if PAIRED_SHOTS in shots:
        found += [(PAIRED, Cell("supersenses", ENCODER, PAIRED_SHOTS, seed)) for seed in range(contrastive)]
    return found


def measure(
    found: Mapping[str, Trunk], log: Log, wanted: Sequence[tuple[str, Cell]], progress: Progress
) -> list[float]:
    """Fit what is not known yet; return the accuracy of each."""
    accuracies = []
    with progress.step("fits", len(wanted)) as step:
        for way, cell in wanted:
            figures = log.once(cell, way, partial(_fit, found[cell.trunk], way, cell))
            accuracies.append(float(figures["accuracy"]))
            step.advance(1, f"{way}, {cell.shots} shots")
    return accuracies


def _fit(trunk: Trunk, way: str, cell: Cell) -> dict[str, Json]:
    dataset, (_, fit) = trunk.shots(cell), WAYS[way]
    start = time.process_time()
    with warnings.catch_warnings():
        # With one item of each label scikit-learn takes labels for measured values.
        warnings.filterwarnings("ignore", message="The number of unique classes")
        answers = fit(trunk, dataset, cell.seed).argmax(axis=1)
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
    folder = code.place(arguments.folder, Path(__file__))
    log = Log(folder / "text.jsonl")
    wanted = cells(sorted(arguments.shots), arguments.seeds, arguments.contrastive)
    start, progress = time.perf_counter(), Bars(Console(stderr=True))
    try:
        made = trunks(folder, progress)
        accuracies = measure(made, log, wanted, progress)
    except KeyboardInterrupt:
        sys.exit(130)
    except CultivarError as error:
        sys.exit(str(error))
    found = Found.gathered(wanted, accuracies)
    print(*found.lines(), sep="\n")
    tested = len(made[ENCODER].dataset.index(TEST))
    print(
        f"{tested} test items, {arguments.seeds} draws; {time.perf_counter() - start:.0f} s. {log.account()}\n"
    )
    verdicts = found.verdicts()
    for words, holds in verdicts.items():
        print(f"{words}: {'yes' if holds else 'no'}")
    if arguments.json:
        seen = [
            {"way": way, "cell": asdict(cell), "accuracy": accuracy}
            for (way, cell), accuracy in zip(wanted, accuracies, strict=True)
        ]
        document = {"code": folder.name, "machine": machine.describe(), "verdicts": verdicts, "seen": seen}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    if not all(verdicts.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
