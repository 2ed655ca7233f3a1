"""What the front end costs where the model costs nothing: ``python -m benchmarks.front``.

A version that looks at one pixel of 64 × 64 is served; beside it stands a bare ASGI callable on the
same uvicorn, uvloop and httptools, which reads the same bodies and answers always the same, and the
application by itself on connections of its own and on uvicorn's. What each figure means is in ``benchmarks/README.md``.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import verdict, weightless
from benchmarks.contender import (
    ARRAYS,
    MEDIA,
    PICTURES,
    Contender,
    bodies,
    cultivar,
    request,
    say,
    unlike,
    write,
)
from benchmarks.experiment import Experiment
from benchmarks.machine import describe, idle_cores
from benchmarks.measurement import Measurement
from benchmarks.peers.peer import BARE, WIRED
from benchmarks.photographs import photograph
from benchmarks.raw import Bench, Setting, merged
from benchmarks.rounds import Rounds, limits, ratios, run_rounds
from benchmarks.spread import Spread
from benchmarks.table import table
from benchmarks.verdict import Verdict
from registry.registry import Registry
from registry.runtime import cpu_quota
from registry.settings import Settings

TARGET = "weightless"
OURS = "cultivar"
DISTINCT = 32
CONCURRENCIES = (1, 32)
AT = 32
CPU_AIM_US = 70.0
PICTURES_AIM = 0.80
IDLE_AIM = 0.01
DECODE, RUN, TOGETHER = "decode", "run", "decode + run"


@dataclass(frozen=True, slots=True)
class Pace:
    """How long everything takes.

    Attributes:
        rounds: repeats of every measurement.
        window_s: seconds of a window of served load, and of a measurement without a server.
        warm_s: seconds of load before a window.
        idle_s: seconds in which the server is left alone.
    """

    rounds: int
    window_s: float
    warm_s: float
    idle_s: float


USUAL = Pace(5, 5.0, 1.5, 20.0)
QUICK = Pace(2, 1.0, 0.5, 3.0)


def us_per_row(several: Sequence[Measurement]) -> Spread:
    """Return CPU microseconds for an answer."""
    return Spread.of([1e3 * each.cpu_ms_per_row for each in several])


def jobs(
    contenders: Sequence[Contender], bench: Bench, cores: int, pace: Pace
) -> dict[str, Callable[[], Measurement]]:
    """Return everything that a round measures, by name."""
    lanes = Setting(cores, 1, 1, False, AT)
    found: dict[str, Callable[[], Measurement]] = {
        DECODE: partial(bench.decoding, cores, pace.window_s / 2),
        RUN: partial(bench.raw, lanes, pace.window_s / 2),
        TOGETHER: partial(bench.apart, lanes, pace.window_s / 2),
    }
    return found | loads(contenders, pace)


def loads(contenders: Sequence[Contender], pace: Pace) -> dict[str, Callable[[], Measurement]]:
    """Return the loads on servers, by name."""
    return {
        f"{contender.name}, {kind}, {connections}": partial(
            contender.load, kind, connections, pace.window_s, pace.warm_s
        )
        for contender in contenders
        for kind in contender.requests
        for connections in CONCURRENCIES
    }


def verdicts(results: Rounds, idle: float, cores: int) -> list[Verdict]:
    """Return the aims and what came of them."""
    found = [
        Verdict(
            f"raw tensors at {connections}, CPU of a request",
            us_per_row(results[f"{OURS}, {ARRAYS}, {connections}"]),
            CPU_AIM_US,
            at_least=False,
            unit=" µs",
        )
        for connections in reversed(CONCURRENCIES)
    ]
    limit = limits(results[RUN], results[DECODE], results[TOGETHER])
    share = ratios(results[f"{on_all(cores)}, {PICTURES}, {AT}"], limit, cores)
    claim = f"pictures of 64 px at {AT}, a worker on each core, rows/s over decode plus run"
    found.append(Verdict(claim, share, PICTURES_AIM))
    alone = Spread.of([idle])
    return [*found, Verdict("idle server", alone, IDLE_AIM, at_least=False, unit=" cores")]


def on_all(cores: int) -> str:
    """Return the name of the server with a worker for each core."""
    return f"{OURS}, {cores} workers"


def over_floor(results: Rounds, connections: int) -> Spread:
    """Return our CPU of a request over the bare callable's, round by round."""
    pairs = zip(
        results[f"{OURS}, {ARRAYS}, {connections}"],
        results[f"{BARE.name}, {ARRAYS}, {connections}"],
        strict=True,
    )
    return Spread.of([ours.cpu_ms_per_row / floor.cpu_ms_per_row for ours, floor in pairs])


def over_uvicorn(results: Rounds) -> str:
    """Return what our connections bring over uvicorn's, round by round, as a Markdown table."""
    rows = {}
    for kind in MEDIA:
        for connections in CONCURRENCIES:
            own, theirs = (results[f"{peer.name}, {kind}, {connections}"] for peer in WIRED.values())
            pairs = list(zip(own, theirs, strict=True))
            rows[f"{kind}, {connections}"] = [
                Spread.of([ours.rows_per_s / other.rows_per_s for ours, other in pairs]).show(),
                Spread.of([ours.cpu_ms_per_row / other.cpu_ms_per_row for ours, other in pairs]).show(),
                Spread.of([ours.p50_ms / other.p50_ms for ours, other in pairs]).show(),
                Spread.of([ours.p99_ms / other.p99_ms for ours, other in pairs]).show(),
            ]
    return table("own connections over uvicorn's", ("rows/s", "CPU of a row", "p50", "p99"), rows)


