"""The load generator: a process of its own, as cheap as one in Python can be.

Every connection sends a request, waits for the answer and sends the next one at once (a closed
loop). Requests are whole files of bytes, read beforehand; of an answer only the status and the
length are read. It stands on the standard library, so that it starts fast and stays small::

    python -m benchmarks.load --port 3000 --requests FOLDER --connections 32 --seconds 5 --root PID
"""

import argparse
import json
import select
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.connection import Connection, Request
from benchmarks.machine import busy_seconds, cpu_seconds, tree
from benchmarks.measurement import Measurement
from benchmarks.spread import quantile

WARM_S = 1.5
"""Seconds of load before the window opens."""
STALL_S = 60.0
"""Silence after which the server is given up."""


class LoadFailed(Exception):
    """An answer was not what a measurement needs."""


class Load:
    """A number of connections to one server, and what they saw.

    Args:
        port: where the server listens on this machine.
        requests: whole HTTP requests; each connection begins at another one and goes round.
        connections: requests under way at once.
    """

    def __init__(self, port: int, requests: Sequence[bytes], connections: int) -> None:
        self._requests = [Request(each) for each in requests]
        self._poll = select.epoll()
        connected = [Connection(port) for _ in range(connections)]
        self._connections = {connection.descriptor: connection for connection in connected}
        self._sent_at: dict[int, float] = {}
        self._turn = 0
        self._under_way = 0
        self._answered: list[tuple[float, float]] = []

    def measure(self, root: int, seconds: float, warm_s: float = WARM_S) -> Measurement:
        """Load the server, and measure in a window.

        Args:
            root: process id of the server's oldest process.
            seconds: the window's length.
            warm_s: seconds of load before it.

        Raises:
            LoadFailed: an answer was not a 200, or none came for a minute.
        """
        for descriptor, connection in self._connections.items():
            self._poll.register(descriptor, select.EPOLLIN)
            self._begin(connection)
        self._serve(until=time.perf_counter() + warm_s)
        pids = tree(root)
        loaded = (time.perf_counter(), time.process_time(), cpu_seconds(pids), busy_seconds())
        self._serve(until=loaded[0] + seconds)
        closed = (time.perf_counter(), time.process_time(), cpu_seconds(pids), busy_seconds())
        self._drain()
        wall, generator, server, busy = (after - before for before, after in zip(loaded, closed, strict=True))
        times = [end - start for start, end in self._answered if loaded[0] < end <= closed[0]]
        # A small window and slow answers: fall back on those that straddle its edges.
        times = times or [end - start for start, end in self._answered if end > loaded[0]]
        return Measurement(
            seconds=wall,
            rows=sum(_share(answer, loaded[0], closed[0]) for answer in self._answered),
            cpu_s=server,
            generator_s=generator,
            others_s=max(0.0, busy - generator - server),
            p50_ms=1e3 * quantile(times, 0.5),
            p99_ms=1e3 * quantile(times, 0.99),
        )

    def close(self) -> None:
        """Close every connection."""
        for connection in self._connections.values():
            connection.close()
        self._poll.close()

    def _serve(self, until: float) -> None:
        """Answer every answer with the next request, until a moment."""
        quiet_since = time.perf_counter()
        while (now := time.perf_counter()) < until:
            for connection in self._whole(until - now):
                self._begin(connection)
                quiet_since = now
            if now - quiet_since > STALL_S:
                raise LoadFailed(f"no answer for {STALL_S:g} s")

    def _drain(self) -> None:
        """Wait for the answers that are under way; those in the window must not be lost to it."""
        limit = time.perf_counter() + STALL_S
        while self._under_way:
            self._whole(1.0)
            if time.perf_counter() > limit:
                raise LoadFailed(f"{self._under_way} answers did not come within {STALL_S:g} s")

    def _begin(self, connection: Connection) -> None:
        request = self._requests[self._turn % len(self._requests)]
        self._turn += 1
        self._under_way += 1
        self._sent_at[connection.descriptor] = time.perf_counter()
        if not connection.begin(request, self._turn):
            self._poll.modify(connection.descriptor, select.EPOLLIN | select.EPOLLOUT)

    def _whole(self, timeout: float) -> list[Connection]:
        """Wait for something to happen; return the connections whose answer is whole."""
        whole = []
        for descriptor, events in self._poll.poll(timeout):
            connection = self._connections[descriptor]
            if events & select.EPOLLOUT and connection.send():
                self._poll.modify(descriptor, select.EPOLLIN)
            if events & ~select.EPOLLOUT and connection.receive():
                if connection.status != 200:
                    raise LoadFailed(f"expected 200 from the server, got {connection.answer[:300]!r}")
                self._answered.append((self._sent_at[descriptor], time.perf_counter()))
                self._under_way -= 1
                whole.append(connection)
        return whole


def _share(answer: tuple[float, float], loaded: float, closed: float) -> float:
    """Return the part of an answer's time that lies in a window: batches make answers come in bursts."""
    start, end = answer
    return max(0.0, min(end, closed) - max(start, loaded)) / (end - start)


def main() -> None:
    """Produce load, and print what was seen as one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--requests", type=Path, required=True, help="folder of whole HTTP requests")
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--warm", type=float, default=WARM_S)
    parser.add_argument("--root", type=int, required=True, help="process id of the server")
    arguments = parser.parse_args()
    requests = [file.read_bytes() for file in sorted(arguments.requests.iterdir())]
    load = Load(arguments.port, requests, arguments.connections)
    try:
        measured = load.measure(arguments.root, arguments.seconds, arguments.warm)
    except (LoadFailed, OSError) as error:
        sys.exit(f"load: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        load.close()
    print(json.dumps(asdict(measured)))


if __name__ == "__main__":
    main()
