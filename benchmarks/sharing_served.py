"""What sharing a trunk is worth to a server: ``python -m benchmarks.sharing_served``.

Twenty targets were registered each on its own and happen to stand on one trunk. One picture is asked
about all of them at once, beside twenty sessions of ONNX Runtime that run one after another; requests
for one target each, in turns, are put to the server of all and to a server of one; and versions that
share the lower half of their network are asked together, beside what arithmetic expects of that. What
each figure means is in ``benchmarks/README.md``.
"""

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from benchmarks import prepared, verdict
from benchmarks.contender import ARRAYS, MEDIA, Contender, cultivar, request, unlike, write
from benchmarks.experiment import Experiment
from benchmarks.machine import describe
from benchmarks.measurement import Measurement
from benchmarks.photographs import photograph
from benchmarks.raw import measure, merged
from benchmarks.rounds import Rounds, run_rounds
from benchmarks.spread import Spread
from benchmarks.table import table
from benchmarks.verdict import Verdict
from registry.manifest import Manifest
from registry.names import PRODUCTION
from registry.recipe import ImageRecipe
from registry.registry import Registry
from registry.runtime import cpu_quota
from registry.segments import Node, merge
from registry.settings import Settings
from services.api import npy

TRUNK, HALVES = "trunk", "halves"
TARGETS = 20
SHARERS = 4
"""Versions that share half of their network."""
AT = 32
ALL, ONE, MIXED, TOGETHER = "all at once", "one target", "one target each, in turns", "halves, all at once"
ALONE = "halves, one target"
SEPARATE = "twenty sessions, one after another"
LOWER, UPPER = "lower half", "upper half and head"
FAN_OUT_AIM, MIXED_AIM, MEMORY_AIM, ARITHMETIC_AIM = 15.0, 0.97, 1.10, 0.10


@dataclass(frozen=True, slots=True)
class Pace:
    """How long everything takes.

    Attributes:
        rounds: repeats of every measurement.
        window_s: seconds of a window of served load, and of a measurement without a server.
        warm_s: seconds of load before a window.
    """

    rounds: int
    window_s: float
    warm_s: float


USUAL = Pace(5, 5.0, 1.5)
QUICK = Pace(1, 1.5, 0.5)


class Sessions:
    """Models that run one after another on all cores, a row at a time.

    Args:
        models: each takes ``pixels``, or the first what comes and each other what the one before it gives.
        cores: that a run may use.
    """

    def __init__(self, models: Sequence[bytes], cores: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = cores
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._sessions = [
            ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]) for model in models
        ]

    def on(self, rows: np.ndarray, seconds: float) -> Measurement:
        """Run all of them on each row, uint8 [rows, …], for some time; one row is one answer of all."""

        def step(count: int) -> int:
            row = rows[count % len(rows)][None]
            for session in self._sessions:
                session.run(None, {session.get_inputs()[0].name: row})
            return 1

        return measure([step], seconds)

    def outputs(self, rows: np.ndarray) -> np.ndarray:
        """Return what the first of them gives for rows."""
        session = self._sessions[0]
        return np.asarray(session.run(None, {session.get_inputs()[0].name: rows})[0])


def part(manifest: Manifest, registry: Registry, first: int, stop: int, wire: str) -> bytes:
    """Return some of a version's segments as one model, up to a wire; what they take from others is its input."""
    nodes = [
        Node(
            each.name,
            registry.blob(each.digest),
            {
                port: str(source) if source.segment in inside or source.from_recipe else f"recipe:{port}"
                for port, source in each.inputs.items()
            },
        )
        for inside in [{each.name for each in manifest.segments[first:stop]}]
        for each in manifest.segments[first:stop]
    ]
    return merge(nodes, {wire.rpartition(":")[2]: wire})


def boundary(manifests: Sequence[Manifest]) -> int:
    """Return how many segments all versions share, from the input on."""
    shared = 0
    while len({manifest.segments[shared].digest for manifest in manifests}) == 1:
        shared += 1
    return shared


def answer_of_all(contender: Contender, kind: str, targets: int) -> None:
    """Check that one request for several targets is answered by each.

    Raises:
        SystemExit: the server does not know such a request.
    """
    status, body = next(contender.answers(kind))
    if status != 200:
        sys.exit(f"POST /v1/classify?targets=… is answered {status}: {body[:200].decode(errors='replace')}")
    if len(json.loads(body)["results"]) != targets:
        sys.exit(f"expected {targets} results, got {body[:200].decode(errors='replace')}")


