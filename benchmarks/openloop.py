"""Load that does not wait for answers: requests are due when they are due, whatever the server does.

Arrivals are a Poisson process (seeded), in phases of constant rate. A request that is due takes a
connection that is free, or a new one up to a limit; beyond that it waits, and its wait counts. Times
are ``time.monotonic()``, which all processes of a machine share. One process, one thread, raw
sockets; ``Running`` runs it beside the caller, or by hand::

    python -m benchmarks.openloop --port 3000 --requests FOLDER --phases 100:10,200:10 --out FILE.npz
"""

import argparse
import json
import math
import re
import select
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np

from benchmarks.connection import Connection, Request

CONNECTIONS = 2000
"""At most as many at once; what is due beyond that waits for one."""
DRAIN_S = 40.0
"""How long answers may take after the last request."""
BROKEN = 0
"""The status of a request whose connection broke, or that was not answered in the end."""
LEAD_S = 1.5
"""Seconds between the start of the generator's process and the first phase: an interpreter has to start."""

_LOOK_S = 0.1
"""Between two looks whether to finish."""
_COARSE_S = 0.002
"""``epoll`` rounds its timeout up to a millisecond, so that shorter ones are left to ``select``."""
_VERSION = b"x-cultivar-version: "
_RETRY = b"retry-after: "
_LABEL = b'"label":"'
_PROBLEM = re.compile(rb'"code":"([^"]*)","message":"([^"]*)"')
_NUMBER = re.compile(rb"\d+")


