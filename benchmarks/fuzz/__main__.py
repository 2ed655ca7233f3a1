"""Mutated requests over every route: ``python -m benchmarks.fuzz``.

A server of a target of pictures and one of texts is sent requests that were spoilt at random, seeded: in their bytes,
lines, headers, framing, JSON, forms, arrays and pictures. What each figure means is in ``benchmarks/README.md``.
"""

import asyncio
import csv
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import command, verdict
from benchmarks.contender import GIVE_UP_S, say
from benchmarks.experiment import Experiment
from benchmarks.fuzz.case import Case, case
from benchmarks.fuzz.client import Clients, Outcome, stalls
from benchmarks.fuzz.corpus import Served, corpus
from benchmarks.machine import describe, resident_bytes, tree
from benchmarks.spread import Spread, quantile
from benchmarks.table import table
from benchmarks.verdict import Verdict
from benchmarks.watch import Watch
from registry.names import PRODUCTION
from registry.recipe import ImageRecipe
from registry.registry import Registry
from registry.settings import Settings
from services.process.server import Server, free_port
from services.settings import REQUIRED, ServeSettings

REQUESTS = 100_000
QUICK_REQUESTS = 3000
CLIENTS = 16
"""Trials under way at once: far fewer than a server has places for, so that a 503 is a fault."""
LIVEZ_EVERY_S = 0.1
MEMORY_AIM_MIB = 20.0
"""What the last fifth of the trials may add when it is sent for the third time."""
REST_S = 1.0
"""Between the end of a run and the look at the memory."""
LIMITS = {"deadline_s": 10.0, "line_s": 10.0, "head_s": 1.0, "body_s": 1.0, "feature_cache_bytes": 4 << 20}
"""Incomplete requests are waited for; shorter than by default, to have more of them. Nobody is refused for waiting.

The memory for features that were seen before is small, so that it is full soon.
"""

DIGITS, MOODS = "digits", "moods"
_SHOWN = 20
_TEXTS = {
    "glad": ("what a fine day", "i love this", "great work"),
    "sad": ("what a sad day", "i hate this", "poor work"),
}