def jobs(
    contenders: dict[str, Contender], sessions: dict[str, tuple[Sessions, np.ndarray]], pace: Pace
) -> dict[str, Callable[[], Measurement]]:
    """Return everything that a round measures, by name."""
    found: dict[str, Callable[[], Measurement]] = {
        name: partial(each.on, rows, pace.window_s / 2) for name, (each, rows) in sessions.items()
    }
    many, one, halves = contenders[TRUNK], contenders[ONE], contenders[HALVES]
    for contender, kind, connections in (
        (many, ALL, 1), (many, ALL, 8), (many, MIXED, AT), (one, ONE, AT), (halves, TOGETHER, 8), (halves, ALONE, 8),
    ):  # fmt: skip
        found[served(kind, connections)] = partial(
            contender.load, kind, connections, pace.window_s, pace.warm_s
        )
    return found


def served(kind: str, connections: int) -> str:
    """Return the name of a served measurement."""
    return f"served, {kind}, {connections}"


def verdicts(results: Rounds, memory: dict[str, int], cores: int) -> list[Verdict]:
    """Return the aims and what came of them."""
    separate = results[SEPARATE]
    faster = _over(separate, results[served(ALL, 1)], lambda theirs, ours: theirs.p50_ms / ours.p50_ms)
    cheaper = _over(separate, results[served(ALL, 8)], _cpu)
    mixed, one = results[served(MIXED, AT)], results[served(ONE, AT)]
    rate = _over(
        mixed, one, lambda a, b: (a.rows_per_s / a.capacity(cores)) / (b.rows_per_s / b.capacity(cores))
    )
    lower, upper = results[LOWER], results[UPPER]
    expected = [
        1
        - (a.cpu_ms_per_row + SHARERS * b.cpu_ms_per_row) / (SHARERS * (a.cpu_ms_per_row + b.cpu_ms_per_row))
        for a, b in zip(lower, upper, strict=True)
    ]
    saved = [
        1 - together.cpu_ms_per_row / (SHARERS * alone.cpu_ms_per_row)
        for together, alone in zip(results[served(TOGETHER, 8)], results[served(ALONE, 8)], strict=True)
    ]
    off = Spread.of([abs(s / e - 1) for s, e in zip(saved, expected, strict=True)])
    print(
        f"{SHARERS} versions that share half: saved {Spread.of(saved).show(3)} of the CPU,"
        f" by arithmetic {Spread.of(expected).show(3)}"
    )
    held = Spread.of([memory[TRUNK] / memory[ONE]])
    return [
        Verdict(
            f"one picture, {TARGETS} targets: time of separate sessions over ours, at 1", faster, FAN_OUT_AIM
        ),
        Verdict(
            f"one picture, {TARGETS} targets: CPU of separate sessions over ours, at 8", cheaper, FAN_OUT_AIM
        ),
        Verdict(f"{TARGETS} targets in turns over one target, rows/s at {AT}", rate, MIXED_AIM),
        Verdict(f"{TARGETS} targets over one target, memory", held, MEMORY_AIM, at_least=False),
        Verdict("saved by sharing half, off arithmetic by", off, ARITHMETIC_AIM, at_least=False),
    ]


def _cpu(theirs: Measurement, ours: Measurement) -> float:
    return theirs.cpu_ms_per_row / ours.cpu_ms_per_row


def _over(
    theirs: Sequence[Measurement],
    ours: Sequence[Measurement],
    ratio: Callable[[Measurement, Measurement], float],
) -> Spread:
    return Spread.of([ratio(a, b) for a, b in zip(theirs, ours, strict=True)])


def show(results: Rounds) -> str:
    """Return the results as a Markdown table."""
    rows = {}
    for name, several in results.items():
        figures = [Spread.of([each.rows_per_s for each in several]).show(1)]
        figures += [Spread.of([each.cpu_ms_per_row for each in several]).show(1)]
        figures += [Spread.of([getattr(each, f"p{q}_ms") for each in several]).show(1) for q in (50, 99)]
        rows[name] = figures
    return table("", ("answers/s", "CPU ms an answer", "p50 ms", "p99 ms"), rows)


