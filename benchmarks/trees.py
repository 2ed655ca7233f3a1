"""Another state of the source beside this one, both serving the same: ``python -m benchmarks.trees FOLDER``.

What each figure means is in ``benchmarks/README.md``.
"""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from adapters.sources.bundled import MINILM
from benchmarks import prepared, weightless
from benchmarks.contender import (
    ARRAYS,
    MEDIA,
    PICTURES,
    Contender,
    bodies,
    complain,
    request,
    unlike,
    write,
)
from benchmarks.experiment import Experiment
from benchmarks.machine import describe
from benchmarks.measurement import Measurement
from benchmarks.photographs import photograph
from benchmarks.raw import Bench, Setting, merged
from benchmarks.rounds import Rounds, run_rounds
from benchmarks.spread import Spread
from benchmarks.table import table
from registry.names import PRODUCTION
from registry.recipe import ImageRecipe
from registry.registry import Registry
from registry.runtime import cpu_quota
from registry.settings import Settings
from services.process.server import free_port

HERE = Path(__file__).resolve().parent.parent
NEW, OLD = "this tree", "the other"
DISTINCT = 32
CONCURRENCIES = (1, 32)
RAW_BATCHES = (4, 8)
RAW = "decode + run, core by core, batch "
SERVED_AT = 32
"""The concurrency at which pictures are set beside decoding and running them without a server."""
TARGET, LIGHT, WORDY = "photographs", "weightless", "texts-00"
EMBEDDED, SMALL_ARRAYS, SMALL_PICTURES, TEXTS = "embeddings", "small arrays", "small pictures", "texts"
WORDS = ("the", "day", "is", "long", "and", "every", "night", "we", "read", "a", "story", "about", "sea")
_START_S = 60.0
_RUN = "from services.cli import main; main()"


@dataclass(frozen=True, slots=True)
class Pace:
    """How long everything takes.

    Attributes:
        rounds: repeats of every measurement.
        window_s: seconds of a window.
        warm_s: seconds of load before it.
    """

    rounds: int
    window_s: float
    warm_s: float


USUAL = Pace(5, 4.0, 1.0)
QUICK = Pace(1, 1.0, 0.5)


@contextmanager
def serving(tree: Path, name: str, home: Path, requests: Mapping[str, Path]) -> Iterator[Contender]:
    """Start the server of a tree of the source, with one worker and nothing remembered."""
    port = free_port()
    environment = os.environ | {"PYTHONPATH": str(tree), "CULTIVAR_SERVE_FEATURE_CACHE_BYTES": "0"}
    command = [sys.executable, "-c", _RUN, "serve", "--home", str(home), "--port", str(port)]
    with (home / f"{port}.log").open("w+b") as log:
        process = subprocess.Popen(command, cwd=tree, env=environment, stdout=log, stderr=log)
        try:
            _wait(process, port)
            yield Contender(name, port, process.pid, requests, lambda document: 0.0)
        except Exception:
            complain(log.name)
            raise
        finally:
            process.terminate()
            process.wait()


def inputs(home: Path) -> tuple[dict[str, Path], Bench]:
    """Return requests of every kind, and what measures decoding and running without a server."""
    with Registry.open(Settings.read(home)) as registry:
        manifest = registry.manifest(registry.resolve(f"{TARGET}@{PRODUCTION}"))
        recipe, model = registry.recipe(manifest), merged(manifest, registry)
    assert isinstance(recipe, ImageRecipe)
    large = [photograph(number) for number in range(DISTINCT)]
    small = [photograph(number, weightless.SIDE, weightless.SIDE) for number in range(DISTINCT)]
    pixels = np.stack([recipe.decode(each) for each in large])
    light = np.stack([weightless.RECIPE.decode(each) for each in small])
    dear, cheap = bodies(unlike(pixels), large), bodies(unlike(light), small)
    plan = {
        ARRAYS: (f"/v1/classify/{TARGET}", MEDIA[ARRAYS], dear[ARRAYS]),
        PICTURES: (f"/v1/classify/{TARGET}", MEDIA[PICTURES], dear[PICTURES]),
        EMBEDDED: (f"/v1/embed/{TARGET}", MEDIA[PICTURES], dear[PICTURES]),
        SMALL_ARRAYS: (f"/v1/classify/{LIGHT}", MEDIA[ARRAYS], cheap[ARRAYS]),
        SMALL_PICTURES: (f"/v1/classify/{LIGHT}", MEDIA[PICTURES], cheap[PICTURES]),
        TEXTS: (f"/v1/embed/{WORDY}", "application/json", texts()),
    }
    folders = {
        kind: write(home / kind.replace(" ", "-"), [request(path, media, body) for body in sent])
        for kind, (path, media, sent) in plan.items()
    }
    return folders, Bench(model, recipe, pixels, large)


