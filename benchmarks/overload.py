"""Far more requests than can be answered: ``python -m benchmarks.overload``.

The most that a closed loop gets answered is the peak. Then requests come on their own, whatever the
server does: twice the peak, ten times the peak, and between and after them half of it. What each figure
means is in ``benchmarks/README.md``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import prepared, verdict
from benchmarks.contender import PICTURES, Contender, cultivar, say
from benchmarks.experiment import Experiment
from benchmarks.machine import describe
from benchmarks.openloop import BROKEN, Phase, Records, Running
from benchmarks.spread import Spread, quantile
from benchmarks.table import table
from benchmarks.verdict import Verdict
from benchmarks.watch import Watch
from registry.runtime import cpu_quota

TARGET = "photographs"
CONNECTIONS = 32
"""Of the closed loop that finds the peak."""
TIMES = (2.0, 10.0)
EASY = 0.5
"""The load before, between and after, in peaks."""
EASY_S = 8.0
DEADLINE_S = 5.0
GOODPUT_AIM = 0.90
REFUSAL_AIM_MS = 100.0
MEMORY_AIM = 1.05
RECOVERY_AIM_S = 1.0
_REFUSED = (429, 503)
_LATE = 504
_BIN_S = 0.25
_CALM_BINS = 3
"""So many in a row are calm where the server has recovered."""


@dataclass(frozen=True, slots=True)
class Flood:
    """What was seen under one overload.

    Attributes:
        times: how many times the peak was asked for.
        offered: requests a second that came.
        answered: 200s a second.
        goodput: those over the peak, both over the cores that the load generator left.
        admitted_p99_ms: of what was let in, answered or given up at its deadline.
        late: share of what was let in that was given up.
        refused: share of all that was refused.
        refusal_p50_ms: from sending to the refusal.
        refusal_p99_ms: likewise.
        unsaid: refusals without Retry-After.
        broken: requests without any answer.
        growth: resident memory near the end over that near the beginning.
        recovery_s: seconds after its end until the server was itself again.
        generator: cores that the load generator took.
    """

    times: float
    offered: float
    answered: float
    goodput: float
    admitted_p99_ms: float
    late: float
    refused: float
    refusal_p50_ms: float
    refusal_p99_ms: float
    unsaid: int
    broken: int
    growth: float
    recovery_s: float
    generator: float


def flood(records: Records, watch: Watch, phase: int, times: float, peak: float, cores: int) -> Flood:
    """Look at one phase of overload; the phase before it and the one after it are easy ones.

    Args:
        records: of all phases.
        watch: of the server.
        phase: number of the phase.
        times: how many times the peak it asks for.
        peak: rows a second, over the cores that its generator left.
        cores: of the machine.
    """
    began, ended = records.edges[phase : phase + 2]
    within = records.within(phase)
    took = 1e3 * (within.ended - within.sent)
    refused = np.isin(within.status, _REFUSED)
    let_in = np.isin(within.status, (200, _LATE))
    generator = float(records.cores()[phase])
    answered = records.answered_within(began, ended) / (ended - began)
    fifth = (ended - began) / 5
    early, late = watch.between(began + fifth, began + 2 * fifth), watch.between(ended - fifth, ended)
    return Flood(
        times=times,
        offered=len(within.due) / (ended - began),
        answered=answered,
        goodput=answered / (1 - generator / cores) / peak,
        admitted_p99_ms=_quantile(took[let_in], 0.99),
        late=float((within.status == _LATE).sum() / max(1, let_in.sum())),
        refused=float(refused.mean()),
        refusal_p50_ms=_quantile(took[refused], 0.5),
        refusal_p99_ms=_quantile(took[refused], 0.99),
        unsaid=int((refused & ~within.retry).sum()),
        broken=int((within.status == BROKEN).sum()),
        growth=float(np.median(late[:, 1]) / np.median(early[:, 1])),
        recovery_s=recovery(records, phase + 1),
        generator=generator,
    )


def recovery(records: Records, phase: int) -> float:
    """Return how long after an overload the server was itself again: seconds; infinite where it never was.

    Itself: for three quarters of a second on end every request due in a quarter is answered 200, in the
    middle at most twice as late as in the first phase.
    """
    steady = float(np.median(records.within(0).latencies_ms()))
    within = records.within(phase)
    bins = np.floor((within.due - records.edges[phase]) / _BIN_S).astype(int)
    calm = 0
    for number in range(int(bins.max(initial=-1)) + 1):
        there = bins == number
        fine = (within.status[there] == 200).all() and (
            not there.any() or np.median(within.latencies_ms()[there]) <= 2 * steady
        )
        calm = calm + 1 if fine else 0
        if calm == _CALM_BINS:
            return (number + 1 - _CALM_BINS) * _BIN_S
    return float("inf")


def verdicts(floods: Sequence[Flood], deadline_s: float) -> list[Verdict]:
    """Return the aims and what came of them."""
    found = []
    for each in floods:
        at = f"at {each.times:g} times the peak"
        one: list[tuple[str, float, float, bool, str]] = [
            ("goodput over the peak", each.goodput, GOODPUT_AIM, True, ""),
            ("p99 of what was let in", each.admitted_p99_ms, 1e3 * deadline_s, False, " ms"),
            ("p99 of refusals", each.refusal_p99_ms, REFUSAL_AIM_MS, False, " ms"),
            ("refusals without Retry-After", each.unsaid, 0, False, ""),
            ("connections broken", each.broken, 0, False, ""),
            ("memory near the end over the beginning", each.growth, MEMORY_AIM, False, ""),
            ("itself again after", each.recovery_s, RECOVERY_AIM_S, False, " s"),
        ]
        found += [
            Verdict(f"{at}: {claim}", Spread.of([value]), aim, at_least=at_least, unit=unit)
            for claim, value, aim, at_least, unit in one
        ]
    return found


def show(floods: Sequence[Flood]) -> str:
    """Return what was seen as a Markdown table."""
    columns = [
        "offered/s",
        "answered/s",
        "goodput",
        "refused",
        "late",
        "p99 let in, ms",
        "p50, p99 refused, ms",
    ]
    columns += ["memory", "recovery, s", "generator, cores"]
    rows = {
        f"{each.times:g} × the peak": (
            f"{each.offered:.0f}", f"{each.answered:.1f}", f"{each.goodput:.2f}", f"{each.refused:.3f}",
            f"{each.late:.3f}", f"{each.admitted_p99_ms:.0f}", f"{each.refusal_p50_ms:.1f}, {each.refusal_p99_ms:.1f}",
            f"{each.growth:.3f}", f"{each.recovery_s:.2f}", f"{each.generator:.2f}",
        )
        for each in floods
    }  # fmt: skip
    return table("load", columns, rows)


def peak_of(contender: Contender, seconds: float, cores: int) -> float:
    """Return the rows a second of a closed loop, over the cores that its generator left."""
    measured = contender.load(PICTURES, CONNECTIONS, seconds)
    return measured.rows_per_s / measured.capacity(cores)


def measure(spec: str, seconds: float, deadline_s: float, seed: int, home: Path) -> dict[str, Any]:
    """Find the peak, flood the server, print the table; return everything as JSON values."""
    cores = cpu_quota()
    prepared.versions(home, spec, TARGET)
    requests = prepared.photographs(home / "requests", [f"/v1/classify/{TARGET}"], seed=seed)
    closed_s = min(10.0, seconds)
    with cultivar(home, requests, workers=1, deadline_s=deadline_s) as contender:
        before = peak_of(contender, closed_s, cores)
        say(f"peak: {before:.1f} rows/s")
        phases = [Phase(EASY * before, EASY_S)]
        for times in TIMES:
            phases += [Phase(times * before, seconds), Phase(EASY * before, EASY_S)]
        with Watch(contender.pid) as watch:
            running = Running(contender.port, requests[PICTURES], phases, home / "records.npz", seed)
            try:
                records = running.records()
            finally:
                running.stop()
        after = peak_of(contender, closed_s, cores)
    peak = Spread.of([before, after])
    floods = [flood(records, watch, 1 + 2 * k, times, peak.median, cores) for k, times in enumerate(TIMES)]
    steady = records.within(0).latencies_ms()
    print(show(floods))
    print(f"Peak before and after: {peak.show(1)} rows/s. At half of it p50 was {np.median(steady):.0f} ms.")
    print(records.lateness())
    found = verdicts(floods, deadline_s)
    return {
        "reached": verdict.show(found),
        "machine": describe(),
        "model": spec,
        "deadline_s": deadline_s,
        "peak": [before, after],
        "floods": [_json(each) for each in floods],
        "verdicts": [each.to_json() for each in found],
    }


def _json(each: Flood) -> Mapping[str, float | None]:
    return {name: verdict.finite(getattr(each, name)) for name in each.__slots__}


def _quantile(values: np.ndarray, share: float) -> float:
    return quantile(values.tolist(), share) if len(values) else 0.0


def main() -> None:
    """Measure and print; exit 1 where an aim was missed."""
    experiment = Experiment("overload", __doc__, quick="under a minute, and too short for figures")
    parser = experiment.parser
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each overload lasts")
    parser.add_argument(
        "--deadline", type=float, default=DEADLINE_S, metavar="S", help="the server's, in seconds"
    )
    parser.add_argument("--source", metavar="SPEC", help=f"the network to measure ({prepared.SOURCE})")
    parser.add_argument("--seed", type=int, default=0, help="of pictures and arrivals")
    given = experiment.arguments
    seconds = 4.0 if given.quick else given.seconds
    source = given.source or (prepared.QUICK_SOURCE if given.quick else prepared.SOURCE)
    experiment.run(lambda home: measure(source, seconds, given.deadline, given.seed, home))


if __name__ == "__main__":
    main()