@dataclass(slots=True)
class Tally:
    """Outcomes, counted.

    Attributes:
        statuses: how many answers of each status, by what was spoilt.
        seconds: the longest trial, by what was spoilt.
        trials: how many trials.
        problems: outcomes that should not have been.
    """

    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    trials: Counter[str] = field(default_factory=Counter)
    problems: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count an outcome."""
        level = outcome.level
        self.trials[level] += 1
        self.statuses.setdefault(level, Counter()).update(outcome.statuses)
        self.seconds[level] = max(self.seconds.get(level, 0.0), outcome.seconds)
        if outcome.problem:
            self.problems.append(outcome)

    def show(self) -> str:
        """Return a Markdown table: answers by status, for each thing that was spoilt."""
        found = sorted({status for counter in self.statuses.values() for status in counter})
        rows = {
            level: [
                str(self.trials[level]),
                *(str(counter[status] or "") for status in found),
                f"{self.seconds[level]:.2f}",
            ]
            for level, counter in sorted(self.statuses.items())
        }
        return table("spoilt", ("trials", *found, "longest, s"), rows)


def put_into_production(home: Path) -> None:
    """Adapt a version of digits and one of texts, and promote both."""
    texts = home / "texts.csv"
    with texts.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("text", "label"))
        for label, several in _TEXTS.items():
            rows.writerows((f"{text} {number}", label) for text in several for number in range(10))
    say("adapting a version of digits and one of texts")
    command.run(home, "adapt", "example:digits", "--source", "bundled:glyphs", "--target", DIGITS,
                "--technique", "frozen", "--promote", "production")  # fmt: skip
    command.run(home, "adapt", str(texts), "--source", "bundled:minilm", "--target", MOODS,
                "--technique", "frozen", "--promote", "production")  # fmt: skip


def served_by(home: Path, token: str | None) -> Served:
    """Return what a server of the registry answers for."""
    with Registry.open(Settings.read(home)) as registry:
        recipe = registry.recipe(registry.manifest(registry.resolve(f"{DIGITS}@{PRODUCTION}")))
    assert isinstance(recipe, ImageRecipe)
    return Served(DIGITS, (recipe.height, recipe.width, recipe.channels), MOODS, token)


def runs(seed: int, served: Served, requests: int, only: int | None) -> list[Iterator[Case]]:
    """Return the trials of a seed, then the last fifth of them twice more; or one trial alone."""
    known = corpus(served)
    if only is not None:
        return [iter([case(seed, only, known)])]
    first = requests - requests // 5
    return [(case(seed, number, known) for number in range(start, requests)) for start in (0, first, first)]


async def attack(
    port: int, served: Served, runs: Sequence[Iterator[Case]], forbidden: list[bytes], held: Callable[[], int]
) -> tuple[Tally, list[float], list[int]]:
    """Send several runs of trials.

    Returns:
        What came of them; how long ``/livez`` took meanwhile, in seconds; the server's memory after each run, in bytes.
    """
    clients, tally = Clients(port, forbidden), Tally()
    statuses = await clients.learn(corpus(served))
    if wrong := {number for number, status in statuses.items() if status not in (200, 204, 404, 405)}:
        sys.exit(
            f"expected good answers to good requests, got {[(corpus(served)[n].target, statuses[n]) for n in wrong]}"
        )
    took: list[float] = []
    memory: list[int] = []
    watching = asyncio.create_task(stalls(port, LIVEZ_EVERY_S, took))
    for run in runs:
        async for outcome in clients.run(run, CLIENTS):
            tally.add(outcome)
            if outcome.problem:
                say(f"  {outcome.number} ({outcome.level}): {outcome.problem}")
            if (done := sum(tally.trials.values())) % 10_000 == 0:
                say(f"  {done} trials, {len(tally.problems)} problems")
        await asyncio.sleep(REST_S)
        memory.append(held())
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    return tally, took, memory


def measure(
    requests: int, seed: int, workers: int, auth: str, only: int | None, home: Path
) -> dict[str, Any]:
    """Serve, send, print the table; return everything as JSON values."""
    token = command.run(home, "tokens", "add", f"fuzz-{os.getpid()}")["token"] if auth == REQUIRED else None
    served = served_by(home, token)
    settings = ServeSettings(port=free_port(), workers=workers, auth=auth, **LIMITS)  # type: ignore[arg-type]  # floats
    log = home / "server.log"
    with log.open("wb") as file, Server(settings, Settings.read(home), file.fileno()) as server:
        server.wait_until_ready(GIVE_UP_S)
        with Watch(server.pid, 0.5) as watch:
            tally, took, memory = asyncio.run(
                attack(
                    settings.port,
                    served,
                    runs(seed, served, requests, only),
                    [str(home).encode()],
                    lambda: resident_bytes(tree(server.pid)),
                )
            )
        samples = watch.samples
    written = log.read_bytes()
    print(tally.show())
    for problem in tally.problems[:_SHOWN]:
        print(f"{problem.number} ({problem.level}): {problem.problem}\n    {problem.began}")
    memory = memory if only is None else [*memory, *memory]
    claims: list[tuple[str, float, float, str]] = [
        ("answers that should not have been", len(tally.problems), 0, ""),
        ("tracebacks in the log", written.count(b"Traceback (most recent call last)"), 0, ""),
        ("memory of the same trials again", (memory[-1] - memory[-2]) / 2**20, MEMORY_AIM_MIB, " MiB"),
    ]
    found = [
        Verdict(claim, Spread.of([value]), aim, at_least=False, unit=unit)
        for claim, value, aim, unit in claims
    ]
    if took:
        p50, p99, longest = (f"{1e3 * quantile(took, share):.1f}" for share in (0.5, 0.99, 1.0))
        print(f"/livez, asked by the same process: p50 {p50} ms, p99 {p99} ms, longest {longest} ms")
    if b"Traceback" in written:
        say(written[written.index(b"Traceback") - 500 :][:6000].decode(errors="replace"))
    return {
        "reached": verdict.show(found),
        "machine": describe(),
        "seed": seed,
        "workers": workers,
        "auth": auth,
        "trials": dict(tally.trials),
        "statuses": {level: dict(counter) for level, counter in tally.statuses.items()},
        "problems": [asdict(problem) for problem in tally.problems],
        "livez_s": took,
        "resident_mib": [
            [round(moment - samples[0, 0], 1), round(held / 2**20, 1)] for moment, held in samples[:, :2]
        ],
        "resident_after_mib": [round(each / 2**20, 1) for each in memory],
        "handles": samples[:, 2].tolist(),
        "log_lines": written.count(b"\n"),
        "verdicts": [each.to_json() for each in found],
    }


def main() -> None:
    """Send and print; exit 1 where something should not have been."""
    experiment = Experiment("fuzz", __doc__, quick=f"{QUICK_REQUESTS} requests")
    parser = experiment.parser
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument(
        "--home",
        type=Path,
        metavar="FOLDER",
        help="a registry that has the targets already; a token is added to it",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--auth", choices=("off", REQUIRED), default="off")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="send one trial of the seed alone")
    given = experiment.arguments
    requests = QUICK_REQUESTS if given.quick else given.requests

    def run(home: Path) -> dict[str, Any]:
        if given.home is None:
            put_into_production(home)
        return measure(requests, given.seed, given.workers, given.auth, given.only, given.home or home)

    experiment.run(run)


if __name__ == "__main__":
    main()
