"""From ``cultivar serve`` to readiness: ``python -m benchmarks.cold_start``.

Beside it stands what nobody can do without: the sessions' own loading, in a process that has ONNX
Runtime already, and BentoML's own start, with a service that does nothing. What each figure means
is in ``benchmarks/README.md``.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks import loading, prepared, verdict
from benchmarks.command import PROGRAM
from benchmarks.connection import HOST
from benchmarks.contender import GIVE_UP_S, complain, say
from benchmarks.machine import busy_seconds, cpu_seconds, describe, resident_bytes, started_at, tree
from benchmarks.peers.peer import TRIVIAL, stop
from benchmarks.spread import Spread
from benchmarks.table import table
from benchmarks.verdict import Verdict
from services.process.server import free_port

GLYPHS = "bundled:glyphs"
AIM = 1.5
ROUNDS, QUICK_ROUNDS = 5, 1
BENTOML = "BentoML's own start"
SERVE, ALONE = "cultivar serve", "sessions alone"
READY = "ready"
COMMAND, SUPERVISOR, WORKER = "the command", "BentoML's supervisor", "the worker"
PHASES = (COMMAND, SUPERVISOR, WORKER, "loading", "saying so")
_CPU, _MEMORY = "CPU s", "MiB"
_POLL_S = 0.005

Figures: TypeAlias = Mapping[str, float]
"""Seconds, and whatever else was seen at one start, by name."""


def serve(home: Path) -> Figures:
    """Start the command on a registry, wait until it is ready and has said so, and end it."""
    port = free_port()
    environment = os.environ | {"CULTIVAR_HOME": str(home), "CULTIVAR_SERVE_PORT": str(port)}
    with (home / f"{port}.log").open("wb") as log:
        started = time.perf_counter()
        process = subprocess.Popen(
            [PROGRAM, "serve", "--json"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            alive = wait(process, port, "/livez") - started
            ready = wait(process, port, "/readyz") - started
            pids = processes(process.pid)
            seen = {f"{name}, {_CPU}": cpu_seconds([pid]) for name, pid in pids.items()}
            process.stdout.readline()
            said = max(ready, time.perf_counter() - started)
            seen |= {f"{name}, {_MEMORY}": resident_bytes([pid]) / 2**20 for name, pid in pids.items()}
            began = {name: started_at(pid) - started_at(process.pid) for name, pid in pids.items()}
        except Exception:
            complain(log.name)
            raise
        finally:
            stop(process)
            process.stdout.close()
    moments = (0.0, began[SUPERVISOR], began[WORKER], alive, ready, said)
    spent = [after - before for before, after in pairwise(moments)]
    return {READY: ready, **dict(zip(PHASES, spent, strict=True)), **seen}


def processes(root: int) -> Mapping[str, int]:
    """Return the process ids of a server: the command's, its child's, and that of the worker under it."""
    pids = tree(root)
    workers = [pid for pid in pids if b"_bentoml_impl.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return {COMMAND: root, SUPERVISOR: pids[1], WORKER: workers[0]}


def wait(process: "subprocess.Popen[bytes]", port: int, path: str) -> float:
    """Return when a path answered 200; a connection that nobody takes yet is waited for.

    Raises:
        RuntimeError: it did not within a minute, or the process ended.
    """
    end = time.perf_counter() + GIVE_UP_S
    while process.poll() is None and time.perf_counter() < end:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=GIVE_UP_S):
                return time.perf_counter()
        except (urllib.error.URLError, OSError):
            time.sleep(_POLL_S)
    raise RuntimeError("the server did not come up")


def bentoml_alone(folder: Path) -> Figures:
    """Start a service of BentoML's that does nothing, and wait until it is ready."""
    nothing = folder / "nothing"
    nothing.touch()
    started = time.perf_counter()
    with TRIVIAL.start(nothing, nothing, Path(tempfile.mkdtemp(dir=folder)) / "peer", {}):
        return {READY: time.perf_counter() - started}


def load(home: Path, target: str) -> Figures:
    """Load the sessions of a target in a new process."""
    return {READY: loading.seconds(home, target)}


