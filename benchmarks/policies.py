"""What policies of choosing a technique come to: regret in points, and minutes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from adapters.advise.cost import Cost, costs
from adapters.advise.decision import MARGIN_MINUTES, Preference, decide, shortlist
from adapters.advise.measurements import Measurements
from adapters.advise.proposal import TechniqueProposal
from adapters.advise.rules import rule
from adapters.advise.trial import Trial, attempt, ground
from adapters.datasets import Dataset
from adapters.sources.source import Source
from adapters.techniques import Context
from registry.manifest import Json
from registry.progress import ProgressStep

COST, STRICT, ACCURACY = "adviser", "adviser, every second counts", "adviser, --prefer accuracy"
CHOICES: Mapping[str, tuple[Preference, float]] = {
    COST: (Preference.COST, MARGIN_MINUTES),
    STRICT: (Preference.COST, 0.0),
    ACCURACY: (Preference.ACCURACY, MARGIN_MINUTES),
}
"""The adviser's two preferences, and what the first would be without its margin of a minute."""

EVERYTHING = "the best in hindsight, everything fitted"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a policy came to in one cell.

    Attributes:
        regret: points of accuracy that the best technique is ahead.
        minutes: that advice and adaptation take.
    """

    regret: float
    minutes: float


def ask(measured: Measurements, source: Source, dataset: Dataset, context: Context) -> dict[str, Json]:
    """Return what each preference of the adviser chooses, and the seconds that choosing took; trials are shared.

    Args:
        measured: the source on the dataset.
        source: what to start from.
        dataset: the shots alone.
        context: whose clock counts.
    """
    ruling = rule(measured)
    start = context.clock()
    expected = costs(ruling.proposals, source, dataset, measured.seconds["source"], context)
    timing = context.clock() - start
    where = ground(dataset, context.seed)
    known: dict[str, Trial] = {}
    found: dict[str, Json] = {}
    for name, (prefer, margin) in CHOICES.items():
        used: list[str] = []

        def tried(proposal: TechniqueProposal, step: ProgressStep, used: list[str] = used) -> Trial:
            used.append(proposal.technique)
            if proposal.technique not in known:
                known[proposal.technique] = attempt(proposal, source, dataset, where, context)
            return known[proposal.technique]

        pair = shortlist(ruling.proposals, expected, prefer, margin)
        assert pair is not None, "the rules put forward two or more"
        decision = decide(pair, where, tried, context.progress)
        spent = sum(measured.seconds.values()) + timing + sum(known[each].seconds for each in used)
        found[name] = {
            "policy": str(decision.proposal.technique)
            + ("" if decision.proposal.depth is None else f" {decision.proposal.depth}"),
            "seconds": spent,
            "tried": list(used),
            "reasons": list(decision.reasons),
            "expected": {each: cost.minutes for each, cost in expected.items()},
        }
    return found


def expected_minutes(
    policies: Mapping[str, tuple[str, Mapping[str, Json]]],
    source: Source,
    dataset: Dataset,
    context: Context,
) -> dict[str, float]:
    """Return the minutes of every fixed policy, as the adviser expects them.

    Args:
        policies: the technique of each and its settings.
        source: what to start from.
        dataset: what to learn.
        context: whose clock counts.
    """
    found: dict[str, float] = {}
    for name, (kind, settings) in policies.items():
        cost: Cost = costs([TechniqueProposal(kind, settings)], source, dataset, 0.0, context)[kind]
        found[name] = cost.minutes
    return found


def outcomes(
    accuracy: Mapping[str, float], minutes: Mapping[str, float], advice: Mapping[str, Any]
) -> dict[str, Outcome]:
    """Return what every policy comes to in a cell: the adviser's, each technique always, and all of them.

    Args:
        accuracy: of each technique, on the test set.
        minutes: that each takes.
        advice: what the adviser chose, by preference, and its seconds.
    """
    best = max(accuracy.values())
    found = {
        name: Outcome(
            100 * (best - accuracy[str(each["policy"])]),
            minutes[str(each["policy"])] + float(each["seconds"]) / 60,
        )
        for name, each in advice.items()
    }
    found |= {f"always {name}": Outcome(100 * (best - accuracy[name]), minutes[name]) for name in accuracy}
    return found | {EVERYTHING: Outcome(0.0, sum(minutes.values()))}


def rows(cells: Sequence[Mapping[str, Outcome]]) -> Iterator[str]:
    """Write the policies' means as a table, in Markdown."""
    yield "| policy | mean regret, points | 90th percentile | worst | minutes a task |\n|---|---|---|---|---|"
    for name in cells[0]:
        mine = [cell[name] for cell in cells]
        regrets = [each.regret for each in mine]
        yield (
            f"| {name} | {fmean(regrets):.2f} | {np.quantile(regrets, 0.9):.2f} | {max(regrets):.2f} | "
            f"{fmean(each.minutes for each in mine):.2f} |"
        )
