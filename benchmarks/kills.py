"""Workers killed under load: ``python -m benchmarks.kills``.

A server with four workers answers a steady open loop; now and then one worker is killed with
``SIGKILL``. The others must go on, the killed one must come back, and in the end the server's counter
of answers must equal what the client counted itself. A request whose connection broke was answered or
was not: nobody can know, so those are counted apart, and are all that the two may differ by.
"""

import os
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import prepared, verdict, weightless
from benchmarks.connection import HOST
from benchmarks.contender import PICTURES, Contender, cultivar, say
from benchmarks.experiment import Experiment
from benchmarks.machine import describe, tree
from benchmarks.openloop import BROKEN, Phase, Running
from benchmarks.spread import Spread
from benchmarks.table import table
from benchmarks.verdict import Verdict
from registry.registry import Registry
from registry.settings import Settings

TARGET = "weightless"
WORKERS = 4
RATE = 300.0
"""Requests a second: far below what is possible, so that only the kills are seen."""
KILLS = 5
BEFORE_S = 3.0
BETWEEN_S = 6.0
BACK_AIM_S = 15.0
BROKEN_AIM = 20.0
"""Connections that break for each kill: what a worker has under way at this rate, and some more."""
_WORKER = b"_bentoml_impl.worker"
_POLL_S = 0.1
_GIVE_UP_S = 60.0


def workers(root: int) -> list[int]:
    """Return the process ids of a server's workers."""
    found = []
    for pid in tree(root):
        try:
            if _WORKER in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def kill_one(contender: Contender, number: int) -> float:
    """Kill a worker at once; return the seconds until another one has its place and its versions loaded."""
    before = workers(contender.pid)
    victim = sorted(before)[number % len(before)]
    os.kill(victim, signal.SIGKILL)
    killed = time.monotonic()
    while time.monotonic() < killed + _GIVE_UP_S:
        now = workers(contender.pid)
        if victim not in now and len(now) >= len(before) and loaded(contender.port) == len(before):
            return time.monotonic() - killed
        time.sleep(_POLL_S)
    return float("inf")


def figures(port: int, name: str) -> Iterator[tuple[str, float]]:
    """Yield labels and value of each of the server's figures of a name that is about the target."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
    # The worker that had this connection was the one that died.
    except OSError:
        return
    for line in lines:
        if line.startswith(f"{name}{{") and f'target="{TARGET}"' in line:
            labels, _, value = line.rpartition(" ")
            yield labels, float(value)


def loaded(port: int) -> int:
    """Return how many workers have the version loaded."""
    return int(sum(value for _, value in figures(port, "cultivar_loaded")))


def counted(port: int) -> dict[str, int]:
    """Return the server's own count of requests for the target, by outcome."""
    found: dict[str, int] = {}
    for labels, value in figures(port, "cultivar_requests_total"):
        outcome = labels.partition('outcome="')[2].partition('"')[0]
        found[outcome] = found.get(outcome, 0) + int(value)
    return found


def settled(contender: Contender) -> None:
    """Wait until every worker has the version loaded.

    Raises:
        SystemExit: not within a minute.
    """
    end = time.monotonic() + _GIVE_UP_S
    while loaded(contender.port) != WORKERS:
        if time.monotonic() > end:
            sys.exit(f"expected {WORKERS} workers with the version loaded within {_GIVE_UP_S:g} s")
        time.sleep(_POLL_S)


def measure(kills: int, rate: float, between_s: float, home: Path) -> dict[str, Any]:
    """Kill workers under load, compare counts, print them; return everything as JSON values."""
    with Registry.open(Settings.read(home)) as registry:
        weightless.put_into_production(registry, TARGET)
    requests = prepared.photographs(home / "requests", [f"/v1/classify/{TARGET}"], weightless.SIDE)
    most_s = BEFORE_S + kills * (between_s + _GIVE_UP_S)
    with cultivar(home, requests, workers=WORKERS) as contender:
        settled(contender)
        before = counted(contender.port)
        running = Running(contender.port, requests[PICTURES], [Phase(rate, most_s)], home / "records.npz")
        moments, backs = [], []
        try:
            time.sleep(max(0.0, running.started + BEFORE_S - time.monotonic()))
            for number in range(kills):
                moments.append(time.monotonic())
                backs.append(kill_one(contender, number))
                say(f"  [{number + 1}/{kills}] a worker is back after {backs[-1]:.1f} s")
                time.sleep(max(0.0, moments[-1] + between_s - time.monotonic()))
            records = running.finish()
        finally:
            running.stop()
        settled(contender)
        after = counted(contender.port)
    server = {outcome: count - before.get(outcome, 0) for outcome, count in after.items()}
    broken = int((records.status == BROKEN).sum())
    answered = int((records.status == 200).sum())
    refused = int(((records.status != 200) & (records.status != BROKEN)).sum())
    # What the server counted and nobody received was answered into a connection that broke.
    unexplained = sum(server.values()) - answered - refused
    gaps = longest_silences(records.ended[records.status == 200], moments, between_s)
    latency = records.latencies_ms()[records.status == 200]
    seen: Mapping[str, object] = {
        "requests": len(records.due),
        "answered": answered,
        "refused": refused,
        "broken": broken,
        "counted by the server": server,
        "p50_ms": float(np.median(latency)),
        "p99_ms": float(np.quantile(latency, 0.99)),
        "generator_cores": float(records.cores()[0]),
    }
    print(table("", ("",), {name: [str(value)] for name, value in seen.items()}))
    print(records.lateness())
    found = [
        Verdict("answers that the server counts and the client does not, beyond broken ones",
                Spread.of([max(0, unexplained - broken)]), 0, at_least=False),
        Verdict("answers that the client counts and the server does not",
                Spread.of([max(0, -unexplained)]), 0, at_least=False),
        Verdict("answers other than 200", Spread.of([refused]), 0, at_least=False),
        Verdict("connections broken for each kill", Spread.of([broken / max(1, kills)]), BROKEN_AIM, at_least=False),
        Verdict("longest silence around a kill", Spread.of(gaps), 1.0, at_least=False, unit=" s"),
        Verdict("a killed worker is back", Spread.of(backs), BACK_AIM_S, at_least=False, unit=" s"),
    ]  # fmt: skip
    return {
        "reached": verdict.show(found),
        "machine": describe(),
        "workers": WORKERS,
        "rate": rate,
        "figures": seen,
        "backs_s": backs,
        "silences_s": gaps,
        "verdicts": [each.to_json() for each in found],
    }


def longest_silences(ended: np.ndarray, moments: list[float], within_s: float) -> list[float]:
    """Return, for each kill, the longest time without any answer in the seconds after it."""
    ordered = np.sort(ended)
    found = []
    for moment in moments:
        after = ordered[(ordered >= moment) & (ordered <= moment + within_s)]
        found.append(float(np.diff([moment, *after.tolist()]).max(initial=0.0)) if len(after) else within_s)
    return found


def main() -> None:
    """Measure and print; exit 1 where an aim was missed."""
    experiment = Experiment("kills", __doc__, quick="two kills")
    experiment.parser.add_argument("--kills", type=int, default=KILLS)
    experiment.parser.add_argument("--rate", type=float, default=RATE, help="requests a second")
    given = experiment.arguments
    kills = 2 if given.quick else given.kills
    experiment.run(lambda home: measure(kills, given.rate, BETWEEN_S, home))


if __name__ == "__main__":
    main()
