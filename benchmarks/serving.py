"""Served throughput over raw ONNX Runtime: ``python -m benchmarks.serving``.

The same model, machine and run; what each figure means is in ``benchmarks/README.md``. Raw
settings are swept first; then, in each round and in a random order, the best of them, the
decode-plus-run pipelines and the server under load are measured once each.
"""

import argparse
import http.client
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version as library_version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load import HOST
from benchmarks.machine import cpu_seconds, describe, resident_bytes, tree
from benchmarks.measurement import Measurement
from benchmarks.photographs import photograph
from benchmarks.raw import Bench, Setting, merged, settings
from benchmarks.spread import Spread
from registry.names import PRODUCTION
from registry.recipe import ImageRecipe
from registry.registry import Registry
from registry.runtime import cpu_quota
from registry.settings import Settings
from services.protocols import npy
from services.server import Server, free_port
from services.settings import ServeSettings

TARGET = "photographs"
BATCHES = (1, 2, 4, 8, 16, 32)
CONCURRENCIES = (1, 8, 32)
DISTINCT = 32
"""Different inputs of each kind that go round."""
ARRAYS = "arrays"
PICTURES = "pictures"
MEDIA = {ARRAYS: "application/x-npy", PICTURES: "image/jpeg"}
AIMS = {ARRAYS: 0.90, PICTURES: 0.85}
AT = 32
"""The concurrency that the aims are set for."""
SCORE_TOLERANCE = 1e-4
QUIET_CORES = 0.1
"""What others may take of the machine before its figures are noise."""
RAW = "raw: "
ONE_ROW = "one row at a time: "
DECODE = "decode"
PIPELINE = "decode + run, "
ARITHMETIC = "decode + run, by arithmetic"

Rounds = dict[str, list[Measurement]]


@dataclass(frozen=True, slots=True)
class Pace:
    """How long everything takes.

    Attributes:
        rounds: repeats of every measurement.
        sweep_s: seconds for each raw setting in the sweep.
        batches: batch sizes of the sweep.
        finalists: how many of the sweep's settings are measured in every round.
        raw_s: seconds of a raw measurement.
        warm_s: seconds of load before a window.
        window_s: seconds of a window of served load.
    """

    rounds: int
    sweep_s: float
    batches: tuple[int, ...]
    finalists: int
    raw_s: float
    warm_s: float
    window_s: float


