"""From measurements to a ranking of techniques, by small rules that explain themselves.

A rule checks the measurements and returns a finding or None. The order of the rules ranks the proposals: the
first finding's proposals are recommended, followed by those of later findings.
"""

from collections.abc import Callable
from dataclasses import dataclass

from adapters.advise.intervals import above
from adapters.advise.measurements import Measurements
from adapters.advise.phrases import difference as points
from adapters.advise.phrases import percent, share
from adapters.advise.proposal import TechniqueProposal
from adapters.techniques import TECHNIQUES

LEAST_REMOVED = 0.10
"""Least share of random weights' squared error that a useful trunk removes. ``benchmarks.adviser`` chooses
0.1 to 0.15, whichever of its tasks is left out; 0.02 misses few more bad trunks (docs/advice.md).
"""

FEW_A_CLASS = 10
"""Items a class up to which a head alone is fitted: below it a frozen trunk leads fine-tuning (Kumar et al., 2022, and
this project's comparison in docs/glyphs.md)."""

MANY_A_CLASS = 50
"""Items a class from which every stage may be retrained (docs/glyphs.md: there tuning overtakes the frozen trunk)."""

FLAT = 0.01
"""Gain in accuracy by the last doubling of the items below which the learning curve is flat: one point."""

LARGE = 20_000
"""Items from which BiT's schedules leave the few-shot regime (Kolesnikov et al., "Big Transfer", 2020)."""

FAR = 1.0
"""Proxy A-distance from which a dataset is far from what the source learnt: half of all items can be told apart."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a rule.

    Attributes:
        text: one or two sentences with the measurements.
        proposals: the resulting proposals, best first.
        negative: whether the source does harm as it is.
    """

    text: str
    proposals: tuple[TechniqueProposal, ...] = ()
    negative: bool = False


@dataclass(frozen=True, slots=True)
class Ruling:
    """The combined result of all rules.

    Attributes:
        proposals: the best first, each technique once.
        negative: whether the source does harm as it is.
        reasons: the findings' texts, in order.
    """

    proposals: tuple[TechniqueProposal, ...]
    negative: bool
    reasons: tuple[str, ...]


def rule(measured: Measurements) -> Ruling:
    """Apply every rule, in order."""
    findings = [finding for each in RULES if (finding := each(measured)) is not None]
    proposals: dict[str, TechniqueProposal] = {}
    for finding in findings:
        for proposal in finding.proposals:
            if proposal.technique in TECHNIQUES:
                proposals.setdefault(proposal.technique, proposal)
    return Ruling(
        tuple(proposals.values()),
        any(finding.negative for finding in findings),
        tuple(finding.text for finding in findings),
    )


def negative_transfer(measured: Measurements) -> Finding | None:
    """Flag a source whose features are not shown to beat raw inputs, or hardly beat those of random weights."""
    last, raw, random = measured.last, measured.raw, measured.random
    if last is None or raw is None or random is None:
        return None
    loses = raw.removed.decidable and not above(raw.removed, 0)
    empty = random.removed.value < LEAST_REMOVED
    against = (
        f"A head on the source's last cut answers {percent(last.accuracy)} of left-out items rightly, one on raw "
        f"inputs {percent(raw.accuracy)}: {points(raw.lead)}, {share(raw.removed)} of its squared error removed. "
        f"The same network with random weights reaches {percent(random.accuracy)}, and the source removes "
        f"{share(random.removed)} of that error."
    )
    if not loses and not empty:
        if not raw.removed.decidable:
            return Finding(f"Whether the source helps is not decidable: {raw.removed.reason}. {against}")
        return Finding(f"By squared error, the source helps. {against}")
    why = " and ".join(
        [
            *(["by squared error its features are not shown to be better than raw inputs"] if loses else []),
            *([f"they remove less than {LEAST_REMOVED:.0%} of what random weights leave"] if empty else []),
        ]
    )
    scratch, full = (
        TechniqueProposal("scratch", retrained=measured.depths),
        TechniqueProposal("full", retrained=measured.depths),
    )
    way_out: tuple[TechniqueProposal, ...] = (scratch, full) if loses else (full, scratch)
    middle, best = _useful_middle(measured), measured.best
    if middle is not None and best is not None and above(best.accuracy, raw.accuracy.value):
        way_out = (way_out[0], middle, way_out[1])
    return Finding(
        f"Negative transfer: as it is, the source is no help here, for {why}. {against} Look for another source; "
        "retrain all of it, or its architecture from nothing; or take a middle layer where one is named below.",
        way_out,
        negative=True,
    )


