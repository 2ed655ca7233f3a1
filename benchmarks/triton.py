"""This server beside Triton's with a python backend, on the same models: ``python -m benchmarks.triton``.

Wants the environment that ``make peers`` makes. What each figure means is in ``benchmarks/README.md``.
"""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import prepared, verdict, weightless
from benchmarks.connection import HOST, SERIAL
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
from benchmarks.machine import describe
from benchmarks.measurement import Measurement
from benchmarks.peers import triton
from benchmarks.photographs import photograph
from benchmarks.raw import Bench, Setting, merged
from benchmarks.rounds import Rounds, run_rounds
from benchmarks.serving import best_scores, check_answers
from benchmarks.spread import Spread
from benchmarks.table import table
from benchmarks.verdict import Verdict
from registry.manifest import FEATURES, LOGITS
from registry.names import PRODUCTION
from registry.recipe import ImageRecipe
from registry.registry import Registry
from registry.runtime import cpu_quota
from registry.segments import Node, merge
from registry.settings import Settings

TARGET, SMALL_TARGET = "photographs", "weightless"
OURS, TRITON = "cultivar", "Triton"
EMBEDDINGS, SMALL = "embeddings", "thumbnails"
DISTINCT = 32
AT = 32
LOADS = ((PICTURES, AT), (PICTURES, 1), (ARRAYS, AT), (ARRAYS, 1), (EMBEDDINGS, AT), (SMALL, AT), (SMALL, 1))
BATCHES = (4, 8, 16)
"""Of the decode-plus-run pipelines without a server, the best of which is compared with."""
LIMIT = "decode + run, core by core, batch "
RATE_AIM = 1.0
CPU_AIM = 1.03


@dataclass(frozen=True, slots=True)
class Pace:
    """How long everything takes: rounds, and seconds of a window and before it."""

    rounds: int
    window_s: float
    warm_s: float


USUAL = Pace(10, 4.0, 1.0)
QUICK = Pace(1, 1.0, 0.5)


def served(contender: str, kind: str, connections: int) -> str:
    """Return the name of a measurement."""
    return f"{contender}, {kind}, {connections}"


def jobs(
    contenders: list[Contender], bench: Bench, cores: int, pace: Pace
) -> dict[str, Callable[[], Measurement]]:
    """Return everything that a round measures, by name."""
    found: dict[str, Callable[[], Measurement]] = {
        f"{LIMIT}{batch}": partial(bench.apart, Setting(cores, 1, 1, False, batch), pace.window_s / 2)
        for batch in BATCHES
    }
    for contender in contenders:
        for kind, connections in LOADS:
            name = served(contender.name, kind, connections)
            found[name] = partial(contender.load, kind, connections, pace.window_s, pace.warm_s)
    return found


def ratio(results: Rounds, one: str, other: str, value: Callable[[Measurement], float]) -> Spread:
    """Return a value of one measurement over another's, round by round."""
    pairs = zip(results[one], results[other], strict=True)
    return Spread.of([value(ours) / value(theirs) for ours, theirs in pairs])


def verdicts(results: Rounds) -> list[Verdict]:
    """Return the aims and what came of them."""
    ours = served(OURS, PICTURES, AT)
    limit = min(
        (name for name in results if name.startswith(LIMIT)),
        key=lambda name: Spread.of([_cpu(each) for each in results[name]]).median,
    )
    return [
        Verdict(
            f"{PICTURES} at {AT}, rows/s over {TRITON}'s",
            ratio(results, ours, served(TRITON, PICTURES, AT), _rate),
            RATE_AIM,
        ),
        Verdict(
            f"{PICTURES} at {AT}, CPU of an answer over {limit}",
            ratio(results, ours, limit, _cpu),
            CPU_AIM,
            at_least=False,
        ),
    ]


def show(results: Rounds) -> str:
    """Return the results as two Markdown tables."""
    rows = {
        name: [
            Spread.of([_rate(each) for each in several]).show(1),
            Spread.of([_cpu(each) for each in several]).show(2),
            Spread.of([each.p50_ms for each in several]).show(1),
            Spread.of([each.p99_ms for each in several]).show(1),
        ]
        for name, several in results.items()
    }
    ratios = {
        f"{kind}, {connections}": [
            ratio(results, served(OURS, kind, connections), served(TRITON, kind, connections), value).show(3)
            for value in (_rate, _cpu, _p50)
        ]
        for kind, connections in LOADS
    }
    return (
        table("", ("rows/s", "CPU ms a row", "p50 ms", "p99 ms"), rows)
        + "\n"
        + table(f"{OURS} over {TRITON}", ("rows/s", "CPU of a row", "p50"), ratios)
    )


@dataclass(frozen=True, slots=True)
class Subjects:
    """What both servers are measured with.

    Attributes:
        bench: the larger model without a server.
        models: Triton's, by the kind of input.
        inputs: the distinct ones, by kind.
        scores: of the best label by raw ONNX Runtime, by kind.
    """

    bench: Bench
    models: dict[str, triton.Model]
    inputs: dict[str, list[bytes]]
    scores: dict[str, list[float]]


