"""Whether the adviser spends minutes on short texts that they do not repay: ``python -m benchmarks.adviser_texts``.

480 descriptions of Debian packages and the bundled sentence encoder, two to six labels. Every technique is fitted with
the same budget and measured on 480 others; the adviser is asked, who sees the 480 alone. Seconds are of CPU, on one
thread. What is known is kept in a folder: an interrupted run goes on where it was.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from adapters.advise.measurements import measure
from adapters.advise.trial import logits
from adapters.datasets import TEST, TRAIN, VALIDATION, Dataset, load
from adapters.sources.bundled import MINILM
from adapters.sources.providers import find
from adapters.sources.source import Source
from adapters.techniques import Context, technique
from benchmarks import code, packages, policies
from benchmarks.adviser import BATCH, TUNED_STEPS
from benchmarks.cells import Cell, Log
from registry.errors import CultivarError
from registry.manifest import Json

LABELS = (2, 4, 6)

POLICIES: Mapping[str, tuple[str, Mapping[str, Json]]] = {
    "frozen": ("frozen", {}),
    "lora": ("lora", {}),
    "lp-ft": ("lp-ft", {}),
}
"""What the rules put forward for texts of this number."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--labels", type=int, nargs="+", default=LABELS, help="of the texts")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "cultivar-adviser-texts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was seen")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = code.place(arguments.folder, Path(__file__))
    log = Log(folder / "cells.jsonl")
    seen: list[dict[str, Json]] = []
    outcomes = []
    try:
        for labels in arguments.labels:
            accuracy, minutes, advice = _cell(folder, log, labels)
            found = policies.outcomes(accuracy, minutes, advice)
            outcomes.append(found)
            seen.append(
                {"labels": labels, "accuracy": dict(accuracy), "minutes": dict(minutes), "advice": advice}
            )
            _show(labels, accuracy, minutes, advice)
    except KeyboardInterrupt:
        sys.exit(130)
    except CultivarError as error:
        sys.exit(str(error))
    print(*policies.rows(outcomes), "", log.account(), sep="\n")
    if arguments.json:
        arguments.json.write_text(json.dumps({"code": folder.name, "cells": seen}, indent=1) + "\n")


def _cell(folder: Path, log: Log, labels: int) -> tuple[dict[str, float], dict[str, float], dict[str, Json]]:
    """Return the accuracy of every policy, its minutes, and what the adviser says."""
    source = find(MINILM)
    learnt, tested = packages.write(folder, labels)
    dataset = load(str(learnt), source.recipe, test=str(tested))
    cell = Cell("packages", "minilm", packages.LEARNT // labels, 0)
    shown = dataset.divided({part: dataset.index(part) for part in (TRAIN, VALIDATION)})
    advice = log.once(cell, "advice", partial(_ask, source, shown))
    minutes = log.once(
        cell, "minutes", lambda: policies.expected_minutes(POLICIES, source, shown, _workshop())
    )
    accuracy = {
        name: float(log.once(cell, name, partial(_fit, name, source, dataset))["accuracy"])
        for name in POLICIES
    }
    return accuracy, minutes, advice


def _ask(source: Source, shown: Dataset) -> dict[str, Json]:
    context = _workshop()
    return policies.ask(measure(source, shown, context), source, shown, context)


def _fit(name: str, source: Source, dataset: Dataset) -> dict[str, Json]:
    kind, settings = POLICIES[name]
    if kind != "frozen":
        count = len(dataset.index(TRAIN))
        settings = {**settings, "epochs": math.ceil(TUNED_STEPS / math.ceil(count / BATCH))}
    start = time.process_time()
    fitted = technique(kind, settings).fit(source, dataset, _workshop())
    seconds = time.process_time() - start
    index = dataset.index(TEST)
    best = logits(fitted, dataset, index, torch.device("cpu")).argmax(axis=1)
    right = best == dataset.targets(index, fitted.labels)
    return {"accuracy": float(right.mean()), "seconds": seconds}


def _workshop() -> Context:
    return Context(device=torch.device("cpu"), clock=time.process_time)


def _show(
    labels: int,
    accuracy: Mapping[str, float],
    minutes: Mapping[str, float],
    advice: Mapping[str, Any],
) -> None:
    print(f"\n{labels} labels\n\n| | accuracy on the test set | expected minutes |\n|---|---|---|")
    for name in accuracy:
        print(f"| {name} | {100 * accuracy[name]:.1f} % | {minutes[name]:.1f} |")
    print()
    for name, each in advice.items():
        print(f"{name}: {each['policy']}. {' '.join(each['reasons'])}\n")


if __name__ == "__main__":
    main()
