"""Ten minutes of honest and hostile requests together: ``python -m benchmarks.mixed``.

Small pictures, pictures of a megapixel and ``/livez`` are asked for at a steady rate, first in peace, then beside every
attack of ``benchmarks.hostile`` in turns, sent in every way at a bounded rate, then in peace again.
"""

import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import command, verdict
from benchmarks.contender import cultivar, say
from benchmarks.experiment import Experiment
from benchmarks.hostile.__main__ import CONNECTIONS, RATE, honest
from benchmarks.hostile.attack import ATTACKS, Attack, Subject
from benchmarks.hostile.delivery import Delivery
from benchmarks.hostile.process import striking
from benchmarks.hostile.record import KINDS
from benchmarks.machine import describe
from benchmarks.openloop import Phase, Records, Running
from benchmarks.spread import Spread, quantile
from benchmarks.table import table
from benchmarks.verdict import Verdict
from benchmarks.watch import Watch

MINUTES = 10.0
QUIET_S = 60.0
EVERY_S = 5.0
"""Between two strikes: 31 MiB at once, a form of 256 large pictures, or thirty connections that are held."""
AT_ONCE = 4
"""Strikes under way; one that is due beyond that waits."""
HELD_S = 15.0
"""How long a strike holds its connections where the server lets it."""
TIMES_AIM = 1.5
QUIET, HOSTILE, AFTER = range(3)
"""Phases."""


def strikes(attacks: Sequence[Attack], seed: int) -> Iterator[tuple[Attack, Delivery]]:
    """Yield attacks without end, each as often as every other, in random order and ways."""
    order = random.Random(seed)
    while True:
        for attack in order.sample(attacks, len(attacks)):
            yield attack, order.choice(list(Delivery))


def attacked(
    attacks: Sequence[Attack], port: int, began: float, ended: float, every_s: float, seed: int
) -> AbstractContextManager[Counter[str]]:
    """Strike between two moments of ``time.monotonic()``; the outcomes are there after the block."""
    return striking(partial(_strike, attacks, port, began, ended, every_s, seed))


def _strike(
    attacks: Sequence[Attack], port: int, began: float, ended: float, every_s: float, seed: int
) -> Counter[str]:
    outcomes: Counter[str] = Counter()

    def one(attack: Attack, delivery: Delivery, turn: int) -> None:
        try:
            outcome = attack.strike(port, delivery, turn, min(ended, time.monotonic() + HELD_S))
        except OSError as error:
            outcome = type(error).__name__
        outcomes[f"{attack.name}: {outcome}"] += 1

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for turn, (attack, delivery) in enumerate(strikes(attacks, seed)):
            due = began + turn * every_s
            if due >= ended:
                break
            time.sleep(max(0.0, due - time.monotonic()))
            pool.submit(one, attack, delivery, turn)
    return outcomes


def p99_ms(records: Records, phase: int, kind: int) -> float:
    """Return the 99th percentile of a kind of honest requests in a phase, in milliseconds."""
    within = records.within(phase)
    return quantile(within.where(within.number == kind).latencies_ms().tolist(), 0.99)


def verdicts(records: Records) -> list[Verdict]:
    """Return the aims and what came of them; the calmer of the two quiet times counts."""
    found = []
    for number, kind in enumerate(KINDS):
        quiet = min(p99_ms(records, QUIET, number), p99_ms(records, AFTER, number))
        times = Spread.of([p99_ms(records, HOSTILE, number) / quiet])
        found.append(Verdict(f"{kind}, p99 over quiet", times, TIMES_AIM, at_least=False))
    failed = Spread.of([float((records.status != 200).sum())])
    return [*found, Verdict("honest requests that were lost", failed, 0, at_least=False)]


