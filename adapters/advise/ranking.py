"""Ranking of several sources for one dataset, most promising first."""

from collections.abc import Sequence

from adapters.advise.advice import Advice, conclude, unadvised
from adapters.advise.decision import Preference
from adapters.advise.measurements import Measurements, measure
from adapters.datasets import Dataset, load
from adapters.preflight import check_data
from adapters.sources.source import Source
from adapters.sources.verifier import Verifier
from adapters.techniques import Context
from registry.progress import Progress


def advise_all(
    sources: Sequence[Source],
    data: str,
    *,
    test: str | None,
    seed: int,
    tries: bool,
    progress: Progress,
    min_count: int = 0,
    verifier: Verifier | None = None,
    prefer: Preference = Preference.COST,
) -> list[Advice]:
    """Advise on each source; costs are measured and techniques tried with the most promising one alone.

    Ranked by the accuracy of a head on the last cut, and the cut's evidence (LogME) where that is equal.

    Args:
        sources: one or more.
        data: a folder, a table or ``example:NAME``.
        test: data to hold out, or None.
        seed: the random seed.
        tries: whether anything is tried at all.
        progress: shows the progress.
        min_count: labels that fewer items have are dropped; 0 keeps all.
        verifier: holds the sources against their providers' own code; None does so in every run.
        prefer: what decides where a more accurate technique costs more.

    Raises:
        CultivarError: the data cannot be used, weights are not on this machine, or a trial failed.
    """
    context = Context(seed=seed, progress=progress)
    verifier = verifier or Verifier(progress=progress)
    for source in sources:
        check_data(data, test, source)
        # Missing weights are detected now, not after the other sources have been measured.
        with progress.step(f"loading {source.spec}"):
            source.load()
        verifier.verify(source)
    found: list[tuple[Source, Dataset, Measurements]] = []
    for source in sources:
        for remark in source.remarks():
            progress.say(remark)
        dataset = load(data, source.recipe, test=test, min_count=min_count, progress=progress)
        found.append((source, dataset, measure(source, dataset, context)))
    found.sort(key=lambda each: _promise(each[2]), reverse=True)
    return [
        conclude(measured, source, dataset, context, tries=tries, prefer=prefer)
        if place == 0
        else unadvised(measured)
        for place, (source, dataset, measured) in enumerate(found)
    ]


def _promise(measured: Measurements) -> tuple[float, float]:
    """Return what sources are ranked by."""
    last = measured.last
    return (0.0, 0.0) if last is None else (last.accuracy.value, last.evidence)
