"""Promotions and rollbacks under load: ``python -m benchmarks.promotions``.

Requests come at a share of what the server sustains, whatever it does, while versions take turns
in production. Every answer must have status 200, come from a version that was in production at some
moment between the request's sending and its answer, and have the first label that ``cultivar
classify`` gives offline for that version. In the end a version whose bytes are damaged is promoted:
it must never answer, and the one before it must go on. What each figure means is in
``benchmarks/README.md``.
"""

import http.client
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command, prepared, verdict, weightless
from benchmarks.capacity import Capacity, capacity
from benchmarks.connection import HOST
from benchmarks.contender import MEDIA, PICTURES, cultivar, say
from benchmarks.experiment import Experiment
from benchmarks.machine import describe
from benchmarks.openloop import Phase, Records, Running
from benchmarks.photographs import photograph
from benchmarks.spread import Spread, quantile
from benchmarks.table import table
from benchmarks.verdict import Verdict
from registry.registry import Registry
from registry.settings import Settings

TARGET = "moving"
WEIGHTLESS, HEADS, WHOLE = "weightless", "heads", "whole"
KINDS = {
    WEIGHTLESS: "a model that costs nothing, other heads on its trunk",
    HEADS: "a network, other heads on its trunk",
    WHOLE: "networks that share nothing",
}
VERSIONS = 5
MOVES = 25
ROLLBACK_EVERY = 5
"""Every so many-th move is a rollback: of 25 moves 20 are promotions."""
GAP_S = 1.0
"""Load between one move and the next."""
STEADY_S = 12.0
"""Load before the moves, and after."""
DAMAGED_S = 3.0
STEP_S = 3.0
"""In so long a server that falls behind by a tenth has answers that are 300 ms late."""
SHARE = 0.7
"""Of what the server sustains."""
SLACK_S = 0.3
"""Several workers look at the registry on their own: so much later than the first the last one may follow."""
QUIET_POLL_S = 0.01
QUIET_MOVES = 15
SPACING_S = 0.002
TAIL_AIM = 1.5
REACH_AIM_MS = 50.0
GIVE_UP_S = 30.0
BEFORE, MOVING, AFTER, DAMAGED = range(4)


@dataclass(frozen=True, slots=True)
class Pace:
    """How much is done.

    Attributes:
        workers: the server's processes, of one trial each in a repeat.
        repeats: of every trial.
        moves: promotions and rollbacks under load.
        steady_s: seconds of load before the moves, and after.
        quiet_moves: promotions on a server that nobody else asks.
        step_s: seconds of each rate that the server is tried with.
    """

    workers: tuple[int, ...]
    repeats: int
    moves: int
    steady_s: float
    quiet_moves: int
    step_s: float


QUICK = Pace((1,), 1, 5, 4.0, 5, 1.0)


@dataclass(frozen=True, slots=True)
class Reign:
    """The beginning of a version's time in production: when its move began, and was done; by ``time.monotonic()``."""

    ref: str
    began: float
    moved: float = 0.0


