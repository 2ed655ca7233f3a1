"""Advice: what to do with a source and a dataset, and why, as a colleague would put it."""

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapters.advise.interval import Interval
from adapters.advise.measurements import Measurements, measure
from adapters.advise.proposal import Proposal
from adapters.advise.rules import Ruling, percent, points, rule
from adapters.advise.verification import Trial, Verification, verify
from adapters.datasets.dataset import Dataset
from adapters.sources.source import Source
from adapters.techniques import Workshop
from registry.manifest import Json

ACCURACY = "accuracy"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A technique that was considered.

    Attributes:
        proposal: the technique and its settings.
        accuracy: on items left out or kept for judging, or None where it was not measured.
        seconds: that measuring it took, or None.
        tried: whether it was fitted for real, on a small budget, rather than read off the features.
    """

    proposal: Proposal
    accuracy: Interval | None
    seconds: float | None
    tried: bool

    def to_json(self) -> dict[str, Json]:
        """Return the JSON form; figures that were not measured are null."""
        figure = self.accuracy
        return {
            "technique": self.proposal.technique,
            "depth": self.proposal.depth,
            "config": dict(self.proposal.settings),
            "metric": None if figure is None else round(figure.value, 4),
            "low": None if figure is None else round(figure.low, 4),
            "high": None if figure is None else round(figure.high, 4),
            "seconds": None if self.seconds is None else round(self.seconds, 3),
            "tried": self.tried,
        }


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do.

    Attributes:
        source: the source's spec.
        recommended: the technique to take.
        candidates: what was considered, the recommended one first.
        negative_transfer: whether the source does harm as it is.
        reasons: why, a sentence or two each.
        measured: every figure that the rules read.
        seconds: that the advice took.
    """

    source: str
    recommended: Proposal
    candidates: tuple[Candidate, ...]
    negative_transfer: bool
    reasons: tuple[str, ...]
    measured: Measurements
    seconds: float

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
            "measured": _figures(self.measured),
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
            take = f"Do not rely on this source's features. {take}"
        return "\n\n".join([f"{opening} {take}", *self.reasons])


def advise(source: Source, dataset: Dataset, workshop: Workshop, *, tries: bool = True) -> Advice:
    """Measure a source on a dataset, apply the rules, and try the two best.

    Args:
        source: what to start from.
        dataset: what to learn; its test part is not looked at.
        workshop: seed, device, store and whoever watches.
        tries: whether the two best are fitted, on a small budget.

    Raises:
        DatasetError: items are not labelled with one of two or more labels each.
        SourceUnavailable: the source's weights are not at hand.
        AdaptationError: a trial failed.
    """
    return conclude(measure(source, dataset, workshop), source, dataset, workshop, tries=tries)


def conclude(
    measured: Measurements, source: Source, dataset: Dataset, workshop: Workshop, *, tries: bool = True
) -> Advice:
    """Go from measurements to advice; arguments and errors as of :func:`advise`."""
    start = time.perf_counter()
    ruling = rule(measured)
    verification = verify(ruling.proposals, source, dataset, workshop) if tries else None
    recommended = verification.winner.proposal if verification is not None else ruling.proposals[0]
    reasons = [*ruling.reasons, *([_tried(verification)] if verification is not None else [])]
    return Advice(
        source=source.spec,
        recommended=recommended,
        candidates=_candidates(measured, ruling, verification, recommended),
        negative_transfer=ruling.negative,
        reasons=tuple(reasons),
        measured=measured,
        seconds=sum(measured.seconds.values()) + time.perf_counter() - start,
    )


def adapt_command(
    advice: Advice, data: str, test: str | None, min_count: int = 0
) -> tuple[str, Mapping[str, Json]]:
    """Return the command line that follows the advice, and settings that only a file can say (``--config``)."""
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


def _tried(verification: Verification) -> str:
    """Say how the two best compare."""
    first, second, winner = verification.first, verification.second, verification.winner
    better = second if winner is second else first
    compared = (
        f"Tried on {len(first.right)} items that neither learnt from ({verification.learnt} to learn, a short "
        f"schedule): {first.proposal} {percent(first.accuracy)}, {second.proposal} {percent(second.accuracy)}; the "
        f"second against the first {points(verification.lead)}."
    )
    if verification.clear:
        return f"{compared} {better.proposal.technique} is clearly better."
    if verification.tied and first.proposal.retrained != second.proposal.retrained:
        return f"{compared} That is a tie, so take the one that retrains less: {better.proposal.technique}."
    return f"{compared} That settles nothing, so the order of the rules stands: {better.proposal.technique}."


def _candidates(
    measured: Measurements, ruling: Ruling, verification: Verification | None, recommended: Proposal
) -> tuple[Candidate, ...]:
    trials: Sequence[Trial] = (verification.first, verification.second) if verification is not None else ()
    found = [_candidate(measured, proposal, trials) for proposal in ruling.proposals]
    return tuple(sorted(found, key=lambda candidate: candidate.proposal != recommended))


def _candidate(measured: Measurements, proposal: Proposal, trials: Sequence[Trial]) -> Candidate:
    for trial in trials:
        if trial.proposal == proposal:
            return Candidate(proposal, trial.accuracy, trial.seconds, True)
    heads = measured.seconds.get("heads")
    if proposal.technique == "frozen" and measured.last is not None:
        return Candidate(proposal, measured.last.accuracy, heads, False)
    if proposal.technique == "layers" and measured.best is not None:
        return Candidate(proposal, measured.best.accuracy, heads, False)
    if proposal.technique == "as-is":
        return Candidate(proposal, measured.zero_shot, measured.seconds.get("zero-shot"), False)
    return Candidate(proposal, None, None, False)


def _figures(measured: Measurements) -> dict[str, Json]:
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
    return [round(figure.value, 4), round(figure.low, 4), round(figure.high, 4)]
