"""What honest clients see while others mean harm: ``python -m benchmarks.hostile``.

``cultivar serve`` answers for handwritten digits. Small pictures, pictures of a megapixel and ``/livez`` are asked for
at a steady rate, first in peace and then beside each attack: one copy of it and six, three runs each, sent in several
ways. After each run the worker's memory and file handles are read. What was measured is kept in the file of ``--json``
case by case, and a further call goes on where the last one ended.
"""

import base64
import io
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import command, verdict
from benchmarks.connection import HOST
from benchmarks.contender import Contender, cultivar, request, say, write
from benchmarks.experiment import Experiment
from benchmarks.hostile.attack import ATTACKS, Attack, NeverReads, Subject, ask
from benchmarks.hostile.delivery import Delivery, Request
from benchmarks.hostile.process import striking
from benchmarks.hostile.record import KINDS, Run, Store
from benchmarks.kills import workers
from benchmarks.machine import describe
from benchmarks.openloop import Phase, Running
from benchmarks.photographs import photograph
from benchmarks.spread import Spread
from benchmarks.table import table
from benchmarks.verdict import Verdict

RATE = 30.0
"""Honest requests a second, a third of each kind."""
CONNECTIONS = 64
COPIES = (1, 6)
RUNS = 3
SETTLE_S = 2.0
QUIET = "quiet"
LATER_AIM_S, ALIVE_AIM_S, GROWTH_AIM_MIB = 0.5, 0.25, 20.0
PLACES_SETTINGS: Mapping[str, Any] = {"max_requests": 2, "deadline_s": 5.0}
PLACES_AIM_S = 11.0
"""The limit on writing, and a second."""


def honest(folder: Path, target: str) -> Path:
    """Write the honest requests, in the order of ``KINDS``; return their folder."""
    small = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)).save(small, "PNG")
    path = f"/v1/classify/{target}"
    return write(
        folder,
        [
            request(path, "image/png", small.getvalue()),
            request(path, "image/jpeg", photograph(0, 1000, 1000)),
            f"GET /livez HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode(),
        ],
    )


def attacked(
    attack: Attack, port: int, delivery: Delivery, copies: int, until: float
) -> AbstractContextManager[Counter[str]]:
    """Let copies of an attack strike until a moment; the outcomes are there after the block."""
    return striking(partial(_strike, attack, port, delivery, copies, until))


def _strike(attack: Attack, port: int, delivery: Delivery, copies: int, until: float) -> Counter[str]:
    """Strike in as many threads as there are copies, each from another strike on."""
    outcomes: Counter[str] = Counter()

    def copy(number: int) -> None:
        turn = number
        while time.monotonic() < until:
            try:
                outcome = attack.strike(port, delivery, turn, until)
            except OSError as error:
                outcome = type(error).__name__
            outcomes[outcome] += 1
            turn += 1

    threads = [threading.Thread(target=copy, args=(number,)) for number in range(copies)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


@dataclass(frozen=True, slots=True)
class Pace:
    """How much is done.

    Attributes:
        seconds: of each run.
        runs: of each case.
        copies: of an attack at once.
    """

    seconds: float
    runs: int
    copies: Sequence[int]


def warm(port: int, requests: Path, subject: Subject) -> None:
    """Ask for everything once: BentoML opens files when its operations are first asked."""
    picture = sorted(requests.iterdir())[0].read_bytes().partition(b"\r\n\r\n")[2]
    document = {"target": subject.target, "images": [base64.b64encode(picture).decode()]}
    for path in ("/classify", "/embed"):
        sent = Request(path, "application/json", json.dumps(document).encode()).written(Delivery.POST)
        if ask(port, sent) != "200":
            sys.exit(f"expected 200 from {path}, got something else")


class Trial:
    """A server under attack.

    Args:
        contender: the server.
        requests: folder of the honest ones.
        home: folder for what is passed between processes.
        seconds: of each run.
        runs: of each case.
    """

    def __init__(self, contender: Contender, requests: Path, home: Path, seconds: float, runs: int) -> None:
        self._contender = contender
        self._requests = requests
        self._records = home / "records.npz"
        self._seconds = seconds
        self._runs = runs
        self._seed = 0

    def quiet(self) -> Run:
        """Measure honest requests alone."""
        return self._run(None, Delivery.POST, 0)

    def case(self, attack: Attack, delivery: Delivery, copies: int) -> list[Run]:
        """Measure honest requests beside an attack, several times."""
        return [self._run(attack, delivery, copies) for _ in range(self._runs)]

    def _run(self, attack: Attack | None, delivery: Delivery, copies: int) -> Run:
        self._seed += 1
        contender = self._contender
        running = Running(
            contender.port,
            self._requests,
            [Phase(RATE, self._seconds)],
            self._records,
            self._seed,
            CONNECTIONS,
        )
        outcomes: Mapping[str, int] = {}
        try:
            if attack is not None:
                until = running.started + self._seconds
                time.sleep(max(0.0, running.started - time.monotonic()))
                with attacked(attack, contender.port, delivery, copies, until) as outcomes:
                    pass
            records = running.records()
        finally:
            running.stop()
        time.sleep(SETTLE_S)
        return Run.of(records, outcomes, workers(contender.pid))


def places(contender: Contender, requests: Path, subject: Subject) -> dict[str, float]:
    """Let nobody read while two requests may be under way; return seconds until one of another client is answered."""
    found = {}
    small = sorted(requests.iterdir())[0].read_bytes()
    for delivery in (Delivery.POST, Delivery.CHUNKED):
        for copies in COPIES:
            began = time.monotonic()
            with attacked(NeverReads(subject), contender.port, delivery, copies, began + 20):
                time.sleep(5.0)
                asked = time.monotonic()
                while (
                    ask(contender.port, [small.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)])
                    != "200"
                ):
                    time.sleep(0.1)
                found[f"{delivery.value}, {copies}"] = time.monotonic() - asked
    return found


