"""What a request's metrics cost, gathered or written at once: ``python -m benchmarks.tally``.

With several processes prometheus-client keeps its values in mapped files. A request makes six observations. They are
written at once (the library's own way), or gathered and written together as the server does; writing is counted.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.machine import describe
from benchmarks.spread import Spread
from benchmarks.verdict import Verdict, show

OBSERVATIONS = 6
SAVED_AIM_US = 3.0
BETWEEN = 2_000
"""Requests between two times that what gathered is written: a quarter of a second at 8,000 a second."""


def main() -> None:
    """Compare them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tally", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="each way is measured so often (9)")
    parser.add_argument("--requests", type=int, default=20_000, help="in each round (20000)")
    parser.add_argument("--json", type=Path, help="write every measurement to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # read when prometheus-client is imported
        at_once, gathered = _ways()
        found: dict[str, list[float]] = {"at once": [], "gathered": []}
        for _ in range(arguments.rounds):
            found["at once"].append(_microseconds(at_once, arguments.requests))
            found["gathered"].append(_microseconds(gathered, arguments.requests))
    for name, values in found.items():
        print(f"{name}: {Spread.of(values).show()} us a request")
    saved = Spread.of([a - b for a, b in zip(found["at once"], found["gathered"], strict=True)])
    verdict = Verdict("saved by gathering", saved, SAVED_AIM_US, unit=" us")
    reached = show([verdict])
    if arguments.json is not None:
        arguments.json.write_text(
            json.dumps({"machine": describe(), "us": found, "verdict": verdict.to_json()}, indent=1)
        )
    sys.exit(0 if reached else 1)


def _ways() -> tuple[Callable[[int], None], Callable[[int], None]]:
    from prometheus_client import Histogram

    from services.metrics.tally import Tallies

    buckets = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
    children = [
        Histogram(f"benchmark_seconds_{number}", "Observed.", ["phase"], buckets=buckets).labels("phase")
        for number in range(2 * OBSERVATIONS)
    ]
    direct, tallied = children[:OBSERVATIONS], children[OBSERVATIONS:]
    tallies = Tallies()
    tallies_of = [tallies.of_histogram(child) for child in tallied]

    def at_once(requests: int) -> None:
        for number in range(requests):
            for child in direct:
                child.observe(number % 100 / 1000)

    def gathered(requests: int) -> None:
        for number in range(requests):
            for tally in tallies_of:
                tally.observe(number % 100 / 1000)
            if number % BETWEEN == BETWEEN - 1:
                tallies.flush()
        tallies.flush()

    return at_once, gathered


def _microseconds(way: Callable[[int], None], requests: int) -> float:
    began = time.process_time()
    way(requests)
    return (time.process_time() - began) / requests * 1e6


if __name__ == "__main__":
    main()
