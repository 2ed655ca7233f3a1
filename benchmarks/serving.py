"""What serving costs over raw ONNX Runtime, here and elsewhere: ``python -m benchmarks.serving``.

The same model, machine and run; what each figure means is in ``benchmarks/README.md``. Raw
settings are swept first; then, in each round and in a random order, the best of them, the
decode-plus-run pipelines and every server under load are measured once each.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version as library_version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import verdict
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
from benchmarks.experiment import Document, Experiment
from benchmarks.machine import describe, idle_cores
from benchmarks.measurement import Measurement
from benchmarks.peers.peer import PEERS, Peer
from benchmarks.photographs import photograph
from benchmarks.raw import Bench, Setting, merged, settings
from benchmarks.rounds import Rounds, arithmetic, limits, ratios, run_rounds
from benchmarks.spread import Spread
from benchmarks.verdict import Verdict
from registry.names import PRODUCTION
from registry.recipe import ImageRecipe
from registry.registry import Registry
from registry.runtime import cpu_quota
from registry.settings import Settings

TARGET = "photographs"
OURS = "cultivar"
BATCHES = (1, 2, 4, 8, 16, 32)
CONCURRENCIES = (1, 8, 32)
DISTINCT = 32
"""Different inputs of each kind that go round."""
LIMIT_AIMS = {ARRAYS: 0.97, PICTURES: 0.95}
CPU_AIM = 0.97
ALONE_AIM = 1.15
AT = 32
"""The concurrency that the aims at load are set for."""
SCORE_TOLERANCE = 1e-4
QUIET_CORES = 0.1
"""What others may take of the machine before its figures are noise."""
RAW = "raw: "
ONE_ROW = "one row at a time: "
DECODE = "decode"
PIPELINE = "decode + run, "
ARITHMETIC = "decode + run, by arithmetic"


@dataclass(frozen=True, slots=True)
class Pace:
    """How long everything takes.

    Attributes:
        rounds: repeats of every measurement.
        sweep_s: seconds for each raw setting in the sweep.
        batches: batch sizes of the sweep.
        concurrencies: requests under way at once, for each of which every server is measured.
        raw_s: seconds of a raw measurement.
        warm_s: seconds of load before a window.
        window_s: seconds of a window of served load.
    """

    rounds: int
    sweep_s: float
    batches: tuple[int, ...]
    concurrencies: tuple[int, ...]
    raw_s: float
    warm_s: float
    window_s: float


USUAL = Pace(5, 1.0, BATCHES, CONCURRENCIES, 3.0, 1.5, 5.0)
QUICK = Pace(1, 0.2, (1, 32), (1, AT), 0.5, 0.4, 1.0)


def check_answers(contender: Contender, best: Mapping[str, Sequence[float]]) -> None:
    """Compare every distinct request's answer with the raw model's best score.

    Raises:
        SystemExit: the server does not compute what raw ONNX Runtime does.
    """
    for kind, scores in best.items():
        for (status, body), score in zip(contender.answers(kind), scores, strict=True):
            answered = contender.score(json.loads(body)) if status == 200 else 0.0
            if abs(answered - score) > SCORE_TOLERANCE * score:
                sys.exit(f"{contender.name} answers {status} {body[:200]!r}, ONNX Runtime says {score:.6f}")


def best_scores(bench: Bench, pixels: np.ndarray) -> list[float]:
    """Return the best label's score for each row, by raw ONNX Runtime."""
    logits = bench.run(pixels).astype(np.float64)
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    return [float(row.max() / row.sum()) for row in scores]


def sweep(bench: Bench, cores: int, pace: Pace) -> list[tuple[Setting, Measurement]]:
    """Measure every raw setting briefly; return them with the fastest first."""
    measured = []
    for setting in settings(cores, pace.batches):
        measured.append((setting, bench.raw(setting, pace.sweep_s)))
        say(f"  {measured[-1][1].rows_per_s:7.1f} rows/s  {setting}")
    return sorted(measured, key=lambda entry: -entry[1].rows_per_s)


def finalists_of(swept: Sequence[tuple[Setting, Measurement]]) -> list[Setting]:
    """Return the fastest setting of each way to use the cores, one run on all of them or several on one each.

    The two ways are so close that a sweep's seconds cannot tell which is the faster one.
    """
    fastest: dict[int, Setting] = {}
    for setting, _ in swept:
        fastest.setdefault(setting.threads, setting)
    return list(fastest.values())