@dataclass(frozen=True, slots=True)
class Material:
    """What a trial needs.

    Attributes:
        home: the registry's folder.
        refs: versions that are whole.
        damaged: one that is not.
        requests: folder of requests, by kind of input.
        labels: the first label of each version for each distinct picture, offline.
    """

    home: Path
    refs: tuple[str, ...]
    damaged: str
    requests: Mapping[str, Path]
    labels: Mapping[tuple[str, int], str]


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one run under load.

    Attributes:
        workers: the server's processes.
        capacity: what the server could do before.
        answers: 200s.
        failures: answers of another status by their problem, and connections that broke.
        wrong_version: answers of a version that was not in production.
        wrong_label: answers that offline would have been others.
        damaged: answers of the damaged version.
        steady_p99_ms: before and after the moves.
        moving_p99_ms: during them.
        reached_ms: from each move's end to the first answer of its version; moves that the server passed over,
            having seen the next one, are left out.
        generator: cores that the load generator took.
    """

    workers: int
    capacity: Capacity
    answers: int
    failures: Mapping[str, int]
    wrong_version: int
    wrong_label: int
    damaged: int
    steady_p99_ms: float
    moving_p99_ms: float
    reached_ms: tuple[float, ...]
    generator: float

    @property
    def rate(self) -> float:
        """Requests a second that were sent."""
        return SHARE * self.capacity.sustained

    @property
    def failed(self) -> int:
        """Requests that no 200 answered."""
        return sum(self.failures.values())


def make(kind: str, spec: str, home: Path) -> Material:
    """Register the versions, damage the last one, and ask for every label offline."""
    side = weightless.SIDE if kind == WEIGHTLESS else prepared.SIDE
    if kind == HEADS:
        prepared.versions(home, spec, TARGET, "--heads-of-one", str(VERSIONS + 1))
    elif kind == WHOLE:
        prepared.versions(home, spec, TARGET, "--versions", str(VERSIONS + 1))
    with Registry.open(Settings.read(home)) as registry:
        if kind == WEIGHTLESS:
            for seed in range(VERSIONS + 1):
                weightless.put_into_production(registry, TARGET, seed)
        refs = [f"random/{TARGET}@{number}" for number in range(1, VERSIONS + 2)]
        registry.promote(refs[0], "production")
        path = registry.blob_path(registry.manifest(registry.resolve(refs[-1])).segments[-1].digest)
        data = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(data[:-64] + bytes(64))
    requests = prepared.photographs(home / "requests", [f"/v1/classify/{TARGET}?top_k=1"], side)
    labels = first_labels(
        home, refs[:-1], [photograph(seed, side, side) for seed in range(prepared.DISTINCT)]
    )
    return Material(home, tuple(refs[:-1]), refs[-1], requests, labels)


def first_labels(home: Path, refs: Sequence[str], pictures: Sequence[bytes]) -> dict[tuple[str, int], str]:
    """Return each version's first label for each picture, by ``cultivar classify``."""
    files = [home / f"{number:03}.jpg" for number in range(len(pictures))]
    for file, data in zip(files, pictures, strict=True):
        file.write_bytes(data)
    found: dict[tuple[str, int], str] = {}
    for ref in refs:
        results = command.run(home, "classify", ref, *map(str, files), "--top-k", "1")["results"]
        found |= {(ref, number): result["labels"][0]["label"] for number, result in enumerate(results)}
    return found


def move(registry: Registry, refs: Sequence[str], number: int) -> Reign:
    """Promote the next version, or now and then roll back; return the reign that begins."""
    began = time.monotonic()
    if number % ROLLBACK_EVERY == ROLLBACK_EVERY - 1:
        ref = str(registry.rollback(TARGET).ref)
    else:
        now = str(registry.stages(TARGET)["production"])
        ref = str(registry.promote(refs[(refs.index(now) + 1) % len(refs)], "production").ref)
    return Reign(ref, began, moved=time.monotonic())


def under_load(material: Material, workers: int, pace: Pace, seed: int) -> Trial:
    """Move versions under load and check every answer."""
    with (
        Registry.open(Settings.read(material.home)) as registry,
        cultivar(material.home, material.requests, workers=workers) as contender,
    ):
        found = capacity(contender, PICTURES, material.home, pace.steady_s / 4, pace.step_s, seed)
        parts = (pace.steady_s, pace.moves * GAP_S, pace.steady_s, DAMAGED_S)
        phases = [Phase(SHARE * found.sustained, seconds) for seconds in parts]
        out = material.home / "records.npz"
        running = Running(contender.port, material.requests[PICTURES], phases, out, seed)
        edges = running.started + np.cumsum([0.0, *(phase.seconds for phase in phases)])
        try:
            reigns = [Reign(str(registry.stages(TARGET)["production"]), 0.0)]
            for number in range(pace.moves):
                _sleep_until(edges[MOVING] + number * GAP_S)
                reigns.append(move(registry, material.refs, number))
            _sleep_until(edges[DAMAGED])
            registry.promote(material.damaged, "production")
            records = running.records()
            registry.promote(material.refs[0], "production")
        finally:
            running.stop()
    say(records.lateness())
    return judge(records, reigns, material, workers, found)