def name_of(attack: type[Attack], delivery: Delivery, copies: int) -> str:
    """Return the name of a case."""
    return f"{attack.name}, {delivery.value}, {copies}"


def later_ms(runs: Sequence[Run], quiet: Run, kind: str) -> float:
    """Return how many milliseconds longer the slowest hundredth waited than in peace, in the worst run."""
    return max(run.p99_ms[kind] for run in runs) - quiet.p99_ms[kind]


def show(cases: Mapping[str, list[Run]]) -> str:
    """Return the results as a Markdown table."""
    quiet = cases[QUIET][0]
    columns = (
        *(f"{kind}, p99 later, ms" for kind in KINDS),
        "failed",
        "memory 2 → 3, MiB",
        "handles",
        "attack got",
    )
    rows = {"quiet (p99 itself)": [*(f"{quiet.p99_ms[kind]:.0f}" for kind in KINDS), *_left([quiet]), ""]}
    for name, runs in cases.items():
        if name != QUIET:
            outcomes = sum((Counter(run.outcomes) for run in runs), Counter())
            got = ", ".join(f"{count} × {what}" for what, count in outcomes.most_common(4))
            rows[name] = [*(f"{later_ms(runs, quiet, kind):+.0f}" for kind in KINDS), *_left(runs), got]
    return table("attack, how, copies", columns, rows)


def _left(runs: Sequence[Run]) -> list[str]:
    failed = sum((Counter(run.failed) for run in runs), Counter())
    text = ", ".join(f"{count} × {what}" for what, count in failed.items()) or "0"
    return [text, f"{growth_mib(runs):+.1f}", str(runs[-1].handles)]


def growth_mib(runs: Sequence[Run]) -> float:
    """Return how much memory the last run took beyond the one before."""
    return runs[-1].resident_mib - runs[-2].resident_mib if len(runs) > 1 else 0.0