def run(spec: str, pace: Pace, seed: int, home: Path) -> dict[str, Any]:
    """Make the versions, start the servers, measure, print the table; return everything as JSON values."""
    cores = cpu_quota()
    prepared.versions(home, spec, TRUNK, "--heads", str(TARGETS))
    prepared.versions(home, spec, HALVES, "--halves", str(SHARERS))
    many = [f"{TRUNK}-{number:02}" for number in range(TARGETS)]
    sharing = [f"{HALVES}-{number:02}" for number in range(SHARERS)]
    with Registry.open(Settings.read(home)) as registry:
        manifests = {
            target: registry.manifest(registry.resolve(f"{target}@{PRODUCTION}"))
            for target in (*many, *sharing)
        }
        recipe = registry.recipe(manifests[many[0]])
        whole = [merged(manifests[target], registry) for target in many]
        first = manifests[sharing[0]]
        cut = boundary([manifests[target] for target in sharing])
        wire = f"{first.segments[cut - 1].name}:{first.segments[cut - 1].outputs[0]}"
        lower = part(first, registry, 0, cut, wire)
        upper = part(first, registry, cut, len(first.segments), str(first.outputs["logits"]))
    assert isinstance(recipe, ImageRecipe)
    pixels = np.stack([recipe.decode(photograph(seed + n)) for n in range(prepared.DISTINCT)])
    arrays = [npy.write(row[None]) for row in unlike(pixels)]
    media = MEDIA[ARRAYS]

    def ask(*paths: str) -> list[bytes]:
        count = int(np.lcm(len(paths), len(arrays)))
        return [request(paths[n % len(paths)], media, arrays[n % len(arrays)]) for n in range(count)]

    requests = {
        ALL: ask(f"/v1/classify?targets={','.join(many)}"),
        MIXED: ask(*(f"/v1/classify/{target}" for target in many)),
        ONE: ask(f"/v1/classify/{many[0]}"),
        TOGETHER: ask(f"/v1/classify?targets={','.join(sharing)}"),
        ALONE: ask(f"/v1/classify/{sharing[0]}"),
    }
    folders = {kind: write(home / f"requests-{n}", each) for n, (kind, each) in enumerate(requests.items())}
    with ExitStack() as stack:
        contenders = {
            name: stack.enter_context(cultivar(home, folders, name, workers=1, targets=tuple(targets)))
            for name, targets in ((TRUNK, many), (ONE, many[:1]), (HALVES, sharing))
        }
        answer_of_all(contenders[TRUNK], ALL, TARGETS)
        answer_of_all(contenders[HALVES], TOGETHER, SHARERS)
        below = Sessions([lower], cores)
        sessions = {
            SEPARATE: (Sessions(whole, cores), pixels),
            LOWER: (below, pixels),
            UPPER: (Sessions([upper], cores), below.outputs(pixels)),
        }
        results = run_rounds(jobs(contenders, sessions, pace), pace.rounds, seed)
        memory = {name: contender.resident_bytes for name, contender in contenders.items()}
    print(show(results))
    print(f"Memory: {', '.join(f'{name} {held / 2**20:.0f} MiB' for name, held in memory.items())}")
    found = verdicts(results, memory, cores)
    return {
        "reached": verdict.show(found),
        "machine": describe(),
        "model": spec,
        "shared_segments": cut,
        "rounds": {name: [each.to_json() for each in several] for name, several in results.items()},
        "resident_bytes": memory,
        "verdicts": [each.to_json() for each in found],
    }


def main() -> None:
    """Measure and print; exit 1 where an aim was missed."""
    experiment = Experiment("sharing-served", __doc__, quick="about a minute, and too short for figures")
    parser = experiment.parser
    parser.add_argument("--rounds", type=int, help="repeats of every measurement")
    parser.add_argument("--source", default=prepared.SOURCE, metavar="SPEC", help="the network to measure")
    parser.add_argument("--seed", type=int, default=0, help="of pictures and order")
    given = experiment.arguments
    pace = QUICK if given.quick else USUAL
    pace = replace(pace, rounds=given.rounds or pace.rounds)
    experiment.run(lambda home: run(given.source, pace, given.seed, home))


if __name__ == "__main__":
    main()
