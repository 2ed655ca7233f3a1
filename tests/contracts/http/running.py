"""A server that runs on a registry of its own, and what a test may know of its processes."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from registry.registry import Registry
from registry.settings import Settings
from services.process.server import Server, free_port
from services.settings import ServeSettings
from tests.builders import publish, tiny, tiny_text

LIMITS = {
    "max_body_bytes": 1 << 20, "max_held_bytes": 64 << 20, "max_characters": 20_000, "deadline_s": 3.0
}  # fmt: skip


@dataclass(frozen=True)
class Running:
    """A server that runs."""

    server: Server
    registry: Settings
    log: Path

    @property
    def url(self) -> str:
        return self.server.url


def prepare(registry: Registry) -> None:
    """Put two versions of digits (one in production, one in staging), shapes, a headless one and texts in."""
    for number, stage in ((1, "production"), (2, "staging")):
        registry.promote(publish(registry, tiny("letters/digits", seed=number)).ref, stage)
    registry.promote(publish(registry, tiny("random/shapes", seed=3, trunk_seed=7)).ref, "production")
    registry.promote(publish(registry, tiny("letters/vectors", labels=None)).ref, "production")
    registry.promote(publish(registry, tiny_text("words/moods", seed=1)).ref, "production")
    registry.promote(publish(registry, tiny_text("words/meanings", labels=None)).ref, "production")


@contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[Running]:
    """Run a server on a new registry in a folder."""
    registry = Settings.read(folder / "home", environment={"CULTIVAR_ACTOR": "tests"})
    with Registry.open(registry) as opened:
        prepare(opened)
    limits = ServeSettings(port=free_port(), stages=("staging",), **(LIMITS | settings))
    log = folder / "server.log"
    with log.open("wb") as file, Server(limits, registry, file.fileno()) as server:
        server.wait_until_ready(60)
        yield Running(server, registry, log)


@contextmanager
def connection_to(running: Running) -> Iterator[socket.socket]:
    parts = urlsplit(running.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as sock:
        yield sock


def worker_pids(supervisor: int) -> list[int]:
    """Return the process ids of a server's workers."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    return [
        int(pid) for pid in children if b"_bentoml_impl.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def memory_bytes(running: Running) -> int:
    """Return the resident memory of a server's workers."""
    pages = [
        int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in worker_pids(running.server.pid)
    ]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")
