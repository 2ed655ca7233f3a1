"""The choice between proposals: the one that is shown to be better, or else the cheaper one.

A more expensive technique is chosen only if it is shown to be better: the lower end of the paired difference
of accuracies, on the same validation examples, is above 0. Trials that cannot show that are skipped. With
similar costs the squared error decides, which is more informative than right and wrong.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from adapters.advise.cost import Cost
from adapters.advise.intervals import above, below, removed
from adapters.advise.phrases import difference as points
from adapters.advise.phrases import minutes, percent, share
from adapters.advise.proposal import TechniqueProposal
from adapters.advise.trial import Ground, Trial
from registry.progress import Progress, ProgressStep
from registry.statistics.difference import difference
from registry.statistics.interval import Interval

MARGIN_MINUTES = 1.0
"""Costs closer than this are similar: estimates are right to a factor of two, and a minute does not matter."""

MOST_TRIAL_MINUTES = 2.0
"""Longest trial if cost is preferred."""

NEAR = 0.01
"""Accuracies closer than a point are a tie."""


class Preference(StrEnum):
    """What decides where a more accurate technique costs more.

    Attributes:
        COST: the cheaper one is chosen, unless the more expensive one is shown to be better.
        ACCURACY: costs are ignored.
    """

    COST = "cost"
    ACCURACY = "accuracy"


@dataclass(frozen=True, slots=True)
class Decision:
    """A choice and its reasons.

    Attributes:
        proposal: the chosen proposal.
        reasons: one or two sentences each, with the criterion and its values.
        trials: the trials, in order.
    """

    proposal: TechniqueProposal
    reasons: tuple[str, ...]
    trials: tuple[Trial, ...] = ()


@dataclass(frozen=True, slots=True)
class Pair:
    """Two proposals to choose from.

    Attributes:
        first: the proposal that the rules prefer.
        second: the other proposal.
        costs: what each is expected to take.
        prefer: what decides where a more accurate technique costs more.
        margin: minutes up to which costs are alike.
    """

    first: TechniqueProposal
    second: TechniqueProposal
    costs: tuple[Cost, Cost]
    prefer: Preference
    margin: float = MARGIN_MINUTES

    @property
    def cheaper(self) -> TechniqueProposal | None:
        """The one that is cheaper by the margin; None if costs are similar or ignored."""
        mine, other = (each.minutes for each in self.costs)
        if self.prefer is Preference.ACCURACY or abs(mine - other) <= self.margin:
            return None
        return self.first if mine < other else self.second

    @property
    def costlier(self) -> TechniqueProposal | None:
        """The other one; None if costs are similar or ignored."""
        cheaper = self.cheaper
        return None if cheaper is None else self.second if cheaper is self.first else self.first

    def cost(self, proposal: TechniqueProposal) -> Cost:
        """Return the expected cost of one of the two."""
        return self.costs[0] if proposal is self.first else self.costs[1]


Attempt = Callable[[TechniqueProposal, ProgressStep], Trial]
"""Runs a trial of a proposal, and advances a step by 1."""


def shortlist(
    proposals: Sequence[TechniqueProposal],
    costs: Mapping[str, Cost],
    prefer: Preference,
    margin: float = MARGIN_MINUTES,
) -> Pair | None:
    """Return the two proposals to choose from; None if there is only one.

    They are the rules' first two. If cost is preferred and a third proposal is cheaper than both by the
    margin, it replaces the second, so that an expensive proposal is always compared with a cheap one.

    Args:
        proposals: the rules' order, at least one.
        costs: what each is expected to take, by its technique's name.
        prefer: what decides where a more accurate technique costs more.
        margin: minutes up to which costs are alike.
    """
    if len(proposals) < 2:
        return None
    first, second = proposals[:2]
    cheapest = min(proposals, key=lambda each: costs[each.technique].minutes)
    least = min(costs[each.technique].minutes for each in (first, second))
    if prefer is Preference.COST and least - costs[cheapest.technique].minutes > margin:
        second = cheapest
    return Pair(first, second, (costs[first.technique], costs[second.technique]), prefer, margin)


def decide(pair: Pair, where: Ground | None, attempt: Attempt, progress: Progress) -> Decision:
    """Try the two proposals if the result can matter, and choose.

    Args:
        pair: what to choose from.
        where: the examples of the trials; None for no trials.
        attempt: runs a trial.
        progress: shows the progress.

    Raises:
        CultivarError: a trial failed.
    """
    if where is None or not len(where.judged):
        return _untried(pair, "nothing was tried")
    cheaper, costlier = pair.cheaper, pair.costlier
    if cheaper is None or costlier is None:
        with progress.step("trying the two best", 2) as step:
            first = attempt(pair.first, step)
            return compare(pair, first, attempt(pair.second, step), len(where.learnt))
    expected = pair.cost(costlier).trial / 60
    if expected > MOST_TRIAL_MINUTES:
        return _untried(
            pair,
            f"{costlier} was not tried, because a trial of it would take about {minutes(expected)} and "
            f"{minutes(MOST_TRIAL_MINUTES)} is the most where cost counts",
        )
    with progress.step("trying the two best", 2) as step:
        cheap = attempt(cheaper, step)
        wrong = int((~cheap.right).sum())
        if not above(_flawless(cheap), 0):
            return Decision(
                cheaper,
                (
                    f"{_tried(cheap, len(where.learnt))} It is wrong on {wrong} of {len(cheap.right)}: even {costlier} "
                    f"without a mistake would be better by {points(_flawless(cheap))}, an interval that holds 0, so "
                    f"that it was not tried. {_times(pair)} Taken: {cheaper}.",
                ),
                (cheap,),
            )
        expensive = attempt(costlier, step)
    first, second = (cheap, expensive) if cheaper is pair.first else (expensive, cheap)
    return compare(pair, first, second, len(where.learnt))


def compare(pair: Pair, first: Trial, second: Trial, learnt: int) -> Decision:
    """Choose by two trials on the same examples.

    Args:
        pair: what to choose from.
        first: the trial of its first.
        second: the trial of its second.
        learnt: examples that both learnt from.
    """
    tried = (
        f"Tried on {len(first.right)} validation examples, after learning from {learnt} on a short schedule: "
        f"{first.proposal} {percent(first.accuracy)}, {second.proposal} {percent(second.accuracy)}."
    )
    taken, why = (_by_cost if pair.cheaper is not None else _by_error)(pair, first, second)
    return Decision(taken, (f"{tried} {why} Taken: {taken}.",), (first, second))


def _by_cost(pair: Pair, first: Trial, second: Trial) -> tuple[TechniqueProposal, str]:
    """Choose the more expensive one if the interval of its lead in accuracy is above 0, else the cheaper one."""
    cheap, expensive = (first, second) if first.proposal is pair.cheaper else (second, first)
    lead = difference(expensive.right, cheap.right, expensive.groups)
    shown = f"By accuracy, {expensive.proposal} is {points(lead)} against {cheap.proposal}"
    if above(lead, 0):
        return expensive.proposal, f"{shown}: more than the interval. {_times(pair)}"
    return (
        cheap.proposal,
        f"{shown}: {_undecided(lead)}, so the more expensive one is not shown to be better. {_times(pair)}",
    )


def _by_error(pair: Pair, first: Trial, second: Trial) -> tuple[TechniqueProposal, str]:
    """Take the one with less squared error where chance does not explain it and it is a point ahead.

    Within a point it is a tie: the one that retrains less is taken. Else the rules' order stands; but where accuracy is
    preferred, the one that is ahead.
    """
    lead = difference(second.right, first.right, first.groups)
    saved = removed(second.errors, first.errors, first.groups)
    by_accuracy = f"by accuracy {points(lead)}"
    by_error = f"By squared error, {second.proposal} does without {share(saved)} of {first.proposal}'s"
    for trial, shown in (
        (second, above(saved, 0) and lead.value >= NEAR),
        (first, below(saved, 0) and lead.value <= -NEAR),
    ):
        if shown:
            return trial.proposal, f"{by_error}: {_side(saved)}; {by_accuracy}. That decides."
    compared = f"{by_error}; {by_accuracy}."
    if abs(lead.value) < NEAR:
        lighter = min((first, second), key=lambda trial: trial.proposal.retrained).proposal
        if first.proposal.retrained != second.proposal.retrained:
            return lighter, f"{compared} Within a point it is a tie, and {lighter} retrains less."
        return pair.first, f"{compared} Within a point it is a tie, and the rules put {pair.first} first."
    if pair.prefer is Preference.ACCURACY:
        ahead = (second if lead.value > 0 else first).proposal
        return ahead, f"{compared} Chance may explain that; accuracy is preferred, and {ahead} is ahead."
    return pair.first, f"{compared} Chance may explain that, and the rules put {pair.first} first."


def _untried(pair: Pair, why: str) -> Decision:
    cheaper, costlier = pair.cheaper, pair.costlier
    if cheaper is None or costlier is None:
        return Decision(pair.first, ())
    text = (
        f"{why[0].upper()}{why[1:]}; no figure shows that {costlier} is better than {cheaper}. {_times(pair)} "
        f"Taken: {cheaper}."
    )
    return Decision(cheaper, (text,))


def _tried(trial: Trial, learnt: int) -> str:
    return (
        f"Tried on {len(trial.right)} validation examples, after learning from {learnt} on a short schedule: "
        f"{trial.proposal} {percent(trial.accuracy)}."
    )


def _flawless(trial: Trial) -> Interval:
    """Return the lead of a perfect model on the same examples."""
    return difference(trial.right | True, trial.right, trial.groups)


def _times(pair: Pair) -> str:
    cheaper, costlier = pair.cheaper, pair.costlier
    assert cheaper is not None and costlier is not None, "only called where one is costlier"
    more, less = pair.cost(costlier), pair.cost(cheaper)
    most = "up to " if more.at_most else "about "
    return f"{costlier} would take {most}{minutes(more.minutes)} instead of {minutes(less.minutes)}."


def _undecided(interval: Interval) -> str:
    return "the interval holds 0" if interval.decidable else f"not decidable ({interval.reason})"


def _side(interval: Interval) -> str:
    return "the interval does not hold 0" if not interval.holds(0) else _undecided(interval)