@dataclass(frozen=True, slots=True)
class Phase:
    """A time of constant rate.

    Attributes:
        rate: requests a second, on average.
        seconds: how long.
    """

    rate: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Records:
    """What became of every request, in the order of their being due.

    Attributes:
        due: float64 [N], when each should have been sent.
        sent: float64 [N], when it was; not a number where it never was.
        ended: float64 [N], when its answer was whole, or its connection broke.
        status: int16 [N], HTTP status, or 0 where there was none.
        phase: int16 [N], number of the phase.
        number: int32 [N], number of the request among the distinct ones.
        ref: int16 [N], which of ``names`` the version's header named, or -1.
        label: int16 [N], which of ``names`` the first label was, or -1.
        retry: bool [N], whether the answer said Retry-After.
        problem: int16 [N], which of ``names`` a refusal's code and message were, or -1.
        names: versions, labels and problems that were seen; a problem's numbers are left out.
        edges: float64 [phases + 1], when phases began, and the last one ended.
        generator_s: float64 [phases], CPU seconds that the generator took in each.
    """

    due: np.ndarray
    sent: np.ndarray
    ended: np.ndarray
    status: np.ndarray
    phase: np.ndarray
    number: np.ndarray
    ref: np.ndarray
    label: np.ndarray
    retry: np.ndarray
    problem: np.ndarray
    names: tuple[str, ...]
    edges: np.ndarray
    generator_s: np.ndarray

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file of ``save``."""
        with np.load(path, allow_pickle=False) as file:
            fields = {name: file[name] for name in file.files}
        return cls(**fields | {"names": tuple(map(str, fields["names"]))})

    def save(self, path: Path) -> None:
        """Write everything into a file."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        np.savez(path, **fields | {"names": np.array(self.names, dtype=str)})

    def within(self, phase: int) -> Self:
        """Return the requests that were due in a phase."""
        return self.where(self.phase == phase)

    def where(self, chosen: np.ndarray) -> Self:
        """Return some of the requests: bool [N]."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        each = ("due", "sent", "ended", "status", "phase", "number", "ref", "label", "retry", "problem")
        return type(self)(**fields | {name: fields[name][chosen] for name in each})

    def latencies_ms(self) -> np.ndarray:
        """Return milliseconds from being due to the answer: float64 [N]."""
        return np.asarray(1e3 * (self.ended - self.due))

    def lateness(self) -> str:
        """Say how far the generator was behind: where that is not far below a latency, the latency is its own."""
        behind = 1e3 * (self.sent - self.due)[~np.isnan(self.sent)]
        median, tail = np.median(behind), np.quantile(behind, 0.99)
        return f"The generator sent {median:.1f} ms late in the median, {tail:.1f} at p99."

    def failures(self) -> dict[str, int]:
        """Return how many requests failed, by status and problem, the most frequent first."""
        failed = self.status != 200
        pairs = zip(self.status[failed].tolist(), self.problem[failed].tolist(), strict=True)
        return {self._words(*pair): count for pair, count in Counter(pairs).most_common()}

    def _words(self, status: int, problem: int) -> str:
        if status == BROKEN:
            return "no answer"
        return f"{status} {self.names[problem]}" if problem >= 0 else str(status)

    def answered_within(self, began: float, ended: float) -> int:
        """Return how many 200s came between two moments."""
        return int(((self.status == 200) & (self.ended > began) & (self.ended <= ended)).sum())

    def cores(self) -> np.ndarray:
        """Return how many cores the generator took, by phase: float64 [phases]."""
        return np.asarray(self.generator_s / np.diff(self.edges))


class OpenLoop:
    """A generator of load.

    Args:
        port: where the server listens on this machine.
        requests: whole HTTP requests, which go round.
        connections: at most as many at once.
    """

    def __init__(self, port: int, requests: Sequence[bytes], connections: int = CONNECTIONS) -> None:
        self._port = port
        self._requests = [Request(each) for each in requests]
        self._limit = connections
        self._poll = select.epoll()
        self._all: dict[int, Connection] = {}
        self._free: list[Connection] = []
        self._asked: dict[int, int] = {}
        self._writing: set[int] = set()
        self._waiting: deque[int] = deque()
        self._names: dict[bytes, int] = {}
        self._over = False

    def finish(self) -> None:
        """Send nothing more; ``run`` waits for what is under way and returns the records until now."""
        self._over = True

    def run(self, phases: Sequence[Phase], seed: int = 0, start: float | None = None) -> Records:
        """Send through all phases and wait for the last answers.

        Args:
            phases: rates and how long each holds.
            seed: of the arrivals.
            start: when the first phase begins; None is at once.
        """
        start = time.monotonic() if start is None else start
        due, phase, edges = arrivals(phases, seed)
        due, edges = due + start, edges + start
        count = len(due)
        self._sent = [math.nan] * count
        self._ended = [math.nan] * count
        self._status = [BROKEN] * count
        self._ref = [-1] * count
        self._label = [-1] * count
        self._retry = [False] * count
        self._problem = [-1] * count
        clocks = []
        following = 0
        moments = due.tolist()
        for edge in edges.tolist():
            # The next arrival after an edge is in the next phase.
            while following < count and moments[following] < edge and not self._over:
                now = time.monotonic()
                while following < count and moments[following] <= now and moments[following] < edge:
                    self._begin(following)
                    following += 1
                if following < count:
                    self._wait(min(moments[following], edge))
            while time.monotonic() < edge and not self._over:
                self._wait(min(edge, time.monotonic() + _LOOK_S))
            clocks.append(time.process_time())
            if self._over:
                edges = np.append(edges[: len(clocks) - 1], time.monotonic())
                break
        end = time.monotonic() + DRAIN_S
        while (self._asked or self._waiting) and time.monotonic() < end:
            self._wait(time.monotonic() + 0.1)
        for connection in list(self._all.values()):
            self._drop(connection)
        return Records(
            due[:following],
            np.array(self._sent[:following]),
            np.array(self._ended[:following]),
            np.array(self._status[:following], np.int16),
            phase[:following],
            (np.arange(following) % len(self._requests)).astype(np.int32),
            np.array(self._ref[:following], np.int16),
            np.array(self._label[:following], np.int16),
            np.array(self._retry[:following], bool),
            np.array(self._problem[:following], np.int16),
            tuple(name.decode("latin-1") for name in self._names),
            edges,
            np.diff(clocks),
        )

    def _begin(self, number: int) -> None:
        """Send a request that is due, or let it wait."""
        if self._free:
            connection = self._free.pop()
        elif len(self._all) < self._limit:
            connection = Connection(self._port)
            self._all[connection.descriptor] = connection
            self._poll.register(connection.descriptor, select.EPOLLIN)
        else:
            self._waiting.append(number)
            return
        descriptor = connection.descriptor
        self._asked[descriptor] = number
        self._sent[number] = time.monotonic()
        try:
            if not connection.begin(self._requests[number % len(self._requests)], number):
                self._writing.add(descriptor)
                self._poll.modify(descriptor, select.EPOLLIN | select.EPOLLOUT)
        except OSError:
            self._drop(connection)

    def _wait(self, until: float) -> None:
        """Handle what happens until a moment, at most one round of it."""
        rest = until - time.monotonic()
        if 0 < rest < _COARSE_S:
            select.select([self._poll], [], [], rest)
            rest = 0
        for descriptor, events in self._poll.poll(max(0.0, rest - 0.001)):
            connection = self._all.get(descriptor)
            if connection is None:
                continue
            try:
                if events & select.EPOLLOUT and connection.send():
                    self._writing.discard(descriptor)
                    self._poll.modify(descriptor, select.EPOLLIN)
                if events & ~select.EPOLLOUT and connection.receive():
                    self._end(connection)
            except OSError:
                self._drop(connection)
        while self._waiting and (self._free or len(self._all) < self._limit):
            self._begin(self._waiting.popleft())

    def _end(self, connection: Connection) -> None:
        """Note an answer, and let the connection go on."""
        answer = connection.answer
        number = self._asked.pop(connection.descriptor, None)
        if number is None:
            self._drop(connection)
            return
        self._ended[number] = time.monotonic()
        self._status[number] = connection.status
        self._ref[number] = self._named(answer, _VERSION, b"\r")
        self._label[number] = self._named(answer, _LABEL, b'"')
        self._retry[number] = _RETRY in answer
        if connection.status != 200 and (problem := _PROBLEM.search(answer)):
            self._problem[number] = self._numbered(problem[1] + b": " + _NUMBER.sub(b"N", problem[2]))
        if connection.descriptor in self._writing or b"connection: close" in answer:
            self._drop(connection)
        else:
            self._free.append(connection)

    def _named(self, answer: bytes, before: bytes, after: bytes) -> int:
        at = answer.find(before)
        if at < 0:
            return -1
        at += len(before)
        return self._numbered(answer[at : answer.find(after, at)])

    def _numbered(self, name: bytes) -> int:
        return self._names.setdefault(name, len(self._names))

    def _drop(self, connection: Connection) -> None:
        """Close a connection; its request, if it has one, is broken."""
        descriptor = connection.descriptor
        del self._all[descriptor]
        self._writing.discard(descriptor)
        number = self._asked.pop(descriptor, None)
        if number is not None:
            self._ended[number] = time.monotonic()
        elif connection in self._free:
            self._free.remove(connection)
        connection.close()


def arrivals(phases: Sequence[Phase], seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a Poisson process in phases.

    Returns:
        Seconds from the beginning, float64 [N], rising; the number of each one's phase, int16 [N]; the
        phases' edges, float64 [phases + 1].
    """
    random = np.random.default_rng(seed)
    edges = np.cumsum([0.0, *(phase.seconds for phase in phases)])
    # Given their number, the arrivals of a Poisson process are uniform.
    drawn = [
        np.sort(random.uniform(began, ended, random.poisson(phase.rate * phase.seconds)))
        for phase, (began, ended) in zip(phases, pairwise(edges), strict=True)
    ]
    numbers = [np.full(len(each), number, np.int16) for number, each in enumerate(drawn)]
    return np.concatenate(drawn), np.concatenate(numbers), edges


