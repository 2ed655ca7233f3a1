"""Ten minutes of steady work: does anything grow? ``python -m benchmarks.soak``.

A version that costs next to nothing is asked at a steady rate, no two requests alike; memory, file
handles and the tail of latency are followed, and a line is laid through each: its slope, with an
interval that knows that neighbours resemble each other.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import prepared, verdict, weightless
from benchmarks.contender import PICTURES, cultivar, say
from benchmarks.experiment import Experiment
from benchmarks.machine import describe
from benchmarks.openloop import Phase, Records, Running
from benchmarks.slope import Slope
from benchmarks.spread import Spread, quantile
from benchmarks.table import table
from benchmarks.verdict import Verdict
from benchmarks.watch import Watch
from registry.registry import Registry
from registry.settings import Settings

TARGET = "weightless"
SHARE = 0.5
"""Of the peak of a closed loop."""
CONNECTIONS = 32
MOST_CONNECTIONS = 64
"""A server holds a handle for each: with a bound there is an end to their growth."""
CACHE_BYTES = 4 << 20
"""Small, so that the memory for features that were seen before is full long before the line begins."""
WARM_S = 60.0
BIN_S = 5.0
AIMS = {"resident memory": (1.0, " MiB/min"), "file handles": (0.5, " /min"), "p99": (1.0, " ms/min")}
"""How much each may grow in a minute; the interval must not lie wholly above it."""


def series(
    records: Records, watch: Watch, warm_s: float, bin_s: float
) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
    """Return moments in minutes and values of everything that is followed, beyond the warming up."""
    began, ended = records.edges[0] + warm_s, records.edges[-1]
    samples = watch.between(began, ended)
    # Samples are many and steps are rare: means of bins have as much to say.
    bins = np.floor((samples[:, 0] - began) / bin_s).astype(int)
    numbers = np.unique(bins)
    minutes = (numbers + 0.5) * bin_s / 60
    memory = np.array([samples[bins == number, 1].mean() for number in numbers]) / 2**20
    handles = np.array([samples[bins == number, 2].mean() for number in numbers])
    answered = records.where((records.status == 200) & (records.due >= began))
    due = np.floor((answered.due - began) / bin_s).astype(int)
    took = answered.latencies_ms()
    tails = {int(number): quantile(took[due == number].tolist(), 0.99) for number in np.unique(due)}
    times = (np.array(list(tails)) + 0.5) * bin_s / 60
    return {
        "resident memory": (minutes, memory),
        "file handles": (minutes, handles),
        "p99": (times, np.array(list(tails.values()))),
    }


def measure(minutes: float, warm_s: float, bin_s: float, seed: int, home: Path) -> dict[str, Any]:
    """Ask at a steady rate, print slopes; return everything as JSON values."""
    with Registry.open(Settings.read(home)) as registry:
        weightless.put_into_production(registry, TARGET)
    path = f"/v1/classify/{TARGET}"
    requests = prepared.photographs(home / "requests", [path], weightless.SIDE, seed)
    with (
        cultivar(home, requests, workers=1, feature_cache_bytes=CACHE_BYTES) as contender,
        Watch(contender.pid, 1.0) as watch,
    ):
        peak = contender.load(PICTURES, CONNECTIONS, 3.0).rows_per_s
        phases = [Phase(SHARE * peak, warm_s + 60 * minutes)]
        say(f"{SHARE * peak:.0f} requests a second for {phases[0].seconds:.0f} s")
        running = Running(
            contender.port, requests[PICTURES], phases, home / "records.npz", seed, MOST_CONNECTIONS
        )
        try:
            records = running.records()
        finally:
            running.stop()
    failed = int((records.status != 200).sum())
    found = [Verdict("requests that failed", Spread.of([failed]), 0, at_least=False)]
    rows, document = {}, {}
    for name, (times, values) in series(records, watch, warm_s, bin_s).items():
        slope = Slope.of(times, values)
        aim, unit = AIMS[name]
        rows[name] = [
            f"{values[0]:.1f}",
            f"{np.median(values):.1f}",
            f"{values[-1]:.1f}",
            slope.show(3) + unit,
        ]
        claim = f"growth of {name}, by the interval's lower end"
        found.append(Verdict(claim, Spread.of([slope.low]), aim, at_least=False, unit=unit))
        document[name] = {"minutes": times.tolist(), "values": values.tolist()}
        document[name] |= {"slope": slope.value, "low": slope.low, "high": slope.high}
    print(table("", ("first", "median", "last", "slope, 95 %"), rows))
    print(
        f"{len(records.due)} requests; the generator took {records.cores()[0]:.2f} cores. {records.lateness()}"
    )
    return {
        "reached": verdict.show(found),
        "machine": describe(),
        "rate": phases[0].rate,
        "requests": len(records.due),
        "series": document,
        "verdicts": [each.to_json() for each in found],
    }


def main() -> None:
    """Measure and print; exit 1 where something grows or a request failed."""
    experiment = Experiment("soak", __doc__, quick="half a minute")
    experiment.parser.add_argument("--minutes", type=float, default=10.0, help="beyond the warming up")
    experiment.parser.add_argument("--seed", type=int, default=0, help="of pictures and arrivals")
    given = experiment.arguments
    minutes, warm_s, bin_s = (0.3, 5.0, 1.0) if given.quick else (given.minutes, WARM_S, BIN_S)
    experiment.run(lambda home: measure(minutes, warm_s, bin_s, given.seed, home))


if __name__ == "__main__":
    main()
