"""The few-shot benchmark: the accuracy of each technique by the number of labelled examples.

The protocol, which is printed with the results:

* The dataset's test set is fixed, and only used for the final results.
* Every technique has a grid of its own, and all grids have the same number of trials. For each number
  of shots every trial is fitted to one draw of shots, which is used for nothing else, and judged on
  the validation part, which no technique learns from: by accuracy, equal ones by mean log loss.
* The winner is fitted anew to one draw for each seed. The draw of a seed is the same for every technique,
  and holds that of fewer shots.
* Pictures are unchanged, or, if the protocol augments, randomly shifted and varied in brightness and contrast
  for every technique that trains a network.

Fits run in processes of one thread each, so figures do not depend on how many there are.
"""

import functools
import math
import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from statistics import fmean, stdev

import numpy as np
import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text

from adapters.datasets import TEST, TRAIN, VALIDATION, Dataset, load
from adapters.evaluation import measure as figures
from adapters.sources.providers import find
from adapters.sources.source import Source
from adapters.techniques import Context, technique
from adapters.techniques.trained import Trained
from registry.errors import DatasetError, InvalidValue
from registry.manifest import Json
from registry.progress import SILENT, Progress

_TUNING_SEED = 1_000_000
"""Seed of the draw that settings are chosen on: none of those that figures are taken on."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A technique and the settings that it may choose from.

    Attributes:
        technique: its name.
        grid: the trials: settings of the technique.
        steps: of training, where it trains; with few shots, an epoch is a few steps, so this says more
            than a number of epochs would.
    """

    technique: str
    grid: tuple[Mapping[str, Json], ...]
    steps: int | None = None

    def settings(self, trial: int, examples: int, augment: bool) -> dict[str, Json]:
        """Return the technique's settings for one trial on a number of examples."""
        settings = dict(self.grid[trial])
        if self.steps is not None:
            batch = settings.get("batch_size", Trained.batch_size)
            assert isinstance(batch, int)
            settings |= {"epochs": math.ceil(self.steps / math.ceil(examples / batch)), "augment": augment}
        return settings


SCRATCH = Contender("scratch", tuple({"learning_rate": rate} for rate in (0.02, 0.05, 0.1, 0.2)), steps=300)
FROZEN = Contender("frozen", tuple({"l2": l2} for l2 in (0.001, 0.01, 0.1, 1.0)))
LP_FT = Contender(
    "lp-ft",
    tuple({"learning_rate": rate, "start": "ridge"} for rate in (0.0003, 0.001, 0.003, 0.01)),
    steps=150,
)


@dataclass(frozen=True, slots=True)
class Protocol:
    """What is compared, and how.

    Attributes:
        source: spec of the source.
        data: the dataset; it has a validation part.
        shots: labelled examples of each class, ascending.
        seeds: draws that figures are taken on.
        contenders: with equally many trials each.
        augment: shift pictures and vary their light at random in training.
    """

    source: str = "bundled:glyphs"
    data: str = "example:digits"
    shots: tuple[int, ...] = (1, 5, 10, 20, 50)
    seeds: int = 5
    contenders: tuple[Contender, ...] = (SCRATCH, FROZEN, LP_FT)
    augment: bool = False

    def __post_init__(self) -> None:
        if not self.shots or list(self.shots) != sorted(set(self.shots)) or self.shots[0] < 1:
            raise InvalidValue(f"shots are numbers from 1, ascending, each once; got {self.shots}")
        if self.seeds < 2:
            raise InvalidValue(f"a spread needs 2 seeds or more, got {self.seeds}")
        if len({len(contender.grid) for contender in self.contenders}) != 1 or self.trials < 1:
            raise InvalidValue("every technique has the same number of trials, at least one")

    @property
    def trials(self) -> int:
        """Number of trials of each technique."""
        return len(self.contenders[0].grid)