def show(results: Rounds) -> str:
    """Return the results as a Markdown table."""
    rows = {}
    for name, several in results.items():
        figures = [Spread.of([each.rows_per_s for each in several]).show(0), us_per_row(several).show(1)]
        figures += [Spread.of([getattr(each, f"p{q}_ms") for each in several]).show(2) for q in (50, 99)]
        generator = Spread.of([each.generator_s / each.seconds for each in several])
        rows[name] = [*figures, f"{generator.median:.2f}"]
    return table("", ("rows/s", "CPU µs a row", "p50 ms", "p99 ms", "generator, cores"), rows)


def prepare(seed: int, home: Path) -> tuple[Bench, dict[str, Path]]:
    """Make the version; return what it does without a server, and a folder of requests for each kind of input."""
    with Registry.open(Settings.read(home)) as registry:
        manifest = registry.manifest(weightless.put_into_production(registry, TARGET))
        model = merged(manifest, registry)
    side = weightless.SIDE
    photographs = [photograph(seed + number, side, side) for number in range(DISTINCT)]
    pixels = np.stack([weightless.RECIPE.decode(data) for data in photographs])
    sent = bodies(unlike(pixels), photographs)
    path = f"/v1/classify/{TARGET}"
    requests = {
        kind: write(home / kind, [request(path, MEDIA[kind], body) for body in sent[kind]]) for kind in MEDIA
    }
    return Bench(model, weightless.RECIPE, pixels, photographs), requests


def wired(stack: ExitStack, requests: Mapping[str, Path], home: Path) -> list[Contender]:
    """Start the application by itself on both kinds of connections, until the stack ends."""
    found = []
    for name, peer in WIRED.items():
        alike = replace(peer, environment={**peer.environment, "CULTIVAR_HOME": str(home)})
        started = stack.enter_context(alike.start(home / "none", home / "none", home / name, {}))
        found.append(replace(started, requests=requests))
    return found


def measure_connections(pace: Pace, seed: int, home: Path) -> dict[str, Any]:
    """Measure connections alone, ours and uvicorn's; return everything as JSON values."""
    _, requests = prepare(seed, home)
    with ExitStack() as stack:
        results = run_rounds(loads(wired(stack, requests, home), pace), pace.rounds, seed)
    print(show(results))
    print(over_uvicorn(results))
    rounds = {name: [each.to_json() for each in several] for name, several in results.items()}
    return {"reached": True, "machine": describe(), "seed": seed, "rounds": rounds}


def measure(pace: Pace, seed: int, home: Path) -> dict[str, Any]:
    """Make the version, start the servers, measure, print the tables; return everything as JSON values."""
    cores = cpu_quota()
    bench, requests = prepare(seed, home)
    with ExitStack() as stack:
        ours = stack.enter_context(cultivar(home, requests, OURS, workers=1))
        answers = [body for kind in MEDIA for status, body in ours.answers(kind) if status == 200]
        if len(answers) != len(MEDIA) * DISTINCT:
            sys.exit("expected 200 for every request, got less")
        bare = replace(BARE, environment={"PEER_ANSWER_BYTES": str(len(answers[0]))})
        recipe = home / "recipe.json"
        floor = stack.enter_context(bare.start(recipe, recipe, home / "bare", {}))
        floor = replace(floor, requests={ARRAYS: requests[ARRAYS]})
        # One worker's event loop is one core's; decode plus run, its limit, takes all of them.
        several = stack.enter_context(cultivar(home, requests, on_all(cores), workers=cores))
        contenders = [ours, floor, replace(several, requests={PICTURES: requests[PICTURES]})]
        contenders += wired(stack, requests, home)
        say(f"left alone for {pace.idle_s:g} s")
        idle = idle_cores(ours.pid, pace.idle_s)
        results = run_rounds(jobs(contenders, bench, cores, pace), pace.rounds, seed)
        memory = {each.name: each.resident_bytes for each in contenders}
    found = verdicts(results, idle, cores)
    print(show(results))
    print(over_uvicorn(results))
    for connections in CONCURRENCIES:
        print(
            f"raw tensors at {connections}, CPU over the floor's: {over_floor(results, connections).show()}"
        )
    return {
        "reached": verdict.show(found),
        "machine": describe(),
        "seed": seed,
        "rounds": {name: [each.to_json() for each in several] for name, several in results.items()},
        "verdicts": [each.to_json() for each in found],
        "idle_cores": idle,
        "resident_bytes": memory,
    }


def main() -> None:
    """Measure and print; exit 1 where an aim was missed."""
    experiment = Experiment("front", __doc__, quick="half a minute, and too short for figures")
    experiment.parser.add_argument("--rounds", type=int, help="repeats of every measurement")
    experiment.parser.add_argument(
        "--connections", action="store_true", help="our connections and uvicorn's alone"
    )
    experiment.parser.add_argument("--seed", type=int, default=0, help="of pictures and order")
    given = experiment.arguments
    pace = QUICK if given.quick else USUAL
    pace = replace(pace, rounds=given.rounds or pace.rounds)
    chosen = measure_connections if given.connections else measure
    experiment.run(lambda home: chosen(pace, given.seed, home))


if __name__ == "__main__":
    main()
