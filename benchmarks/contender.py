"""A server under measurement, whichever it is, and the requests that it understands."""

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.connection import HOST, SERIAL
from benchmarks.load import WARM_S
from benchmarks.machine import resident_bytes, tree
from benchmarks.measurement import Measurement
from registry.settings import Settings
from services.api import npy
from services.process.server import Server, free_port
from services.settings import ServeSettings

ARRAYS = "arrays"
PICTURES = "pictures"
MEDIA = {ARRAYS: "application/x-npy", PICTURES: "image/jpeg"}
GIVE_UP_S = 60.0
_LAST_WORDS = 3000


@dataclass(frozen=True, slots=True)
class Contender:
    """A server that runs.

    Attributes:
        name: what it is called in tables.
        port: where it listens on this machine.
        pid: its oldest process.
        requests: for each kind of input a folder of whole HTTP requests.
        score: reads the best label's score from an answer's JSON document.
    """

    name: str
    port: int
    pid: int
    requests: Mapping[str, Path]
    score: Callable[[Any], float]

    @property
    def resident_bytes(self) -> int:
        """The memory that all its processes hold."""
        return resident_bytes(tree(self.pid))

    def load(self, kind: str, connections: int, seconds: float, warm_s: float = WARM_S) -> Measurement:
        """Put load on it from another process: a closed loop.

        Raises:
            SystemExit: an answer was not a 200.
        """
        command = [sys.executable, "-m", "benchmarks.load", "--port", str(self.port)]
        command += ["--requests", str(self.requests[kind]), "--connections", str(connections)]
        command += ["--seconds", str(seconds), "--warm", str(warm_s), "--root", str(self.pid)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"the load on {self.name} failed")
        return Measurement(**json.loads(done.stdout))

    def answers(self, kind: str) -> Iterator[tuple[int, bytes]]:
        """Send every distinct request of a kind once; yield statuses and bodies."""
        with socket.create_connection((HOST, self.port), timeout=GIVE_UP_S) as connection:
            for file in sorted(self.requests[kind].iterdir()):
                yield ask(connection, file.read_bytes())


@contextmanager
def cultivar(
    home: Path, requests: Mapping[str, Path], name: str = "cultivar", **settings: Any
) -> Iterator[Contender]:
    """Start this project's server on a registry, with one worker, nothing remembered, and otherwise its defaults.

    Requests come round again within a run of many rounds: what is remembered of them would be measured
    instead of the work.

    Args:
        home: the registry's folder.
        requests: for each kind of input a folder of whole HTTP requests.
        name: what it is called in tables.
        settings: those of ``ServeSettings`` that are not to be the defaults.
    """
    port = free_port()
    given = {"feature_cache_bytes": 0} | settings
    with (
        (home / f"{port}.log").open("w+b") as log,
        Server(
            ServeSettings.read(os.environ, port=port, **given), Settings.read(home), log.fileno()
        ) as server,
    ):
        try:
            server.wait_until_ready()
            yield Contender(name, port, server.pid, requests, _score)
        except Exception:
            complain(log.name)
            raise


def ask(connection: socket.socket, request: bytes) -> tuple[int, bytes]:
    """Send one whole request, return its answer's status and body."""
    connection.sendall(request)
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    body = answer.read()
    return answer.status, body


def request(path: str, media: str, body: bytes) -> bytes:
    """Return a whole HTTP request."""
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def write(folder: Path, requests: Sequence[bytes]) -> Path:
    """Write whole HTTP requests into a new folder, a file each; return the folder."""
    folder.mkdir(parents=True)
    for number, each in enumerate(requests):
        (folder / f"{number:03d}").write_bytes(each)
    return folder


def unlike(pixels: np.ndarray) -> np.ndarray:
    """Return rows whose last eight bytes are a placeholder, so that no two requests hold the same: uint8 [rows, …]."""
    marked = pixels.copy()
    marked.reshape(len(marked), -1)[:, -len(SERIAL) :] = np.frombuffer(SERIAL, np.uint8)
    return marked


def bodies(pixels: np.ndarray, pictures: Sequence[bytes]) -> dict[str, list[bytes]]:
    """Return the bodies of both kinds; what ``unlike`` does not mark is marked here.

    Args:
        pixels: rows of ``unlike``.
        pictures: files, behind whose end no decoder reads.
    """
    return {ARRAYS: [npy.write(row[None]) for row in pixels], PICTURES: [each + SERIAL for each in pictures]}


def complain(log: str | os.PathLike[str]) -> None:
    """Show the last words of a server's log."""
    print(Path(log).read_bytes()[-_LAST_WORDS:].decode(errors="replace"), file=sys.stderr)


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def _score(document: Any) -> float:
    return float(document["results"][0]["labels"][0]["score"])