def prepare(home: Path, source: str, seed: int) -> Subjects:
    """Put both models into production, and write them for Triton."""
    prepared.versions(home, source, TARGET)
    models, inputs = {}, {}
    with Registry.open(Settings.read(home)) as registry:
        weightless.put_into_production(registry, SMALL_TARGET)
        for target in (TARGET, SMALL_TARGET):
            manifest = registry.manifest(registry.resolve(f"{target}@{PRODUCTION}"))
            recipe = registry.recipe(manifest)
            assert isinstance(recipe, ImageRecipe)
            nodes = [
                Node(
                    each.name,
                    registry.blob(each.digest),
                    {port: str(wire) for port, wire in each.inputs.items()},
                )
                for each in manifest.segments
            ]
            paths = {name: home / f"{target}-{name}.onnx" for name in (LOGITS, FEATURES)}
            for name, path in paths.items():
                path.write_bytes(merge(nodes, {name: str(manifest.outputs[name])}))
            written = home / f"{target}.json"
            written.write_bytes(recipe.to_bytes())
            shape = (recipe.height, recipe.width, recipe.channels)
            if target == SMALL_TARGET:
                models[SMALL] = triton.Model(paths[LOGITS], written, shape, True, LOGITS)
                small = [photograph(seed + n, recipe.width, recipe.height) for n in range(DISTINCT)]
                inputs[SMALL] = [picture + SERIAL for picture in small]
                continue
            pictures = [photograph(seed + number) for number in range(DISTINCT)]
            pixels = np.stack([recipe.decode(data) for data in pictures])
            bench = Bench(merged(manifest, registry), recipe, pixels, pictures)
            models[PICTURES] = triton.Model(paths[LOGITS], written, shape, True, LOGITS)
            models[ARRAYS] = triton.Model(paths[LOGITS], written, shape, False, LOGITS)
            models[EMBEDDINGS] = triton.Model(paths[FEATURES], written, shape, True, FEATURES)
            inputs |= bodies(unlike(pixels), pictures)
            inputs[EMBEDDINGS] = inputs[PICTURES]
            scores = {ARRAYS: best_scores(bench, unlike(pixels)), PICTURES: best_scores(bench, pixels)}
    return Subjects(bench, models, inputs, scores)


def our_request(kind: str, body: bytes) -> bytes:
    """Return a whole HTTP request to our server."""
    if kind == EMBEDDINGS:
        head = (
            f"POST /v1/embed/{TARGET} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {MEDIA[PICTURES]}\r\n"
            f"Accept: application/x-npy\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body
    target = SMALL_TARGET if kind == SMALL else TARGET
    return request(f"/v1/classify/{target}", MEDIA.get(kind, MEDIA[PICTURES]), body)


def measure(source: str, pace: Pace, seed: int, home: Path) -> dict[str, Any]:
    """Make the models, start both servers, measure, print the tables; return everything as JSON values."""
    if not triton.is_installed():
        sys.exit("expected Triton in .venv-peers: run make peers")
    subjects = prepare(home, source, seed)
    requests = {
        kind: write(home / "requests" / kind, [our_request(kind, body) for body in several])
        for kind, several in subjects.inputs.items()
    }
    cores = cpu_quota()
    with ExitStack() as stack:
        contenders = [
            stack.enter_context(cultivar(home, requests, OURS, workers=1)),
            stack.enter_context(triton.start(TRITON, subjects.models, home / "triton", subjects.inputs)),
        ]
        for contender in contenders:
            check_answers(contender, subjects.scores)
        say("both servers agree with raw ONNX Runtime on every input")
        results = run_rounds(jobs(contenders, subjects.bench, cores, pace), pace.rounds, seed)
        memory = {each.name: each.resident_bytes for each in contenders}
    found = verdicts(results)
    print(show(results))
    others = Spread.of([each.others_cores for several in results.values() for each in several])
    print(f"Everything else on the machine kept {others.show()} cores busy meanwhile.")
    print(", ".join(f"{name} held {held / 2**20:.0f} MiB" for name, held in memory.items()))
    return {
        "reached": verdict.show(found),
        "machine": describe(),
        "model": source,
        "seed": seed,
        "rounds": {name: [each.to_json() for each in several] for name, several in results.items()},
        "verdicts": [each.to_json() for each in found],
        "resident_bytes": memory,
    }


def _rate(each: Measurement) -> float:
    return each.rows_per_s


def _cpu(each: Measurement) -> float:
    return each.cpu_ms_per_row


def _p50(each: Measurement) -> float:
    return each.p50_ms


def main() -> None:
    """Measure and print; exit 1 where an aim was missed."""
    experiment = Experiment("triton", __doc__, quick="a minute, and too short for figures")
    experiment.parser.add_argument("--rounds", type=int, help="repeats of every measurement")
    experiment.parser.add_argument("--source", default=prepared.SOURCE, metavar="SPEC", help="the network")
    experiment.parser.add_argument("--seed", type=int, default=0, help="of weights, pictures and order")
    given = experiment.arguments
    pace = QUICK if given.quick else USUAL
    pace = replace(pace, rounds=given.rounds or pace.rounds)
    experiment.run(lambda home: measure(given.source, pace, given.seed, home))


if __name__ == "__main__":
    main()