class Running:
    """A generator in a process of its own.

    Args:
        port: where the server listens.
        requests: folder of whole HTTP requests.
        phases: rates and how long each holds.
        out: file for the records.
        seed: of the arrivals.
        connections: at most as many at once.

    Attributes:
        started: when the first phase begins, by ``time.monotonic()``.
    """

    def __init__(
        self,
        port: int,
        requests: Path,
        phases: Sequence[Phase],
        out: Path,
        seed: int = 0,
        connections: int = CONNECTIONS,
    ) -> None:
        self.started = time.monotonic() + LEAD_S
        self._out = out
        text = ",".join(f"{phase.rate:g}:{phase.seconds:g}" for phase in phases)
        command = [
            sys.executable,
            "-m",
            "benchmarks.openloop",
            "--port",
            str(port),
            "--requests",
            str(requests),
        ]
        command += ["--phases", text, "--out", str(out), "--seed", str(seed), "--start", str(self.started)]
        self._process = subprocess.Popen([*command, "--connections", str(connections)])

    def records(self) -> Records:
        """Wait for the end; return what became of every request.

        Raises:
            SystemExit: the generator failed.
        """
        if self._process.wait():
            sys.exit("the load generator failed")
        return Records.load(self._out)

    def finish(self) -> Records:
        """Let it send nothing more; return what became of every request until now.

        Raises:
            SystemExit: the generator failed.
        """
        self._process.terminate()
        return self.records()

    def stop(self) -> None:
        """End it if it runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def _phases(text: str) -> list[Phase]:
    return [Phase(*map(float, part.split(":"))) for part in text.split(",")]


def main() -> None:
    """Produce load and write what became of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--requests", type=Path, required=True, help="folder of whole HTTP requests")
    parser.add_argument("--phases", type=_phases, required=True, metavar="RATE:SECONDS,…")
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=float, help="when to begin, by CLOCK_MONOTONIC")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.npz")
    arguments = parser.parse_args()
    requests = [file.read_bytes() for file in sorted(arguments.requests.iterdir())]
    load = OpenLoop(arguments.port, requests, arguments.connections)
    signal.signal(signal.SIGTERM, lambda number, frame: load.finish())
    try:
        records = load.run(arguments.phases, arguments.seed, arguments.start)
    except KeyboardInterrupt:
        sys.exit(130)
    records.save(arguments.out)
    statuses, counts = np.unique(records.status, return_counts=True)
    print(
        json.dumps({str(each): int(count) for each, count in zip(statuses, counts, strict=True)}),
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