def measure(homes: Mapping[str, Path], folder: Path, rounds: int, seed: int) -> dict[str, list[Figures]]:
    """Start everything once a round, each round in another order; and once before, so that files are in memory."""
    jobs: dict[str, Callable[[], Figures]] = {BENTOML: partial(bentoml_alone, folder)}
    for spec, home in homes.items():
        jobs[f"{spec}, {ALONE}"] = partial(load, home, target_of(spec))
        jobs[f"{spec}, {SERVE}"] = partial(serve, home)
    for job in jobs.values():
        job()
    order = random.Random(seed)
    results: dict[str, list[Figures]] = {name: [] for name in jobs}
    for number in range(1, rounds + 1):
        for name in order.sample(list(jobs), len(jobs)):
            results[name].append(jobs[name]())
            say(f"  [{number}/{rounds}] {results[name][-1][READY]:6.2f} s  {name}")
    return results


def target_of(spec: str) -> str:
    """Return the target that a source's version is registered under."""
    return spec.rpartition(":")[2].replace("_", "-")


def verdicts(results: Mapping[str, Sequence[Figures]], specs: Sequence[str]) -> list[Verdict]:
    """Return the aims and what came of them; ratios are taken within a round."""
    found = []
    for spec in specs:
        rounds = zip(
            *(results[name] for name in (f"{spec}, {SERVE}", f"{spec}, {ALONE}", BENTOML)), strict=True
        )
        ratio = [whole[READY] / (sessions[READY] + bento[READY]) for whole, sessions, bento in rounds]
        claim = f"{spec}, ready over the sessions' loading and BentoML's start"
        found.append(Verdict(claim, Spread.of(ratio), AIM, at_least=False))
    return found


def show(results: Mapping[str, Sequence[Figures]], specs: Sequence[str]) -> str:
    """Return the results as Markdown tables."""

    def cell(name: str, figure: str, places: int = 2) -> str:
        return Spread.of([each[figure] for each in results[name]]).show(places)

    seconds = {name: [cell(name, READY)] for name in results}
    phases = {spec: [cell(f"{spec}, {SERVE}", phase) for phase in PHASES] for spec in specs}
    held = {
        f"{spec}, {name}": [
            cell(f"{spec}, {SERVE}", f"{name}, {_CPU}"),
            cell(f"{spec}, {SERVE}", f"{name}, {_MEMORY}", 0),
        ]
        for spec in specs
        for name in (COMMAND, SUPERVISOR, WORKER)
    }
    tables = [
        table("", ("seconds",), seconds),
        table("seconds by phase", PHASES, phases),
        table("a process, when ready", (_CPU, _MEMORY), held),
    ]
    return "\n".join(tables)


def run(sources: Sequence[str], rounds: int, seed: int, folder: Path) -> dict[str, Any]:
    """Make the versions, measure, print the tables; return everything as JSON values."""
    homes = {spec: folder / target_of(spec) for spec in sources}
    for spec, home in homes.items():
        prepared.versions(home, spec, target_of(spec))
    began, busy = time.perf_counter(), busy_seconds()
    results = measure(homes, folder, rounds, seed)
    cores = (busy_seconds() - busy) / (time.perf_counter() - began)
    found = verdicts(results, sources)
    print(show(results, sources))
    print(f"{cores:.2f} cores were busy, this included.")
    return {
        "reached": verdict.show(found),
        "machine": describe(),
        "seed": seed,
        "busy_cores": cores,
        "rounds": results,
        "verdicts": [each.to_json() for each in found],
    }


def main() -> None:
    """Measure and print; exit 1 where an aim was missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--source", default=prepared.SOURCE, metavar="SPEC", help="served beside the glyph network"
    )
    parser.add_argument("--quick", action="store_true", help="a minute, and too short for figures")
    parser.add_argument("--rounds", type=int, help="repeats of every measurement")
    parser.add_argument("--seed", type=int, default=0, help="of the order")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was seen")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="cultivar-cold-") as folder:
        try:
            document = run((arguments.source, GLYPHS), rounds, arguments.seed, Path(folder))
        except KeyboardInterrupt:
            sys.exit(130)
    say(f"{time.perf_counter() - started:.0f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    if not document["reached"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