def measurements(
    bench: Bench, contenders: Sequence[Contender], finalists: Sequence[Setting], cores: int, pace: Pace
) -> dict[str, Callable[[], Measurement]]:
    """Return everything that a round measures, by name."""
    jobs: dict[str, Callable[[], Measurement]] = {}
    for setting in finalists:
        jobs[f"{RAW}{setting}"] = partial(bench.raw, setting, pace.raw_s)
    for spinning in (True, False):
        one = Setting(1, cores, 1, spinning, 1)
        jobs[f"{ONE_ROW}{one}"] = partial(bench.raw, one, pace.raw_s / 2)
    jobs[DECODE] = partial(bench.decoding, cores, pace.raw_s / 2)
    batch = finalists[0].batch
    lanes, turns = Setting(cores, 1, 1, False, batch), Setting(1, cores, 1, False, batch)
    jobs[f"{PIPELINE}lanes of their own: {lanes}"] = partial(bench.apart, lanes, pace.raw_s)
    jobs[f"{PIPELINE}in turns: {turns}"] = partial(bench.in_turns, turns, pace.raw_s)
    for contender in contenders:
        for kind in MEDIA:
            for connections in pace.concurrencies:
                name = served(contender.name, kind, connections)
                jobs[name] = partial(contender.load, kind, connections, pace.window_s, pace.warm_s)
    return jobs


def served(contender: str, kind: str, connections: int) -> str:
    """Return the name of a served measurement."""
    return f"{contender}, {kind}, {connections}"


def best_of(results: Rounds, prefix: str) -> str:
    """Return the name of the fastest measurement, by the median of the rounds, of those with a prefix."""
    names = [name for name in results if name.startswith(prefix)]
    return max(names, key=lambda name: Spread.of([each.rows_per_s for each in results[name]]).median)


def bounds(results: Rounds) -> dict[str, list[float]]:
    """Return, for each kind of input, the rows a second of the fastest way without a server, by round."""
    raw, pipeline = results[best_of(results, RAW)], results[best_of(results, PIPELINE)]
    return {
        ARRAYS: [each.rows_per_s for each in raw],
        PICTURES: limits(raw, results[DECODE], pipeline),
        ARITHMETIC: arithmetic(raw, results[DECODE]),
    }


def efficiencies(results: Rounds, name: str, kind: str) -> Spread:
    """Return the CPU of the fastest way without a server over the server's, for a row, round by round."""
    raw = [each.cpu_ms_per_row for each in results[best_of(results, RAW)]]
    decode = [each.cpu_ms_per_row if kind == PICTURES else 0.0 for each in results[DECODE]]
    return Spread.of(
        [(r + d) / each.cpu_ms_per_row for r, d, each in zip(raw, decode, results[name], strict=True)]
    )