@dataclass(frozen=True, slots=True)
class Score:
    """What a technique reached with a number of shots.

    Attributes:
        technique: its name.
        shots: labelled examples of each class.
        chosen: the settings that won on the validation part.
        validation: accuracy of every trial there, in the order of the grid.
        accuracies: on the test part, one for each seed, in order.
    """

    technique: str
    shots: int
    chosen: Mapping[str, Json]
    validation: tuple[float, ...]
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return fmean(self.accuracies)

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds."""
        return stdev(self.accuracies)


@dataclass(frozen=True, slots=True)
class FewShotComparison:
    """The figures of a protocol.

    Attributes:
        protocol: what was compared, and how.
        scores: technique by technique in the protocol's order, shots ascending.
        items: of the training, validation and test part.
    """

    protocol: Protocol
    scores: tuple[Score, ...]
    items: Mapping[str, int]

    def score(self, technique: str, shots: int) -> Score:
        """Return one technique's score.

        Raises:
            InvalidValue: it was not measured.
        """
        for score in self.scores:
            if (score.technique, score.shots) == (technique, shots):
                return score
        raise InvalidValue(f"expected a technique and shots that were measured, got {technique} at {shots}")

    def lead(self, technique: str, other: str, shots: int) -> tuple[float, ...]:
        """Return by how much one technique is better than another, seed by seed, as a share."""
        pairs = zip(self.score(technique, shots).accuracies, self.score(other, shots).accuracies, strict=True)
        return tuple(a - b for a, b in pairs)

    def lines(self) -> Iterator[str]:
        """Say how the figures were taken, a line at a time."""
        protocol = self.protocol
        yield (
            f"{protocol.source} to {protocol.data}: {self.items[TEST]} test items, the same ones throughout; mean and "
            f"standard deviation over {protocol.seeds} draws of shots"
        )
        yield (
            f"{protocol.trials} trials for each technique, chosen on {self.items[VALIDATION]} validation items and "
            f"one further draw; pictures {'shifted and lit at random' if protocol.augment else 'as they are'}"
        )
        for contender in protocol.contenders:
            steps = "" if contender.steps is None else f", {contender.steps} steps"
            chosen = " ".join(
                _brief(score.chosen, contender)
                for score in self.scores
                if score.technique == contender.technique
            )
            trials = "; ".join(_brief(trial, contender, named=True) for trial in contender.grid)
            yield f"{contender.technique}{steps}: {trials}; chosen {chosen}"

    def __rich__(self) -> Group:
        """Draw the table, and say below it how it came about."""
        table = Table("labelled examples of each class", *map(str, self.protocol.shots), box=None)
        for contender in self.protocol.contenders:
            mine = [score for score in self.scores if score.technique == contender.technique]
            cells = (f"{100 * score.mean:.1f} ±{100 * score.spread:.1f}" for score in mine)
            table.add_row(contender.technique, *cells)
        return Group(table, Text("\n" + "\n".join(self.lines()), style="dim"))

    def to_json(self) -> dict[str, Json]:
        """Return everything as plain JSON values."""
        scores: list[Json] = [
            {
                "technique": score.technique,
                "shots": score.shots,
                "mean": score.mean,
                "spread": score.spread,
                "accuracies": list(score.accuracies),
                "chosen": dict(score.chosen),
                "validation": list(score.validation),
            }
            for score in self.scores
        ]
        protocol = asdict(self.protocol)
        return {"protocol": _plain(protocol), "items": dict(self.items), "scores": scores}


def measure(
    protocol: Protocol | None = None, progress: Progress = SILENT, processes: int | None = None
) -> FewShotComparison:
    """Compare techniques by the number of labelled examples.

    Args:
        protocol: what to compare, and how.
        progress: shows the progress.
        processes: fits at a time; by default one for each core that this process may use.

    Raises:
        DatasetError: the dataset has no validation part, or a class has fewer training items than shots.
        UnknownSource: there is no such source.
    """
    protocol = protocol or Protocol()
    dataset = _bench(protocol.source, protocol.data).dataset
    _check(dataset, protocol)
    trials = [
        _Fit(protocol, contender, shots, trial, _TUNING_SEED, VALIDATION)
        for contender in range(len(protocol.contenders))
        for shots in protocol.shots
        for trial in range(protocol.trials)
    ]
    count = len(trials) + len(protocol.contenders) * len(protocol.shots) * protocol.seeds
    pool = ProcessPoolExecutor(processes or len(os.sched_getaffinity(0)), get_context("spawn"), _begin)
    try:
        with progress.step("comparing techniques", count) as step:

            def run(fits: Iterable[_Fit]) -> dict[_Fit, _Result]:
                # The longest first, so that no process works alone at the end.
                futures = {pool.submit(_run, fit): fit for fit in sorted(fits, key=_Fit.work, reverse=True)}
                found = {}
                for future in as_completed(futures):
                    fit = futures[future]
                    found[fit] = future.result()
                    step.advance(1, f"{protocol.contenders[fit.contender].technique}, {fit.shots} shots")
                return found

            tuned = run(trials)
            winners = _winners(tuned)
            finals = [
                replace(winner, seed=seed, part=TEST) for winner in winners for seed in range(protocol.seeds)
            ]
            tested = run(finals)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return FewShotComparison(
        protocol,
        tuple(_score(winner, tuned, tested) for winner in winners),
        {part: len(dataset.index(part)) for part in (TRAIN, VALIDATION, TEST)},
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """One fit, and the part that it is judged on."""

    protocol: Protocol
    contender: int
    shots: int
    trial: int
    seed: int
    part: str

    def work(self) -> int:
        """Return about how long it takes, in steps."""
        return self.protocol.contenders[self.contender].steps or 0


@dataclass(frozen=True, slots=True)
class _Result:
    """How good a fit was."""

    accuracy: float
    log_loss: float


@dataclass(frozen=True, slots=True, eq=False)
class _Bench:
    """What every fit of a process works with."""

    source: Source
    dataset: Dataset
    context: Context


def _winners(tuned: Mapping[_Fit, _Result]) -> list[_Fit]:
    """Return the best trial of each contender and number of shots, in order."""
    groups: dict[tuple[int, int], list[_Fit]] = {}
    for fit in sorted(tuned, key=lambda fit: (fit.contender, fit.shots, fit.trial)):
        groups.setdefault((fit.contender, fit.shots), []).append(fit)
    return [
        max(fits, key=lambda fit: (tuned[fit].accuracy, -tuned[fit].log_loss)) for fits in groups.values()
    ]


def _score(winner: _Fit, tuned: Mapping[_Fit, _Result], tested: Mapping[_Fit, _Result]) -> Score:
    def mine(results: Mapping[_Fit, _Result]) -> list[_Fit]:
        place = (winner.contender, winner.shots)
        return [fit for fit in results if (fit.contender, fit.shots) == place]

    contender = winner.protocol.contenders[winner.contender]
    return Score(
        contender.technique,
        winner.shots,
        contender.grid[winner.trial],
        tuple(tuned[fit].accuracy for fit in sorted(mine(tuned), key=lambda fit: fit.trial)),
        tuple(tested[fit].accuracy for fit in sorted(mine(tested), key=lambda fit: fit.seed)),
    )


def _check(dataset: Dataset, protocol: Protocol) -> None:
    if not len(dataset.index(VALIDATION)):
        raise DatasetError(
            f"{protocol.data} has too few items for a validation part, which settings are chosen on"
        )
    fewest = np.bincount(dataset.targets(dataset.index(TRAIN)), minlength=len(dataset.labels)).min()
    if fewest < protocol.shots[-1]:
        raise DatasetError(
            f"expected {protocol.shots[-1]} training items of each class in {protocol.data}, one has {fewest}"
        )


@functools.cache
def _bench(source: str, data: str) -> _Bench:
    found = find(source)
    return _Bench(found, load(data, found.recipe), Context(device=torch.device("cpu")))


def _begin() -> None:
    """Prepare a process: one thread, and Ctrl-C is for the one who started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def _run(fit: _Fit) -> _Result:
    bench = _bench(fit.protocol.source, fit.protocol.data)
    contender = fit.protocol.contenders[fit.contender]
    drawn = draw(bench.dataset, fit.shots, fit.seed)
    settings = contender.settings(fit.trial, len(drawn), fit.protocol.augment)
    shots = bench.dataset.divided({TRAIN: drawn})
    fitted = technique(contender.technique, settings).fit(
        bench.source, shots, replace(bench.context, seed=fit.seed)
    )
    index = bench.dataset.index(fit.part)
    logits = fitted.logits(torch.from_numpy(bench.dataset.pixels[index])).numpy()
    found = figures(logits, bench.dataset.targets(index), fitted.labels)
    return _Result(float(str(found["accuracy"])), float(str(found["log_loss"])))


def draw(dataset: Dataset, shots: int, seed: int) -> np.ndarray:
    """Draw so many training items of each class: positions, int64, ascending.

    What a seed draws holds what it draws with fewer shots.
    """
    index = dataset.index(TRAIN)
    targets = dataset.targets(index)
    random = np.random.default_rng(seed)
    shuffled = random.permutation(len(index))
    chosen = [shuffled[targets[shuffled] == number][:shots] for number in range(len(dataset.labels))]
    return np.sort(index[np.concatenate(chosen)])


def _brief(settings: Mapping[str, Json], contender: Contender, named: bool = False) -> str:
    """Write the settings in which a grid's trials differ."""
    vary = [key for key in settings if len({str(trial.get(key)) for trial in contender.grid}) > 1]
    return " ".join(f"{key} {settings[key]}" if named else str(settings[key]) for key in vary)


def _plain(value: object) -> Json:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each) for each in value]
    assert value is None or isinstance(value, bool | int | float | str)
    return value