def judge(
    records: Records, reigns: Sequence[Reign], material: Material, workers: int, capacity: Capacity
) -> Trial:
    """Check every answer against what was in production and against the offline labels."""
    answered = records.where(records.status == 200)
    named = {name: number for number, name in enumerate(records.names)}
    versions = [answered.ref == named.get(reign.ref, -2) for reign in reigns]
    # A version reigns more than once: its answer is taken to be of the last time that had begun.
    reign_of = np.full(len(answered.due), -1)
    for number, (reign, ours) in enumerate(zip(reigns, versions, strict=True)):
        reign_of[ours & (answered.ended >= reign.began)] = number
    seen = np.array([answered.ended[reign_of == number].min(initial=np.inf) for number in range(len(reigns))])
    # A server may pass over a reign that was short; it may not go back to one.
    over = np.append(np.minimum.accumulate(seen[::-1])[::-1][1:], np.inf) + (SLACK_S if workers > 1 else 0.0)
    right = np.zeros(len(answered.due), bool)
    for reign, ours, end in zip(reigns, versions, over, strict=True):
        right |= ours & (answered.ended >= reign.began) & (answered.sent <= end)
    moved = np.array([reign.moved for reign in reigns])
    reached = 1e3 * np.maximum(seen - moved, 0.0)[1:]
    names = records.names
    labels = [
        names[label] == material.labels.get((names[ref], int(number) % prepared.DISTINCT))
        for ref, label, number in zip(answered.ref, answered.label, answered.number, strict=True)
    ]
    took = answered.latencies_ms()
    steady = took[np.isin(answered.phase, (BEFORE, AFTER))]
    return Trial(
        workers=workers,
        capacity=capacity,
        answers=len(answered.due),
        failures=records.failures(),
        wrong_version=int((~right).sum()),
        wrong_label=len(labels) - sum(labels),
        damaged=int((answered.ref == named.get(material.damaged, -2)).sum()),
        steady_p99_ms=quantile(steady.tolist(), 0.99),
        moving_p99_ms=quantile(took[answered.phase == MOVING].tolist(), 0.99),
        reached_ms=tuple(reached[np.isfinite(reached)].tolist()),
        generator=float(records.cores().mean()),
    )


def in_the_quiet(material: Material, moves: int) -> list[float]:
    """Return milliseconds from the end of each promotion to the first answer of its version.

    Nothing else is asked; the server looks at the registry every 10 ms, and is asked 2 ms after each
    answer, so that a figure is above the truth by up to both and an answer's own time.
    """
    kind = MEDIA[PICTURES]
    data = photograph(0, prepared.SIDE, prepared.SIDE)
    found = []
    with (
        Registry.open(Settings.read(material.home)) as registry,
        cultivar(material.home, material.requests, workers=1, poll_s=QUIET_POLL_S) as contender,
    ):
        connection = http.client.HTTPConnection(HOST, contender.port, timeout=GIVE_UP_S)
        for number in range(moves):
            now = str(registry.stages(TARGET)["production"])
            ref = material.refs[(material.refs.index(now) + 1) % len(material.refs)]
            registry.promote(ref, "production")
            moved = time.monotonic()
            while True:
                # Another end each time: an answer that is remembered would come without the model.
                connection.request(
                    "POST", f"/v1/classify/{TARGET}", data + b"%d" % number, {"Content-Type": kind}
                )
                answer = connection.getresponse()
                answer.read()
                if answer.headers["x-cultivar-version"] == ref:
                    break
                if time.monotonic() > moved + GIVE_UP_S:
                    sys.exit(f"the server did not follow to {ref} within {GIVE_UP_S:g} s")
                time.sleep(SPACING_S)
            found.append(1e3 * (time.monotonic() - moved))
        connection.close()
    return found