def tables(results: Rounds, contenders: Sequence[str], memory: Mapping[str, int], cores: int) -> str:
    """Return the results as two Markdown tables."""
    limit = bounds(results)
    lines = ["| without a server | rows/s | CPU s per 1000 | p50 ms |", "| --- | --- | --- | --- |"]
    for name, several in results.items():
        if not name.startswith(tuple(f"{contender}, " for contender in contenders)):
            lines.append(
                f"| {name} | {_show(several, 'rows_per_s', 1)} | {_show(several, 'cpu_ms_per_row', 1)} "
                f"| {_show(several, 'p50_ms', 1)} |"
            )
    lines.append(f"| {ARITHMETIC} | {Spread.of(limit[ARITHMETIC]).show(1)} | | |")
    lines += [
        "",
        "| server | input | concurrency | rows/s | of the limit | CPU s per 1000 | CPU: limit over served | p50 ms "
        "| p99 ms | MiB | generator, cores |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for contender in contenders:
        for kind in MEDIA:
            for connections in CONCURRENCIES:
                name = served(contender, kind, connections)
                if name not in results:
                    continue
                several = results[name]
                generator = Spread.of([each.generator_s / each.seconds for each in several])
                lines.append(
                    f"| {contender} | {kind} | {connections} | {_show(several, 'rows_per_s', 1)} "
                    f"| {ratios(several, limit[kind], cores).show()} | {_show(several, 'cpu_ms_per_row', 1)} "
                    f"| {efficiencies(results, name, kind).show()} | {_show(several, 'p50_ms', 0)} "
                    f"| {_show(several, 'p99_ms', 0)} | {memory[contender] / 2**20:.0f} | {generator.median:.3f} |"
                )
    return "\n".join(lines)


def _show(several: Sequence[Measurement], figure: str, places: int) -> str:
    return Spread.of([getattr(each, figure) for each in several]).show(places)


def verdicts(results: Rounds, peers: Sequence[str], cores: int) -> list[Verdict]:
    """Return the aims and what came of them."""
    limit = bounds(results)
    found = []
    for kind, aim in LIMIT_AIMS.items():
        name = served(OURS, kind, AT)
        of = "raw" if kind == ARRAYS else "decode plus run"
        found.append(
            Verdict(f"{kind} at {AT}, rows/s over {of}", ratios(results[name], limit[kind], cores), aim)
        )
        if kind == ARRAYS:
            claim = f"{kind} at {AT}, CPU of {of} over CPU of an answer"
            found.append(Verdict(claim, efficiencies(results, name, kind), CPU_AIM))
    for peer in peers:
        for kind in MEDIA:
            pairs = zip(results[served(peer, kind, AT)], results[served(OURS, kind, AT)], strict=True)
            saved = Spread.of([theirs.cpu_ms_per_row / ours.cpu_ms_per_row for theirs, ours in pairs])
            found.append(Verdict(f"{kind} at {AT}, CPU of an answer by {peer} over ours", saved, 1.0))
    alone = results[min((n for n in results if n.startswith(ONE_ROW)), key=partial(_p50, results))]
    pairs = zip(results[served(OURS, ARRAYS, 1)], alone, strict=True)
    slower = Spread.of([ours.p50_ms / raw.p50_ms for ours, raw in pairs])
    claim = f"{ARRAYS} at 1, p50 over raw with all cores"
    return [*found, Verdict(claim, slower, ALONE_AIM, at_least=False)]


def _p50(results: Rounds, name: str) -> float:
    return Spread.of([each.p50_ms for each in results[name]]).median


def measure(spec: str, pace: Pace, seed: int, home: Path, peers: Sequence[Peer]) -> dict[str, Any]:
    """Make the model, start the servers, measure, print the tables.

    Returns:
        Everything that was seen, as JSON values; under ``reached`` whether every aim was.
    """
    cores = cpu_quota()
    say(f"making a version of {spec} with random weights")
    subprocess.run(
        [sys.executable, "-m", "benchmarks.subject", str(home), spec, TARGET], check=True, stdout=sys.stderr
    )
    with Registry.open(Settings.read(home)) as registry:
        manifest = registry.manifest(registry.resolve(f"{TARGET}@{PRODUCTION}"))
        recipe = registry.recipe(manifest)
        model = merged(manifest, registry)
    assert isinstance(recipe, ImageRecipe)
    photographs = [photograph(seed + number) for number in range(DISTINCT)]
    pixels = np.stack([recipe.decode(data) for data in photographs])
    marked = unlike(pixels)
    bench = Bench(model, recipe, pixels, photographs)
    sent = bodies(marked, photographs)
    path = f"/v1/classify/{TARGET}"
    requests = {
        kind: write(home / kind, [request(path, MEDIA[kind], body) for body in sent[kind]]) for kind in MEDIA
    }
    (home / "model.onnx").write_bytes(model)
    (home / "recipe.json").write_bytes(recipe.to_bytes())
    say("sweeping raw settings")
    swept = sweep(bench, cores, pace)
    with ExitStack() as stack:
        contenders = [stack.enter_context(cultivar(home, requests, OURS, workers=1))]
        for number, peer in enumerate(peers):
            folder = home / f"peer-{number}"
            started = peer.start(home / "model.onnx", home / "recipe.json", folder, sent)
            contenders.append(stack.enter_context(started))
        scores = {ARRAYS: best_scores(bench, marked), PICTURES: best_scores(bench, pixels)}
        for contender in contenders:
            check_answers(contender, scores)
        idle = idle_cores(contenders[0].pid, 2.0)
        say("every server agrees with raw ONNX Runtime on every input")
        finalists = finalists_of(swept)
        results = run_rounds(measurements(bench, contenders, finalists, cores, pace), pace.rounds, seed)
        memory = {contender.name: contender.resident_bytes for contender in contenders}
    found = verdicts(results, [peer.name for peer in peers], cores)
    others = Spread.of([each.others_cores for several in results.values() for each in several])
    print(tables(results, [contender.name for contender in contenders], memory, cores))
    print(f"\nEverything else on the machine kept {others.show()} cores busy meanwhile.")
    if others.median > QUIET_CORES:
        print(f"That is more than {QUIET_CORES} cores: repeat this on a quiet machine before quoting it.")
    print(f"Idle, {OURS} kept {idle:.3f} cores busy.")
    return {
        "reached": verdict.show(found),
        "machine": {**describe(), "onnxruntime": library_version("onnxruntime-gpu")},
        "model": spec,
        "seed": seed,
        "sweep": [{"setting": str(setting), **each.to_json()} for setting, each in swept],
        "rounds": {name: [each.to_json() for each in several] for name, several in results.items()},
        "limits": bounds(results),
        "verdicts": [each.to_json() for each in found],
        "idle_cores": idle,
        "resident_bytes": memory,
    }


def main() -> None:
    """Measure and print; exit 1 where an aim was missed."""
    experiment = Experiment("serving", __doc__, quick="about a minute, and too short for figures")
    parser = experiment.parser
    parser.add_argument("--rounds", type=int, help="repeats of every measurement")
    parser.add_argument(
        "--source", default="torchvision:resnet18", metavar="SPEC", help="the network to measure"
    )
    parser.add_argument(
        "--alone", action="store_true", help="without the other servers: less than half the time"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights, pictures and order")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw it, as SVG files")
    given = experiment.arguments
    pace = QUICK if given.quick else USUAL
    pace = replace(pace, rounds=given.rounds or pace.rounds)
    peers = () if given.alone else PEERS

    def draw(document: Document) -> None:
        if given.plots:
            from benchmarks.plots import draw_serving

            draw_serving(document, given.plots)

    experiment.run(lambda home: measure(given.source, pace, given.seed, home, peers), draw)


if __name__ == "__main__":
    main()