def own_predictions(measured: Measurements) -> Finding | None:
    """Where the source knows the labels and answers as well as a new head, train nothing."""
    zero, last = measured.zero_shot, measured.last
    if zero is None:
        return None
    text = f"The source knows these labels and answers {percent(zero)} rightly without any training"
    if last is not None and zero.value < last.accuracy.value:
        return Finding(f"{text}, less than a new head ({percent(last.accuracy)}).")
    head = "" if last is None else f", no less than a new head ({percent(last.accuracy)})"
    return Finding(f"{text}{head}.", (TechniqueProposal("as-is"),))


def one_example(measured: Measurements) -> Finding | None:
    """With a single item of a class, nothing can be left out, and only class means can be trusted."""
    if measured.judged:
        return None
    return Finding(
        "A class has a single item, so no item can be left out to measure anything: a head that goes by class means "
        "is the safest. A second item of each class would let this advice rest on figures.",
        (
            TechniqueProposal("frozen", {"head": "centroid"}),
            TechniqueProposal("lp-ft", retrained=measured.depths),
        ),
    )


def middle_layer(measured: Measurements) -> Finding | None:
    """Where a middle cut beats the last by more than the interval, use it, or retrain what lies above it."""
    middle = _useful_middle(measured)
    best = measured.best
    if middle is None or best is None:
        return None
    above = sum(cut.boundary > best.boundary for cut in measured.cuts)
    return Finding(
        f"The middle of the network is better than its end: features after {best.name} give {percent(best.accuracy)}, "
        f"{points(best.lead)} over the last cut.",
        (middle, TechniqueProposal("partial", {"depth": above}, retrained=above)),
    )


def amount(measured: Measurements) -> Finding | None:
    """Few items, or a flat curve: a head; more on a rising curve: retrain, the more the more there are."""
    typical, curve = measured.typical, measured.curve
    if not measured.judged:
        return None
    frozen, tuned = _frozen(measured), TechniqueProposal("lp-ft", retrained=measured.depths)
    slope = curve.slope if curve is not None else None
    grown = (
        f"the last doubling of the items brought {points(slope)}"
        if slope is not None
        else "too few to see whether more would help"
    )
    items = f"There are {measured.items} items, {typical:g} of a typical class; {grown}."
    if typical <= FEW_A_CLASS:
        pairs = (
            (TechniqueProposal("contrastive", retrained=measured.depths),)
            if measured.modality == "text"
            else ()
        )
        return Finding(
            f"{items} Up to {FEW_A_CLASS} a class, a head on the frozen source is hard to beat.",
            (frozen, *pairs, tuned),
        )
    if slope is not None and slope.value < FLAT:
        return Finding(
            f"{items} The curve is flat: retraining has little to win, and a head is cheap.", (frozen, tuned)
        )
    if measured.items >= LARGE:
        full = TechniqueProposal("full", retrained=measured.depths)
        return Finding(f"{items} From {LARGE:,} items on, retrain everything.", (full, tuned, frozen))
    if typical <= MANY_A_CLASS and measured.layered:
        return Finding(
            f"{items} The curve rises: low-rank updates of a transformer keep what it knows.",
            (TechniqueProposal("lora", retrained=measured.depths), tuned, frozen),
        )
    return Finding(
        f"{items} The curve rises: solve a head first, then retrain the stages gently under it.",
        (tuned, frozen, TechniqueProposal("full", retrained=measured.depths)),
    )


def distance(measured: Measurements) -> Finding | None:
    """Say how far the dataset lies from what the source learnt, where the source tells."""
    if measured.distance is None:
        return None
    far = measured.distance >= FAR
    return Finding(
        f"In the source's features, these items are {measured.distance:.2f} from what it learnt on (0 alike, 2 apart): "
        f"{'far, and still the figures above decide' if far else 'near'}."
    )


RULES: tuple[Callable[[Measurements], Finding | None], ...] = (
    negative_transfer,
    own_predictions,
    one_example,
    middle_layer,
    amount,
    distance,
)
"""The rules, in order of priority."""


def _frozen(measured: Measurements) -> TechniqueProposal:
    return TechniqueProposal("frozen", {"head": "centroid"} if measured.rarest <= 2 else {})


def _useful_middle(measured: Measurements) -> TechniqueProposal | None:
    """Return a head on the most useful cuts, which it finds, where one beats the last by more than the interval."""
    best, last = measured.best, measured.last
    if best is None or last is None or best.boundary == last.boundary or not above(best.lead, 0):
        return None
    return TechniqueProposal("layers")