def show(records: Records) -> str:
    """Return what honest requests saw, as a Markdown table."""
    rows = {}
    for phase, name in enumerate(("before", "with attacks", "after")):
        cells = []
        for number in range(len(KINDS)):
            within = records.within(phase)
            times = within.where(within.number == number).latencies_ms().tolist()
            cells.append(", ".join(f"{quantile(times, share):.1f}" for share in (0.5, 0.99, 1.0)))
        rows[name] = [str(int((records.phase == phase).sum())), *cells]
    return table("", ("requests", *(f"{kind}, p50, p99, longest, ms" for kind in KINDS)), rows)


def put_into_production(home: Path, target: str) -> None:
    """Adapt a version of digits and promote it."""
    say("adapting the model")
    command.run(
        home, "adapt", "example:digits", "--source", "bundled:glyphs", "--target", target,
        "--technique", "frozen", "--promote", "production",
    )  # fmt: skip


def measure(
    minutes: float, quiet_s: float, every_s: float, seed: int, registry: Path | None, home: Path
) -> dict[str, Any]:
    """Serve, ask and attack, print the table; return everything as JSON values."""
    subject = Subject()
    if registry is None:
        put_into_production(home, subject.target)
    requests = honest(home / "honest", subject.target)
    attacks = [kind(subject) for kind in ATTACKS]
    for attack in attacks:
        attack.prepare()
    phases = [Phase(RATE, quiet_s), Phase(RATE, 60 * minutes), Phase(RATE, quiet_s)]
    with (
        cultivar(registry or home, {}, feature_cache_bytes=64 << 20) as contender,
        Watch(contender.pid, 1.0) as watch,
    ):
        # What runs for the first time is slow, honest or not.
        Running(contender.port, requests, [Phase(RATE, 5.0)], home / "first.npz", seed, CONNECTIONS).records()
        say(f"{RATE:g} honest requests a second, a strike every {every_s:g} s for {minutes:g} minutes")
        running = Running(contender.port, requests, phases, home / "records.npz", seed, CONNECTIONS)
        began = running.started + quiet_s
        try:
            with attacked(attacks, contender.port, began, began + 60 * minutes, every_s, seed) as outcomes:
                records = running.records()
        finally:
            running.stop()
        held = watch.samples[:, 1] / 2**20
        tracebacks = (registry or home).joinpath(f"{contender.port}.log").read_bytes().count(b"Traceback")
    found = verdicts(records)
    found.append(Verdict("tracebacks in the log", Spread.of([tracebacks]), 0, at_least=False))
    print(show(records))
    print(table("attack: what it got", ("times",), {name: [str(n)] for name, n in sorted(outcomes.items())}))
    print(f"Memory, MiB: at first {held[0]:.0f}, at most {held.max():.0f}, at last {held[-1]:.0f}.")
    print(records.lateness(), f"Failures: {records.failures() or 'none'}.")
    return {
        "reached": verdict.show(found),
        "machine": describe(),
        "minutes": minutes,
        "every_s": every_s,
        "outcomes": dict(outcomes),
        "failures": records.failures(),
        "resident_mib": held.round(1).tolist(),
        "verdicts": [each.to_json() for each in found],
    }


def main() -> None:
    """Measure and print; exit 1 where an aim was missed."""
    experiment = Experiment("mixed", __doc__, quick="half a minute")
    experiment.parser.add_argument("--minutes", type=float, default=MINUTES, help="of attacks")
    experiment.parser.add_argument("--every", type=float, default=EVERY_S, help="seconds between two strikes")
    experiment.parser.add_argument("--quiet", type=float, default=QUIET_S, help="seconds before and after")
    experiment.parser.add_argument(
        "--home", type=Path, metavar="FOLDER", help="a registry that has the target already"
    )
    experiment.parser.add_argument("--seed", type=int, default=0, help="of arrivals and strikes")
    given = experiment.arguments
    minutes, quiet_s = (0.4, 5.0) if given.quick else (given.minutes, given.quiet)
    experiment.run(lambda home: measure(minutes, quiet_s, given.every, given.seed, given.home, home))


if __name__ == "__main__":
    main()