def texts() -> list[bytes]:
    """Return bodies of a short text each."""
    random = np.random.default_rng(0)
    return [orjson.dumps({"texts": [" ".join(random.choice(WORDS, 12))]}) for _ in range(DISTINCT)]


def measure(other: Path, pace: Pace, seed: int, only: Sequence[str], home: Path) -> dict[str, Any]:
    """Start both servers, measure in interleaved rounds, print the table; return everything as JSON values."""
    cores = cpu_quota()
    prepared.versions(home, prepared.SOURCE, TARGET)
    prepared.versions(home, MINILM, WORDY.removesuffix("-00"), "--heads", "1")
    with Registry.open(Settings.read(home)) as registry:
        weightless.put_into_production(registry, LIGHT)
    requests, bench = inputs(home)
    with ExitStack() as stack:
        contenders = [
            stack.enter_context(serving(tree, name, home, requests))
            for tree, name in ((HERE, NEW), (other, OLD))
        ]
        for contender in contenders:
            for kind in requests:
                if any(status != 200 for status, _ in contender.answers(kind)):
                    sys.exit(f"expected {contender.name} to answer {kind} with 200")
        jobs: dict[str, Callable[[], Measurement]] = {
            f"{RAW}{batch}": partial(bench.apart, Setting(cores, 1, 1, False, batch), pace.window_s)
            for batch in RAW_BATCHES
        }
        for kind in requests:
            for connections in CONCURRENCIES:
                for contender in contenders:
                    jobs[f"{contender.name}, {kind}, {connections}"] = partial(
                        contender.load, kind, connections, pace.window_s, pace.warm_s
                    )
        if only:
            jobs = {name: job for name, job in jobs.items() if any(each in name for each in only)}
        results = run_rounds(jobs, pace.rounds, seed)
        memory = {contender.name: contender.resident_bytes for contender in contenders}
    print(show(results))
    print(compared(results))
    print({name: round(size / 2**20) for name, size in memory.items()})
    return {
        "reached": True,
        "machine": describe(),
        "rounds": {name: [each.to_json() for each in several] for name, several in results.items()},
        "resident_bytes": memory,
    }


def show(results: Rounds) -> str:
    """Return the results as a Markdown table."""
    rows = {}
    for name, several in results.items():
        cells = [Spread.of([each.rows_per_s for each in several]).show(1)]
        cells += [Spread.of([each.cpu_ms_per_row for each in several]).show(3)]
        cells += [Spread.of([getattr(each, f"p{q}_ms") for each in several]).show(2) for q in (50, 99)]
        cells += [Spread.of([each.others_cores for each in several]).show(2)]
        rows[name] = cells
    return table("", ("rows/s", "CPU ms a row", "p50 ms", "p99 ms", "others, cores"), rows)


def compared(results: Rounds) -> str:
    """Return this tree over the other, and this tree's pictures over decoding and running, as a Markdown table."""
    rows = {}
    for name, several in results.items():
        against = None
        if name.startswith(NEW):
            against = results.get(f"{OLD}{name.removeprefix(NEW)}")
        if against is not None:
            rows[name.removeprefix(f"{NEW}, ")] = _ratios(several, against)
    for name, several in results.items():
        served = results.get(f"{NEW}, {PICTURES}, {SERVED_AT}")
        if name.startswith(RAW) and served is not None:
            rows[f"{PICTURES}, {SERVED_AT} over {name}"] = _ratios(served, several)
            if (before := results.get(f"{OLD}, {PICTURES}, {SERVED_AT}")) is not None:
                rows[f"the other's {PICTURES}, {SERVED_AT} over {name}"] = _ratios(before, several)
    return table("this tree over the other", ("rows/s", "CPU a row", "p50", "p99"), rows)


def _ratios(measured: Sequence[Measurement], against: Sequence[Measurement]) -> list[str]:
    names = ("rows_per_s", "cpu_ms_per_row", "p50_ms", "p99_ms")
    return [
        Spread.of(
            [getattr(one, name) / getattr(two, name) for one, two in zip(measured, against, strict=True)]
        ).show(3)
        for name in names
    ]


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    limit = time.monotonic() + _START_S
    while time.monotonic() < limit and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise RuntimeError("the server did not become ready")


def main() -> None:
    """Measure and print."""
    experiment = Experiment("trees", __doc__, quick="under a minute, and too short for figures")
    experiment.parser.add_argument("tree", type=Path, help="the other state of the source: a folder")
    experiment.parser.add_argument("--rounds", type=int, help="repeats of every measurement")
    experiment.parser.add_argument(
        "--only", nargs="*", default=(), help="measurements whose names hold one of these"
    )
    experiment.parser.add_argument("--seed", type=int, default=0, help="of the order")
    given = experiment.arguments
    pace = QUICK if given.quick else USUAL
    pace = Pace(given.rounds or pace.rounds, pace.window_s, pace.warm_s)
    experiment.run(lambda home: measure(given.tree.resolve(), pace, given.seed, given.only, home))


if __name__ == "__main__":
    main()
