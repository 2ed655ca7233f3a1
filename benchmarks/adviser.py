"""How good the adviser's advice is, and what it costs: ``python -m benchmarks.adviser``.

A cell is a task, a trunk, a number of shots and a draw of them. In each, every technique is fitted with the same
budget and measured on 900 held-out items, and the adviser is asked, who sees the shots only. Regret is the accuracy
of the best technique less that of the recommended one; minutes are those of the advice, measured, and of an adaptation
with its usual schedule, as the adviser expects them. Seconds are of CPU. Cells are kept in a folder as they are
done: an interrupted run goes on where it was.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from rich.console import Console

from adapters.advise.measurements import measure as measured_on
from adapters.advise.rules import LEAST_REMOVED
from adapters.advise.trial import logits
from adapters.datasets import TEST, TRAIN, Dataset
from adapters.evaluation.raw import raw_inputs
from adapters.heads import logistic_head
from adapters.sources.bundled import GlyphSource
from adapters.techniques import TECHNIQUES, Context, technique
from benchmarks import code, policies
from benchmarks.bench import TASKS, TRUNKS, Bench
from benchmarks.cells import Cell, Log
from registry.errors import CultivarError
from registry.manifest import Json
from registry.progress import Bars, Progress

TUNED_STEPS, SCRATCH_STEPS = 120, 240
"""Steps of every technique that starts from the source, and of the one that starts from nothing."""

BATCH = 32
THRESHOLDS = (0.0, 0.02, 0.05, 0.08, 0.1, 0.12, 0.15, 0.2)
WANTED = {"mean regret": 1.0, "90th percentile": 3.0, "cost": 0.25, "flagged": 0.9, "false alarms": 0.05}
GOOD = 0.02
"""Lead of a frozen head over raw inputs and over random weights, on the test items, from which a trunk is good."""

POLICIES: Mapping[str, tuple[str, Mapping[str, Json]]] = {
    name: (kind, settings)
    for name, (kind, settings) in {
        "frozen": ("frozen", {}),
        "layers": ("layers", {}),
        "partial 1": ("partial", {"depth": 1}),
        "partial 2": ("partial", {"depth": 2}),
        "full": ("full", {}),
        "lp-ft": ("lp-ft", {}),
        "scratch": ("scratch", {}),
    }.items()
    if kind in TECHNIQUES
}
"""Every technique that suits pictures of digits, each of which is a fixed policy as well."""


@dataclass(frozen=True, slots=True)
class Result:
    """One cell's figures.

    Attributes:
        cell: which.
        accuracy: of every policy, on the test items.
        seconds: of CPU that every policy took.
        raw: accuracy of logistic regression on raw inputs.
        advice: the recommended policy, the seconds of CPU, and what the flag is made of; by preference in ``choices``.
        minutes: that an adaptation by every policy takes, as the adviser expects them.
    """

    cell: Cell
    accuracy: Mapping[str, float]
    seconds: Mapping[str, float]
    raw: float
    advice: Mapping[str, Any]
    minutes: Mapping[str, float]

    @property
    def outcomes(self) -> Mapping[str, policies.Outcome]:
        """Regret and minutes of every policy."""
        return policies.outcomes(self.accuracy, self.minutes, self.advice["choices"])

    def regret(self, policy: str) -> float:
        """Return by how many points a policy is behind the best."""
        return 100 * (max(self.accuracy.values()) - self.accuracy[policy])

    @property
    def chosen(self) -> str:
        """The policy that the adviser recommended."""
        return str(self.advice["policy"])

    @property
    def cost(self) -> float:
        """Seconds of advice for each second of fitting everything."""
        return float(self.advice["seconds"]) / sum(self.seconds.values())

    def flagged(self, threshold: float = LEAST_REMOVED) -> bool:
        """Whether negative transfer is named, at a threshold on what random weights leave."""
        return bool(self.advice["raw_low"] <= 0 or self.advice["random"] < threshold)


def cells(shots: Sequence[int], seeds: int, tasks: Sequence[str] = tuple(TASKS)) -> list[Cell]:
    """Return every cell, draw by draw."""
    return [
        Cell(task, trunk, number, seed)
        for seed in range(seeds)
        for task in tasks
        for number in shots
        for trunk in TRUNKS
    ]


def measure(bench: Bench, log: Log, cell: Cell) -> Result:
    """Fit every technique and ask the adviser, as far as that is not known yet."""
    dataset, source = bench.dataset(cell), bench.source(cell)
    figures = {}
    for name in POLICIES:
        # From nothing, the trunk makes no difference.
        place = replace(cell, trunk="none") if name == "scratch" else cell
        figures[name] = log.once(place, name, partial(_fit, name, source, dataset, cell.seed))
    raw = log.once(replace(cell, trunk="none"), "raw", lambda: _raw(dataset))
    advice = log.once(cell, "advice", lambda: _ask(source, dataset, cell.seed))
    return Result(
        cell,
        {name: each["accuracy"] for name, each in figures.items()},
        {name: each["seconds"] for name, each in figures.items()},
        raw["accuracy"],
        advice,
        log.once(replace(cell, trunk="none"), "minutes", lambda: _minutes(source, dataset)),
    )


def _fit(name: str, source: GlyphSource, dataset: Dataset, seed: int) -> dict[str, Json]:
    kind, settings = POLICIES[name]
    steps = {"scratch": SCRATCH_STEPS}.get(kind, TUNED_STEPS)
    index = dataset.index(TRAIN)
    if "epochs" in {each.name for each in fields(TECHNIQUES[kind])}:
        settings = {**settings, "epochs": math.ceil(steps / math.ceil(len(index) / BATCH))}
    start = time.process_time()
    fitted = technique(kind, settings).fit(source, dataset, _workshop(seed))
    seconds = time.process_time() - start
    tested = dataset.index(TEST)
    answers = logits(fitted, dataset, tested, torch.device("cpu")).argmax(axis=1)
    right = answers == dataset.targets(tested, fitted.labels)
    return {"accuracy": float(right.mean()), "seconds": seconds}


def _raw(dataset: Dataset) -> dict[str, Json]:
    index, tested = dataset.index(TRAIN), dataset.index(TEST)
    rows, held = (np.asarray(raw_inputs(dataset, part)) for part in (index, tested))
    head = logistic_head(rows, dataset.targets(index), len(dataset.labels))
    right = (held @ head.weight.T + head.bias).argmax(axis=1) == dataset.targets(tested)
    return {"accuracy": float(right.mean())}


def _ask(source: GlyphSource, dataset: Dataset, seed: int) -> dict[str, Json]:
    # The adviser never sees the test part.
    shown, context = dataset.divided({TRAIN: dataset.index(TRAIN)}), _workshop(seed)
    measured = measured_on(source, shown, context)
    raw, random = measured.raw, measured.random
    assert raw is not None and random is not None, "every class has several items"
    choices = policies.ask(measured, source, shown, context)
    chosen = choices[policies.COST]
    assert isinstance(chosen, dict)
    return {
        "policy": chosen["policy"],
        "seconds": chosen["seconds"],
        "raw_low": raw.removed.low,
        "random": random.removed.value,
        "choices": choices,
    }


def _minutes(source: GlyphSource, dataset: Dataset) -> dict[str, Json]:
    shown = dataset.divided({TRAIN: dataset.index(TRAIN)})
    return dict(policies.expected_minutes(POLICIES, source, shown, _workshop(0)))


def _workshop(seed: int) -> Context:
    return Context(seed=seed, device=torch.device("cpu"), clock=time.process_time)


@dataclass(frozen=True, slots=True)
class Report:
    """What the cells say together."""

    results: tuple[Result, ...]

    def regrets(self, policy: str | None = None) -> list[float]:
        """Return each cell's regret, of a fixed policy or of the adviser."""
        return [each.regret(policy or each.chosen) for each in self.results]

    @property
    def bad(self) -> list[Result]:
        """Cells on a trunk that learnt nothing."""
        return [each for each in self.results if each.cell.trunk != "letters"]

    @property
    def good(self) -> list[Result]:
        """Cells on the letters, where a frozen head leads raw inputs and random weights on the test items."""
        others = {each.cell: each.accuracy["frozen"] for each in self.results}
        return [
            each
            for each in self.results
            if each.cell.trunk == "letters"
            and each.accuracy["frozen"] - max(each.raw, others[replace(each.cell, trunk="random")]) >= GOOD
        ]

    @property
    def doubtful(self) -> list[Result]:
        """Cells on the letters where it does not."""
        good = {each.cell for each in self.good}
        return [each for each in self.results if each.cell.trunk == "letters" and each.cell not in good]

    def left_out(self) -> dict[str, tuple[float, int, int]]:
        """Return for each task the threshold chosen on the others, and bad trunks missed and false alarms with it."""
        found = {}
        for task in TASKS:
            bad = [each for each in self.bad if each.cell.task != task]
            good = [each for each in self.good if each.cell.task != task]
            best = min(
                THRESHOLDS,
                key=lambda at: (
                    sum(not each.flagged(at) for each in bad) / max(1, len(bad))
                    + sum(each.flagged(at) for each in good) / max(1, len(good))
                ),
            )
            found[task] = (
                best,
                sum(not each.flagged(best) for each in self.bad if each.cell.task == task),
                sum(each.flagged(best) for each in self.good if each.cell.task == task),
            )
        return found

    def figures(self) -> dict[str, float]:
        """Return what is wanted of the adviser."""
        mine = self.regrets()
        return {
            "mean regret": fmean(mine),
            "90th percentile": float(np.quantile(mine, 0.9)),
            "cost": sum(float(each.advice["seconds"]) for each in self.results)
            / sum(sum(each.seconds.values()) for each in self.results),
            "flagged": fmean(each.flagged() for each in self.bad),
            "false alarms": fmean(each.flagged() for each in self.good) if self.good else math.nan,
        }

    def met(self) -> bool:
        """Tell whether every figure is as wanted, and no fixed policy is better."""
        figures = self.figures()
        limits = all(
            figures[name] >= limit if name == "flagged" else figures[name] <= limit
            for name, limit in WANTED.items()
        )
        return limits and all(fmean(self.regrets(name)) > figures["mean regret"] for name in POLICIES)

    def lines(self) -> Iterator[str]:
        """Write the tables, in Markdown."""
        figures = self.figures()
        yield "| policy | mean regret | 90th percentile | letters | shuffled | random |\n|---|---|---|---|---|---|"
        for name in (None, *POLICIES):
            regrets = self.regrets(name)
            by_trunk = " | ".join(
                f"{fmean(r for r, each in zip(regrets, self.results, strict=True) if each.cell.trunk == trunk):.2f}"
                for trunk in TRUNKS
            )
            yield f"| {name or '**adviser**'} | {fmean(regrets):.2f} | {np.quantile(regrets, 0.9):.2f} | {by_trunk} |"
        yield ""
        yield from policies.rows([each.outcomes for each in self.results])
        yield f"\n{len(self.results)} cells; advice takes {figures['cost']:.0%} of fitting everything (CPU seconds)."
        yield (
            f"Flagged: {sum(each.flagged() for each in self.bad)} of {len(self.bad)} bad trunks; "
            f"false alarms: {sum(each.flagged() for each in self.good)} of {len(self.good)} good ones; "
            f"of {len(self.doubtful)} doubtful ones {sum(each.flagged() for each in self.doubtful)} are flagged."
        )
        yield "\n| task left out | threshold chosen on the others | bad trunks missed | false alarms |"
        yield "|---|---|---|---|"
        for task, (threshold, missed, alarms) in self.left_out().items():
            yield f"| {task} | {threshold:g} | {missed} | {alarms} |"