def verdicts(store: Store) -> list[Verdict]:
    """Return the aims and what came of them."""
    cases = {name: runs for name, runs in store.cases.items() if name != QUIET}
    quiet = store.cases[QUIET][0]

    def spread(values: Sequence[float]) -> Spread:
        """The worst of all cases is what counts."""
        return Spread(max(values), min(values), max(values), len(values))

    found = [
        Verdict(
            f"{kind}, p99 later than in peace, worst case",
            spread([later_ms(runs, quiet, kind) / 1e3 for runs in cases.values()]),
            ALIVE_AIM_S if kind == "/livez" else LATER_AIM_S,
            at_least=False,
            unit=" s",
        )
        for kind in KINDS
    ]
    failed = [float(sum(sum(run.failed.values()) for run in runs)) for runs in cases.values()]
    grown = [growth_mib(runs) for runs in cases.values()]
    left = [float(runs[-1].handles - quiet.handles) for runs in cases.values()]
    found += [
        Verdict("honest requests that failed", spread(failed), 0, at_least=False),
        Verdict(
            "memory after run 3 over run 2",
            spread(grown),
            GROWTH_AIM_MIB,
            at_least=False,
            unit=" MiB",
        ),
        Verdict("file handles more than before", spread(left), 0, at_least=False),
    ]
    if store.places:
        waited = spread(list(store.places.values()))
        found.append(Verdict("a place is free", waited, PLACES_AIM_S, at_least=False, unit=" s"))
    return found


def measure(
    pace: Pace,
    attacks: Sequence[type[Attack]],
    deliveries: Sequence[Delivery],
    store: Store,
    home: Path,
) -> dict[str, Any]:
    """Attack a server in every way, print the table; return everything as JSON values."""
    subject = Subject()
    say("adapting the model")
    command.run(
        home, "adapt", "example:digits", "--source", "bundled:glyphs", "--target", subject.target,
        "--technique", "frozen", "--promote", "production",
    )  # fmt: skip
    requests = honest(home / "honest", subject.target)
    with cultivar(home, {}, feature_cache_bytes=64 << 20) as contender:
        trial = Trial(contender, requests, home, pace.seconds, pace.runs)
        warm(contender.port, requests, subject)
        trial.quiet()
        if QUIET not in store.cases:
            store.put(QUIET, [trial.quiet()])
        for kind in attacks:
            attack = kind(subject)
            todo = [
                (delivery, copies)
                for delivery in deliveries
                for copies in pace.copies
                if name_of(kind, delivery, copies) not in store.cases
            ]
            if todo:
                attack.prepare()
            for delivery, copies in todo:
                name = name_of(kind, delivery, copies)
                store.put(name, trial.case(attack, delivery, copies))
                later = {
                    each: round(later_ms(store.cases[name], store.cases[QUIET][0], each)) for each in KINDS
                }
                say(f"  {name}: {later} ms later, failed {_left(store.cases[name])[0]}")
        log = next(home.glob("*.log"))
        tracebacks = log.read_bytes().count(b"Traceback")
    if not store.places and NeverReads in attacks:
        with cultivar(home, {}, **PLACES_SETTINGS) as contender:
            store.put_places(places(contender, requests, subject))
    found = [*verdicts(store), Verdict("tracebacks in the log", Spread.of([tracebacks]), 0, at_least=False)]
    print(show(store.cases))
    if store.places:
        rows = {name: [f"{seconds:.2f}"] for name, seconds in store.places.items()}
        print(table("never reads, two places", ("seconds until one is free",), rows))
    return {"reached": verdict.show(found), "machine": describe(), "seconds": pace.seconds} | store.to_json()


def main() -> None:
    """Measure and print; exit 1 where an aim was missed."""
    experiment = Experiment("hostile", __doc__, quick="three minutes, and too short for figures")
    by_name = {kind.name: kind for kind in ATTACKS}
    experiment.parser.add_argument(
        "--attacks", nargs="+", choices=[*by_name], default=[*by_name], metavar="NAME"
    )
    experiment.parser.add_argument(
        "--deliveries", nargs="+", choices=[each.value for each in Delivery], metavar="HOW"
    )
    experiment.parser.add_argument("--seconds", type=float, default=8.0, help="of each run")
    experiment.parser.add_argument("--runs", type=int, default=RUNS, help="of each case")
    experiment.parser.add_argument("--copies", type=int, nargs="+", default=list(COPIES), help="at once")
    given = experiment.arguments
    attacks = [by_name[name] for name in given.attacks]
    deliveries = [Delivery(each) for each in given.deliveries or Delivery]
    pace = Pace(given.seconds, given.runs, given.copies)
    if given.quick:
        pace, deliveries = replace(pace, seconds=2.0), deliveries[:1]
    experiment.run(lambda home: measure(pace, attacks, deliveries, Store(given.json), home))


if __name__ == "__main__":
    main()
