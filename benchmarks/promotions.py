"""Promotions and rollbacks under load: ``python -m benchmarks.promotions``.

Clients send pictures without pause while versions take turns in production. Every answer must
have status 200, come from a version that was in production at some moment between the request's
sending and its answer, and have the first label that ``cultivar classify`` gives offline for
that version. A version's time ends when the server is first seen to answer with the next one (of
several workers, when the last of them had time to); how long that takes is reported besides. The
versions are tiny, so the model's own time hides nothing; the figures are of the machinery.
"""

import argparse
import http.client
import json
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import command
from benchmarks.machine import describe
from benchmarks.spread import quantile
from registry.registry import Registry
from registry.settings import Settings
from services.server import Server, free_port
from services.settings import ServeSettings
from tests.builders import picture, publish, tiny

TARGET = "moving"
VERSIONS = 5
PICTURES = 24
SETTLE_S = 0.3
"""Load between a promotion that has arrived and the next one."""
GIVE_UP_S = 30.0


@dataclass(frozen=True, slots=True)
class Sent:
    """A request and its answer; times by ``time.monotonic()``."""

    began: float
    ended: float
    status: int
    ref: str
    number: int
    label: str


@dataclass(slots=True)
class Reign:
    """A version's time in production, as wide as it can be seen from here."""

    ref: str
    began: float
    ended: float = float("inf")

    def meets(self, sent: Sent) -> bool:
        """Tell whether the version was in production at some moment of a request."""
        return self.ref == sent.ref and self.began <= sent.ended and sent.began <= self.ended


class Client(threading.Thread):
    """Sends pictures over one connection, one after the other, until it is told to stop."""

    def __init__(self, port: int, pictures: Sequence[bytes], first: int, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self.sent: list[Sent] = []
        self.failures: list[str] = []
        self._port = port
        self._pictures = pictures
        self._next = first
        self._over = over

    def run(self) -> None:
        """Send until the end; a broken connection is a failure, and is opened again."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=GIVE_UP_S)
        while not self._over.is_set():
            number = self._next = (self._next + 1) % len(self._pictures)
            try:
                self.sent.append(ask(connection, number, self._pictures[number]))
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
        connection.close()


def ask(connection: http.client.HTTPConnection, number: int, data: bytes) -> Sent:
    """Classify one picture."""
    began = time.monotonic()
    connection.request("POST", f"/v1/classify/{TARGET}?top_k=1", data, {"Content-Type": "image/png"})
    answer = connection.getresponse()
    body = answer.read()
    ended = time.monotonic()
    if answer.status != 200:
        return Sent(began, ended, answer.status, "", number, "")
    document = json.loads(body)
    return Sent(began, ended, 200, document["ref"], number, document["results"][0]["labels"][0]["label"])


def move(registry: Registry, refs: Sequence[str], number: int) -> str:
    """Promote the next version, or every third time roll back; return what is in production then."""
    if number % 3 == 2:
        return str(registry.rollback(TARGET).ref)
    now = str(registry.stages(TARGET)["production"])
    return str(registry.promote(refs[(refs.index(now) + 1) % len(refs)], "production").ref)


def reach(port: int, ref: str, data: bytes) -> None:
    """Wait until the server answers with a version."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GIVE_UP_S)
    end = time.monotonic() + GIVE_UP_S
    while ask(connection, 0, data).ref != ref:
        if time.monotonic() > end:
            raise TimeoutError(f"the server did not follow to {ref} within {GIVE_UP_S:g} s")
        time.sleep(0.002)
    connection.close()


def first_labels(home: Path, refs: Sequence[str], pictures: Sequence[bytes]) -> dict[tuple[str, int], str]:
    """Return each version's first label for each picture, by ``cultivar classify``."""
    files = [home / f"{number:03}.png" for number in range(len(pictures))]
    for file, data in zip(files, pictures, strict=True):
        file.write_bytes(data)
    found: dict[tuple[str, int], str] = {}
    for ref in refs:
        results = command.run(home, "classify", ref, *map(str, files), "--top-k", "1")["results"]
        found |= {(ref, number): result["labels"][0]["label"] for number, result in enumerate(results)}
    return found


def measure(home: Path, moves: int, clients: int, workers: int) -> Mapping[str, object]:
    """Run the trial in an empty folder and return its figures."""
    settings = Settings.read(home)
    pictures = [picture(seed) for seed in range(PICTURES)]
    with ExitStack() as stack:
        registry = stack.enter_context(Registry.open(settings))
        refs = [str(publish(registry, tiny(f"letters/{TARGET}", seed=seed)).ref) for seed in range(VERSIONS)]
        registry.promote(refs[0], "production")
        labels = first_labels(home, refs, pictures)
        log = stack.enter_context((home / "server.log").open("wb"))
        port = free_port()
        server = stack.enter_context(
            Server(ServeSettings(port=port, workers=workers), settings, log.fileno())
        )
        server.wait_until_ready()
        over = threading.Event()
        senders = [Client(port, pictures, number, over) for number in range(clients)]
        for sender in senders:
            sender.start()
        reigns, delays = [Reign(refs[0], 0.0)], []
        time.sleep(SETTLE_S)
        for number in range(moves):
            reigns.append(Reign("", time.monotonic()))
            reigns[-1].ref = move(registry, refs, number)
            moved = time.monotonic()
            reach(port, reigns[-1].ref, pictures[0])
            delays.append(time.monotonic() - moved)
            # Other workers, and requests that took their version before the swap, may answer a little later.
            time.sleep(SETTLE_S)
            reigns[-2].ended = time.monotonic() if workers > 1 else moved + delays[-1]
        over.set()
        for sender in senders:
            sender.join()
    sent = [each for sender in senders for each in sender.sent]
    return {
        "machine": describe(),
        "moves": moves,
        "clients": clients,
        "workers": workers,
        "answers": len(sent),
        "failed": sum(each.status != 200 for each in sent) + sum(len(sender.failures) for sender in senders),
        "wrong_version": sum(not any(reign.meets(each) for reign in reigns) for each in sent),
        "wrong_label": sum(labels.get((each.ref, each.number)) != each.label for each in sent),
        "versions_seen": len({each.ref for each in sent}),
        "latency_ms": {name: 1e3 * quantile([e.ended - e.began for e in sent], q) for name, q in _QUANTILES},
        "reached_after_ms": {name: 1e3 * quantile(delays, q) for name, q in (*_QUANTILES, ("max", 1.0))},
    }


_QUANTILES = (("p50", 0.5), ("p99", 0.99))


def main() -> int:
    """Run the trial, print its figures as JSON; status 1 if an answer was lost or wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--moves", type=int, default=20, help="promotions and rollbacks together")
    parser.add_argument("--clients", type=int, default=8, help="connections that send without pause")
    parser.add_argument("--workers", type=int, default=1, help="the server's processes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cultivar-promotions-") as folder:
        figures = measure(Path(folder), arguments.moves, arguments.clients, arguments.workers)
    print(json.dumps(figures, indent=2))
    return int(any(figures[name] for name in ("failed", "wrong_version", "wrong_label")))


if __name__ == "__main__":
    sys.exit(main())
