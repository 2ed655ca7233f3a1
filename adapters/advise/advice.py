"""Advice: the recommended technique for a source and a dataset, with reasons."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from adapters.advise.cost import Cost, costs
from adapters.advise.decision import Decision, Preference, decide, shortlist
from adapters.advise.measurements import Measurements, measure
from adapters.advise.proposal import TechniqueProposal
from adapters.advise.rules import Ruling, rule
from adapters.advise.trial import attempt, ground
from adapters.datasets.dataset import Dataset
from adapters.sources.source import Source
from adapters.techniques import Context
from registry.manifest import Json
from registry.statistics.interval import Interval

ACCURACY = "accuracy"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A technique that was considered.

    Attributes:
        proposal: the technique and its settings.
        accuracy: accuracy on left-out or validation examples, or None if not measured.
        seconds: duration of the measurement, or None.
        tried: whether it was really fitted, on a small budget, and not only estimated from features.
        cost: expected duration of the whole adaptation on this machine, or None if not measured.
    """

    proposal: TechniqueProposal
    accuracy: Interval | None
    seconds: float | None
    tried: bool
    cost: Cost | None = None

    def to_json(self) -> dict[str, Json]:
        """Return the JSON form; values that were not measured are null."""
        figure, cost = self.accuracy, self.cost
        return {
            "technique": self.proposal.technique,
            "depth": self.proposal.depth,
            "config": dict(self.proposal.settings),
            "metric": None if figure is None else round(figure.value, 4),
            "low": _end(figure, 0),
            "high": _end(figure, 1),
            "seconds": None if self.seconds is None else round(self.seconds, 3),
            "tried": self.tried,
            "expected_minutes": None if cost is None else round(cost.minutes, 2),
            "at_most": cost is not None and cost.at_most,
        }


@dataclass(frozen=True, slots=True)
class Advice:
    """A recommendation with its reasons.

    Attributes:
        source: the source's spec.
        recommended: the technique to take.
        candidates: what was considered, the recommended one first.
        negative_transfer: whether the source does harm as it is.
        reasons: why, a sentence or two each.
        measured: the measurements used by the rules.
        seconds: that the advice took.
        prefer: what decides where a more accurate technique costs more.
    """

    source: str
    recommended: TechniqueProposal
    candidates: tuple[Candidate, ...]
    negative_transfer: bool
    reasons: tuple[str, ...]
    measured: Measurements
    seconds: float
    prefer: Preference = Preference.COST

    @property
    def settings(self) -> Mapping[str, Json]:
        """The recommended technique's settings that differ from its defaults."""
        return self.recommended.settings

    def to_json(self) -> dict[str, Json]:
        """Return the JSON form."""
        return {
            "source": self.source,
            "recommended": {
                "technique": self.recommended.technique,
                "depth": self.recommended.depth,
                "config": dict(self.recommended.settings),
            },
            "candidates": [candidate.to_json() for candidate in self.candidates],
            "negative_transfer": self.negative_transfer,
            "reasons": list(self.reasons),
            "measured": _measured_json(self.measured),
            "prefer": self.prefer.value,
            "seconds": round(self.seconds, 3),
        }

    def text(self) -> str:
        """Return the advice as paragraphs."""
        measured = self.measured
        opening = (
            f"You have {measured.items} labelled items of {measured.classes} classes in {measured.data}, "
            f"{measured.rarest} of the rarest, and start from {self.source}."
        )
        take = f"Take {self.recommended}."
        if self.negative_transfer:
            take = f"This source's features are no help here. {take}"
        return "\n\n".join([f"{opening} {take}", *self.reasons])


def advise(
    source: Source,
    dataset: Dataset,
    context: Context,
    *,
    tries: bool = True,
    prefer: Preference = Preference.COST,
) -> Advice:
    """Measure a source on a dataset, apply the rules, and choose by trials and costs.

    Args:
        source: what to start from.
        dataset: what to learn; nothing but the size of its test set is used.
        context: seed, device, store and progress.
        tries: whether anything is fitted, on a small budget.
        prefer: what decides where a more accurate technique costs more.

    Raises:
        DatasetError: items are not labelled with one of two or more labels each.
        SourceUnavailable: the source's weights are not on this machine.
        AdaptationError: a trial failed.
    """
    return conclude(measure(source, dataset, context), source, dataset, context, tries=tries, prefer=prefer)


def conclude(
    measured: Measurements,
    source: Source,
    dataset: Dataset,
    context: Context,
    *,
    tries: bool = True,
    prefer: Preference = Preference.COST,
) -> Advice:
    """Turn measurements into advice; arguments and errors as in :func:`advise`."""
    start = context.clock()
    ruling = rule(measured)
    expected = costs(ruling.proposals, source, dataset, measured.seconds.get("source", 0.0), context)
    decision = _decision(ruling, expected, source, dataset, context, tries, prefer)
    return Advice(
        source=source.spec,
        recommended=decision.proposal,
        candidates=_candidates(measured, ruling, decision, expected),
        negative_transfer=ruling.negative,
        reasons=(*ruling.reasons, *decision.reasons),
        measured=measured,
        seconds=sum(measured.seconds.values()) + context.clock() - start,
        prefer=prefer,
    )