USUAL = Pace(5, 1.0, BATCHES, 2, 3.0, 1.5, 5.0)
QUICK = Pace(2, 0.3, (1, 8, 32), 1, 1.0, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class Contender:
    """A server that is measured.

    Attributes:
        name: what it is called in tables.
        port: where it listens on this machine.
        pid: its oldest process.
        requests: for each kind of input a folder of whole HTTP requests.
    """

    name: str
    port: int
    pid: int
    requests: Mapping[str, Path]

    def load(self, kind: str, connections: int, pace: Pace) -> Measurement:
        """Put load on it from another process.

        Raises:
            SystemExit: an answer was not a 200.
        """
        command = [sys.executable, "-m", "benchmarks.load", "--port", str(self.port)]
        command += ["--requests", str(self.requests[kind]), "--connections", str(connections)]
        command += ["--seconds", str(pace.window_s), "--warm", str(pace.warm_s), "--root", str(self.pid)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"the load on {self.name} failed")
        return Measurement(**json.loads(done.stdout))


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def cultivar(home: Path, requests: Mapping[str, Path]) -> Iterator[Contender]:
    """Start this project's server on a registry, with one worker and otherwise its defaults."""
    port = free_port()
    settings_ = ServeSettings.read(port=port, workers=1)
    with (
        (home / "server.log").open("w+b") as log,
        Server(settings_, Settings.read(home), log.fileno()) as server,
    ):
        try:
            server.wait_until_ready()
            yield Contender("cultivar", port, server.pid, requests)
        except Exception:
            log.seek(0)
            say(log.read()[-3000:].decode(errors="replace"))
            raise


def write_requests(folder: Path, path: str, media: str, bodies: Sequence[bytes]) -> Path:
    """Write whole HTTP requests into a folder, a file each; return the folder."""
    folder.mkdir(parents=True)
    for number, body in enumerate(bodies):
        head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n\r\n"
        (folder / f"{number:03d}").write_bytes(head.encode() + body)
    return folder


def check_answers(
    contender: Contender, bench: Bench, recipe: ImageRecipe, bodies: Mapping[str, Sequence[bytes]]
) -> int:
    """Compare every distinct request's answer with the raw model's; return how many there were.

    Raises:
        SystemExit: the server does not compute what raw ONNX Runtime does.
    """
    checked = 0
    connection = http.client.HTTPConnection(HOST, contender.port, timeout=60)
    for kind, several in bodies.items():
        for body in several:
            connection.request("POST", f"/v1/classify/{TARGET}?top_k=1", body, {"Content-Type": MEDIA[kind]})
            answer = json.loads(connection.getresponse().read())
            best = answer["results"][0]["labels"][0]
            pixels = npy.read_uint8(body) if kind == ARRAYS else recipe.decode(body)[None]
            logits = bench.run(pixels)[0].astype(np.float64)
            scores = np.exp(logits - logits.max())
            scores /= scores.sum()
            if abs(best["score"] - scores.max()) > SCORE_TOLERANCE * scores.max():
                sys.exit(f"{contender.name} answers {best}, ONNX Runtime says {scores.max():.6f}")
            checked += 1
    connection.close()
    return checked


def idle_cores(pid: int, seconds: float) -> float:
    """Return how many cores a server keeps busy with nothing to do."""
    pids = tree(pid)
    before = cpu_seconds(pids)
    time.sleep(seconds)
    return (cpu_seconds(pids) - before) / seconds


def sweep(bench: Bench, cores: int, pace: Pace) -> list[tuple[Setting, Measurement]]:
    """Measure every raw setting briefly; return them with the fastest first."""
    measured = []
    for setting in settings(cores, pace.batches):
        measured.append((setting, bench.raw(setting, pace.sweep_s)))
        say(f"  {measured[-1][1].rows_per_s:7.1f} rows/s  {setting}")
    return sorted(measured, key=lambda entry: -entry[1].rows_per_s)


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
            for connections in CONCURRENCIES:
                name = served(contender.name, kind, connections)
                jobs[name] = partial(contender.load, kind, connections, pace)
    return jobs


def served(contender: str, kind: str, connections: int) -> str:
    """Return the name of a served measurement."""
    return f"{contender}, {kind}, {connections}"


def run_rounds(jobs: Mapping[str, Callable[[], Measurement]], rounds: int, seed: int) -> Rounds:
    """Measure everything once a round, each round in another order."""
    order = random.Random(seed)
    results: Rounds = {name: [] for name in jobs}
    for number in range(1, rounds + 1):
        for name in order.sample(list(jobs), len(jobs)):
            measured = jobs[name]()
            results[name].append(measured)
            say(
                f"  [{number}/{rounds}] {measured.rows_per_s:7.1f} rows/s  {measured.cpu_ms_per_row:6.2f} CPU ms/row"
                f"  others {measured.others_cores:.2f} cores  {name}"
            )
    return results


def best_of(results: Rounds, prefix: str) -> str:
    """Return the name of the fastest measurement, by the median of the rounds, of those with a prefix."""
    names = [name for name in results if name.startswith(prefix)]
    return max(names, key=lambda name: Spread.of([each.rows_per_s for each in results[name]]).median)


def limits(results: Rounds) -> dict[str, list[float]]:
    """Return, for each kind of input, the rows a second of the fastest way without a server, by round.

    For pictures it is the larger of the best pipeline and of what two cores can do by arithmetic:
    each row costs the time that decoding alone takes for it and the time that running alone takes.
    """
    raw = [each.rows_per_s for each in results[best_of(results, RAW)]]
    decode = [each.rows_per_s for each in results[DECODE]]
    pipeline = [each.rows_per_s for each in results[best_of(results, PIPELINE)]]
    arithmetic = [1 / (1 / r + 1 / d) for r, d in zip(raw, decode, strict=True)]
    larger = max((pipeline, arithmetic), key=lambda rates: Spread.of(rates).median)
    return {ARRAYS: raw, PICTURES: larger, ARITHMETIC: arithmetic}


def ratios(measured: Sequence[Measurement], limit: Sequence[float], cores: int) -> Spread:
    """Return served rows over what the cores that the load generator left can do, round by round."""
    return Spread.of(
        [each.rows_per_s / (rate * each.capacity(cores)) for each, rate in zip(measured, limit, strict=True)]
    )


def efficiencies(results: Rounds, name: str, kind: str) -> Spread:
    """Return the CPU of the fastest way without a server over the server's, for a row, round by round."""
    raw = [each.cpu_ms_per_row for each in results[best_of(results, RAW)]]
    decode = [each.cpu_ms_per_row if kind == PICTURES else 0.0 for each in results[DECODE]]
    return Spread.of(
        [(r + d) / each.cpu_ms_per_row for r, d, each in zip(raw, decode, results[name], strict=True)]
    )


def tables(results: Rounds, contenders: Sequence[str], cores: int) -> str:
    """Return the results as two Markdown tables."""
    limit = limits(results)
    lines = ["| without a server | rows/s | CPU s per 1000 | p50 ms |", "| --- | --- | --- | --- |"]
    for name, several in results.items():
        if name.split(", ")[0] not in contenders:
            lines.append(
                f"| {name} | {_show(several, 'rows_per_s', 1)} | {_show(several, 'cpu_ms_per_row', 1)} "
                f"| {_show(several, 'p50_ms', 1)} |"
            )
    lines.append(f"| {ARITHMETIC} | {Spread.of(limit[ARITHMETIC]).show(1)} | | |")
    lines += [
        "",
        "| server | input | concurrency | rows/s | of the limit | CPU s per 1000 | CPU: limit over served | p50 ms "
        "| p99 ms | generator, cores |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for contender in contenders:
        for kind in MEDIA:
            for connections in CONCURRENCIES:
                name = served(contender, kind, connections)
                several = results[name]
                generator = Spread.of([each.generator_s / each.seconds for each in several])
                lines.append(
                    f"| {contender} | {kind} | {connections} | {_show(several, 'rows_per_s', 1)} "
                    f"| {ratios(several, limit[kind], cores).show()} | {_show(several, 'cpu_ms_per_row', 1)} "
                    f"| {efficiencies(results, name, kind).show()} | {_show(several, 'p50_ms', 0)} "
                    f"| {_show(several, 'p99_ms', 0)} | {generator.median:.3f} |"
                )
    return "\n".join(lines)


def _show(several: Sequence[Measurement], figure: str, places: int) -> str:
    return Spread.of([getattr(each, figure) for each in several]).show(places)


def verdicts(results: Rounds, contender: str, cores: int) -> dict[str, dict[str, object]]:
    """Return, for each kind of input, the aim at the highest concurrency and what came of it."""
    limit = limits(results)
    found: dict[str, dict[str, object]] = {}
    for kind, aim in AIMS.items():
        ratio = ratios(results[served(contender, kind, AT)], limit[kind], cores)
        found[kind] = {"aim": aim, "ratio": ratio.median, "low": ratio.low, "high": ratio.high}
        found[kind]["reached"] = ratio.median >= aim
    return found


def measure(spec: str, pace: Pace, seed: int, home: Path) -> dict[str, Any]:
    """Make the model, start the server, measure, print the tables.

    Returns:
        Everything that was seen, as JSON values.
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
    bench = Bench(model, recipe, pixels, photographs)
    bodies = {ARRAYS: [npy.write(row[None]) for row in pixels], PICTURES: photographs}
    path = f"/v1/classify/{TARGET}"
    requests = {kind: write_requests(home / kind, path, MEDIA[kind], bodies[kind]) for kind in MEDIA}
    say("sweeping raw settings")
    swept = sweep(bench, cores, pace)
    with cultivar(home, requests) as contender:
        checked = check_answers(contender, bench, recipe, bodies)
        idle = idle_cores(contender.pid, 2.0)
        say(f"{checked} answers agree with raw ONNX Runtime; idle, the server keeps {idle:.3f} cores busy")
        finalists = [setting for setting, _ in swept[: pace.finalists]]
        results = run_rounds(measurements(bench, [contender], finalists, cores, pace), pace.rounds, seed)
        memory = resident_bytes(tree(contender.pid))
    found = verdicts(results, contender.name, cores)
    others = Spread.of([each.others_cores for several in results.values() for each in several])
    print(tables(results, [contender.name], cores))
    print(f"\nEverything else on the machine kept {others.show()} cores busy meanwhile.")
    if others.median > QUIET_CORES:
        print(f"That is more than {QUIET_CORES} cores: repeat this on a quiet machine before quoting it.")
    print(f"The server held {memory / 2**20:.0f} MiB; idle it kept {idle:.3f} cores busy.")
    for kind, verdict in found.items():
        words = "reached" if verdict["reached"] else "missed"
        print(f"{kind} at {AT}: {verdict['ratio']:.3f} of the limit, aim {verdict['aim']}: {words}")
    return {
        "machine": {**describe(), "onnxruntime": library_version("onnxruntime-gpu")},
        "model": spec,
        "seed": seed,
        "sweep": [{"setting": str(setting), **each.to_json()} for setting, each in swept],
        "rounds": {name: [each.to_json() for each in several] for name, several in results.items()},
        "limits": limits(results),
        "verdicts": found,
        "idle_cores": idle,
        "server_bytes": memory,
    }


def main() -> None:
    """Measure and print; exit 1 where an aim was missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="about a minute, and too short for figures")
    parser.add_argument("--rounds", type=int, help="repeats of every measurement")
    parser.add_argument(
        "--source", default="torchvision:resnet18", metavar="SPEC", help="the network to measure"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights, pictures and order")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was seen")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    pace = QUICK if arguments.quick else USUAL
    if arguments.rounds:
        pace = replace(pace, rounds=arguments.rounds)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="cultivar-serving-") as home:
        try:
            document = measure(arguments.source, pace, arguments.seed, Path(home))
        except KeyboardInterrupt:
            sys.exit(130)
    say(f"{time.perf_counter() - started:.0f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    if not all(verdict["reached"] for verdict in document["verdicts"].values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