def verdicts(trials: Sequence[Trial], quiet: Sequence[float]) -> list[Verdict]:
    """Return the aims and what came of them."""
    found = []
    for workers in dict.fromkeys(trial.workers for trial in trials):
        ours = [trial for trial in trials if trial.workers == workers]
        for claim, counts in (
            ("failed", [trial.failed for trial in ours]),
            ("answers of a version not in production", [trial.wrong_version for trial in ours]),
            ("first labels other than offline", [trial.wrong_label for trial in ours]),
            ("answers of the damaged version", [trial.damaged for trial in ours]),
        ):
            found.append(Verdict(f"{_workers(workers)}: {claim}", Spread.of(counts), 0, at_least=False))
        tails = Spread.of([trial.moving_p99_ms / trial.steady_p99_ms for trial in ours])
        found.append(Verdict(f"{_workers(workers)}: p99 over steady p99", tails, TAIL_AIM, at_least=False))
    claim = "a promotion in the quiet is answered by after"
    return [*found, Verdict(claim, Spread.of(quiet), REACH_AIM_MS, at_least=False, unit=" ms")]


def show(trials: Sequence[Trial]) -> str:
    """Return what was seen as a Markdown table."""
    columns = [
        "peak, closed",
        "sustained",
        "requests/s",
        "answers",
        "failed",
        "wrong version",
        "wrong label",
        "damaged answers",
    ]
    columns += ["p99 steady, ms", "p99 moving, ms", "seen after, ms", "generator, cores"]
    rows = {}
    for number, trial in enumerate(trials, 1):
        figures = [f"{each:.0f}" for each in (trial.capacity.peak, trial.capacity.sustained, trial.rate)]
        figures += [*map(str, (trial.answers, trial.failed, trial.wrong_version))]
        figures += [str(trial.wrong_label), str(trial.damaged), f"{trial.steady_p99_ms:.1f}"]
        figures += [
            f"{trial.moving_p99_ms:.1f}",
            Spread.of(trial.reached_ms).show(0),
            f"{trial.generator:.2f}",
        ]
        rows[f"run {number}, {_workers(trial.workers)}"] = figures
    causes = [
        f"Run {number}: {count} failed: {cause}"
        for number, trial in enumerate(trials, 1)
        for cause, count in trial.failures.items()
    ]
    return "\n".join([table("", columns, rows), *causes])


def _workers(count: int) -> str:
    return f"{count} worker{'s' if count > 1 else ''}"


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def measure(pace: Pace, kind: str, spec: str, seed: int, home: Path) -> dict[str, Any]:
    """Make the versions, move them under load and in the quiet, print it; return everything as JSON values."""
    material = make(kind, spec, home)
    trials: list[Trial] = []
    for repeat in range(pace.repeats):
        for workers in pace.workers:
            trials.append(under_load(material, workers, pace, seed + repeat))
            say(f"  {trials[-1]}")
    quiet = in_the_quiet(material, pace.quiet_moves)
    print(show(trials))
    found = verdicts(trials, quiet)
    return {
        "reached": verdict.show(found),
        "machine": describe(),
        "versions": kind,
        "trials": [{**asdict(trial), "rate": trial.rate, "failed": trial.failed} for trial in trials],
        "quiet_ms": quiet,
        "verdicts": [each.to_json() for each in found],
    }


def main() -> None:
    """Run the trials, print their figures; status 1 if an answer was lost or wrong, or an aim missed."""
    quick = "one worker, five moves, a model that costs nothing"
    experiment = Experiment("promotions", __doc__, quick=quick)
    parser = experiment.parser
    parser.add_argument("--moves", type=int, default=MOVES, help="promotions and rollbacks together")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4], help="the server's processes")
    parser.add_argument("--repeats", type=int, default=3)
    kinds = "; ".join(f"{kind}: {words}" for kind, words in KINDS.items())
    parser.add_argument("--versions", choices=KINDS, default=HEADS, help=kinds)
    parser.add_argument(
        "--source", default=prepared.SOURCE, metavar="SPEC", help="the network, where there is one"
    )
    parser.add_argument("--seed", type=int, default=0, help="of arrivals")
    given = experiment.arguments
    usual = Pace(tuple(given.workers), given.repeats, given.moves, STEADY_S, QUIET_MOVES, STEP_S)
    pace, kind = (QUICK, WEIGHTLESS) if given.quick else (usual, given.versions)
    experiment.run(lambda home: measure(pace, kind, given.source, given.seed, home))


if __name__ == "__main__":
    main()