def unadvised(measured: Measurements) -> Advice:
    """Return advice from the rules alone, without costs and trials, for a source that is not ranked first."""
    ruling = rule(measured)
    decision = Decision(ruling.proposals[0], ())
    return Advice(
        source=measured.source,
        recommended=decision.proposal,
        candidates=_candidates(measured, ruling, decision, {}),
        negative_transfer=ruling.negative,
        reasons=ruling.reasons,
        measured=measured,
        seconds=sum(measured.seconds.values()),
    )


def _decision(
    ruling: Ruling,
    expected: Mapping[str, Cost],
    source: Source,
    dataset: Dataset,
    context: Context,
    tries: bool,
    prefer: Preference,
) -> Decision:
    pair = shortlist(ruling.proposals, expected, prefer)
    if pair is None:
        return Decision(ruling.proposals[0], ())
    where = ground(dataset, context.seed)
    return decide(
        pair,
        where if tries else None,
        lambda proposal, step: attempt(proposal, source, dataset, where, context, step),
        context.progress,
    )


def adapt_command(
    advice: Advice, data: str, test: str | None, min_count: int = 0
) -> tuple[str, Mapping[str, Json]]:
    """Return the command line that follows the advice, and the settings that need a file (``--config``)."""
    words = ["cultivar", "adapt", data, "--source", advice.source, "--target", "TASK"]
    words += ["--technique", advice.recommended.technique]
    if test is not None:
        words += ["--test", test]
    if min_count:
        words += ["--min-count", str(min_count)]
    if advice.recommended.depth is not None:
        words += ["--depth", str(advice.recommended.depth)]
    rest = {name: value for name, value in advice.settings.items() if name != "depth"}
    if rest:
        words += ["--config", "advice.toml"]
    return shlex.join(words), rest


def _candidates(
    measured: Measurements, ruling: Ruling, decision: Decision, expected: Mapping[str, Cost]
) -> tuple[Candidate, ...]:
    found = [
        _candidate(measured, proposal, decision, expected.get(proposal.technique))
        for proposal in ruling.proposals
    ]
    return tuple(sorted(found, key=lambda candidate: candidate.proposal != decision.proposal))


def _candidate(
    measured: Measurements, proposal: TechniqueProposal, decision: Decision, cost: Cost | None
) -> Candidate:
    for trial in decision.trials:
        if trial.proposal == proposal:
            return Candidate(proposal, trial.accuracy, trial.seconds, True, cost)
    heads = measured.seconds.get("heads")
    if proposal.technique == "frozen" and measured.last is not None:
        return Candidate(proposal, measured.last.accuracy, heads, False, cost)
    if proposal.technique == "layers" and measured.best is not None:
        return Candidate(proposal, measured.best.accuracy, heads, False, cost)
    if proposal.technique == "as-is":
        return Candidate(proposal, measured.zero_shot, measured.seconds.get("zero-shot"), False, cost)
    return Candidate(proposal, None, None, False, cost)


def _measured_json(measured: Measurements) -> dict[str, Json]:
    """Return the measurements as plain JSON values."""
    raw, random, curve = measured.raw, measured.random, measured.curve
    return {
        "items": measured.items,
        "classes": measured.classes,
        "rarest": measured.rarest,
        "judged": measured.judged,
        "cuts": [
            {
                "cut": cut.name,
                "dimension": cut.dimension,
                "logme": round(cut.evidence, 4),
                ACCURACY: _ends(cut.accuracy),
                "lead": _ends(cut.lead),
            }
            for cut in measured.cuts
        ],
        "raw": None if raw is None else {ACCURACY: _ends(raw.accuracy), "removed": _ends(raw.removed)},
        "random": None
        if random is None
        else {ACCURACY: _ends(random.accuracy), "removed": _ends(random.removed)},
        "zero_shot": None if measured.zero_shot is None else _ends(measured.zero_shot),
        "curve": None
        if curve is None
        else {
            "items": list(curve.items),
            ACCURACY: [round(value, 4) for value in curve.accuracy],
            "slope": None if curve.slope is None else _ends(curve.slope),
        },
        "distance": "unknown" if measured.distance is None else round(measured.distance, 4),
        "seconds": {name: round(spent, 3) for name, spent in measured.seconds.items()},
    }


def _ends(figure: Interval) -> list[Json]:
    return [round(figure.value, 4), _end(figure, 0), _end(figure, 1)]


def _end(figure: Interval | None, which: int) -> float | None:
    """Return an end of an interval, or None."""
    return None if figure is None or figure.ends is None else round(figure.ends[which], 4)