def main() -> None:
    """Measure all cells and report; exit 1 where a figure is not as wanted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shots", type=int, nargs="+", default=[5, 10, 20, 50], help="of each digit")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS), help="of the digits")
    parser.add_argument("--seeds", type=int, default=3, help="draws of shots")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "cultivar-adviser")
    parser.add_argument(
        "--part", type=int, nargs=2, default=(0, 1), metavar=("K", "N"), help="the K-th of N parts"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was seen")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = code.place(arguments.folder, Path(__file__))
    bench, log = Bench(folder), Log(folder / "cells.jsonl")
    try:
        report = Report(tuple(_all(bench, log, arguments, Bars(Console(stderr=True)))))
    except KeyboardInterrupt:
        sys.exit(130)
    except CultivarError as error:
        sys.exit(str(error))
    print(*report.lines(), "", log.account(), sep="\n")
    if arguments.json:
        document = {
            "code": folder.name,
            "figures": report.figures(),
            "cells": [asdict(each) for each in report.results],
        }
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    if not report.met():
        sys.exit(1)


def _all(bench: Bench, log: Log, arguments: argparse.Namespace, progress: Progress) -> Iterator[Result]:
    part, parts = arguments.part
    wanted = cells(arguments.shots, arguments.seeds, arguments.tasks)
    # The three trunks of a draw stay together: they share what is fitted without any.
    mine = [cell for place, cell in enumerate(wanted) if place // len(TRUNKS) % parts == part]
    # Whatever is loaded on first use is not to be counted as some technique's time.
    first = mine[0]
    _fit("lp-ft", bench.source(first), bench.dataset(first), 0)
    _minutes(bench.source(first), bench.dataset(first))
    with progress.step("cells", len(mine)) as step:
        for cell in mine:
            yield measure(bench, log, cell)
            step.advance(1, f"{cell.task}, {cell.trunk}, {cell.shots} shots")


if __name__ == "__main__":
    main()
