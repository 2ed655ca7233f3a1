"""What a peer is: how it is started, what it is asked, and how its answer is read."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.connection import HOST
from benchmarks.contender import ARRAYS, GIVE_UP_S, PICTURES, Contender, complain, request, write
from services.process.server import free_port

_BOUNDARY = "a-line-that-no-picture-has"
_STOP_S = 20.0
_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Peer:
    """Another server of the same model.

    A picture goes up as it is, an array as an ``.npy`` file, either as the one file of a multipart form.

    Attributes:
        name: what it is called in tables.
        command: arguments of the interpreter; ``{port}`` stands for the port.
        live: a path that answers 200 when it is up.
        asks: for each kind of input the path, the form's field and the file's media type.
        environment: variables besides the model's.
    """

    name: str
    command: tuple[str, ...]
    live: str
    asks: Mapping[str, tuple[str, str, str]]
    environment: Mapping[str, str] = field(default_factory=dict)

    def request(self, kind: str, body: bytes) -> bytes:
        """Return a whole HTTP request for one input."""
        path, name, media = self.asks[kind]
        head = f'Content-Disposition: form-data; name="{name}"; filename="0"\r\nContent-Type: {media}'
        form = f"--{_BOUNDARY}\r\n{head}\r\n\r\n".encode() + body + f"\r\n--{_BOUNDARY}--\r\n".encode()
        return request(path, f"multipart/form-data; boundary={_BOUNDARY}", form)

    @contextmanager
    def start(
        self, model: Path, recipe: Path, folder: Path, bodies: Mapping[str, Sequence[bytes]]
    ) -> Iterator[Contender]:
        """Run it for as long as the block takes.

        Args:
            model: an ONNX file that takes ``pixels`` and gives ``logits``.
            recipe: a file with the recipe that prepares pictures for it.
            folder: an empty folder for its requests, its log and whatever it keeps.
            bodies: for each kind of input the distinct inputs.

        Raises:
            RuntimeError: it did not come up within a minute.
        """
        folder.mkdir(parents=True)
        port = free_port()
        requests = {
            kind: write(folder / kind, [self.request(kind, body) for body in several])
            for kind, several in bodies.items()
        }
        environment = os.environ | self.environment
        environment |= {"PEER_MODEL": str(model), "PEER_RECIPE": str(recipe)}
        environment |= {"BENTOML_HOME": str(folder / "bentoml"), "BENTOML_DO_NOT_TRACK": "True"}
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *(word.format(port=port) for word in self.command)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                wait_until_live(self.name, process, port, self.live)
                yield Contender(self.name, port, process.pid, requests, _score)
            except Exception:
                complain(log.name)
                raise
            finally:
                stop(process)


def wait_until_live(name: str, process: "subprocess.Popen[bytes]", port: int, path: str) -> None:
    """Wait for a path to answer 200.

    Raises:
        RuntimeError: the process ended, or it did not within a minute.
    """
    end = time.monotonic() + GIVE_UP_S
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(_POLL_S)
    raise RuntimeError(f"{name} did not come up")


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a process that leads its own group, and all of the group where it does not end."""
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _score(document: Any) -> float:
    return float((document[0] if isinstance(document, list) else document)["score"])


_LISTEN = ("--host", HOST, "--port", "{port}")
_FASTAPI = ("-m", "uvicorn", "benchmarks.peers.fastapi_onnxruntime:app", *_LISTEN)
_FAST = ("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--lifespan", "off")
_FASTAPI_ASKS = {
    PICTURES: ("/classify", "picture", "image/jpeg"),
    ARRAYS: ("/classify_arrays", "array", "application/octet-stream"),
}

BENTOML = Peer(
    "BentoML, batchable",
    ("-m", "bentoml", "serve", "benchmarks.peers.bentoml_batchable:Photographs", *_LISTEN),
    "/readyz",
    {
        PICTURES: ("/classify", "pictures", "image/jpeg"),
        ARRAYS: ("/classify_arrays", "arrays", "application/octet-stream"),
    },
)
FASTAPI = Peer("FastAPI", _FASTAPI, "/livez", _FASTAPI_ASKS)
FASTAPI_TUNED = Peer("FastAPI, tuned", _FASTAPI, "/livez", _FASTAPI_ASKS, {"PEER_TUNED": "1"})
PEERS = (BENTOML, FASTAPI, FASTAPI_TUNED)
BARE = Peer(
    "bare ASGI on uvicorn",
    ("-m", "uvicorn", "benchmarks.peers.bare:app", *_LISTEN, *_FAST),
    "/",
    {},
)
"""Not a server of any model: what the interpreter and uvicorn cost alone."""
WIRED = {
    connections: Peer(
        f"the application on {connections} connections",
        ("-m", "benchmarks.peers.wired", "--port", "{port}", "--connections", connections),
        "/livez",
        {},
        {"CULTIVAR_SERVE_FEATURE_CACHE_BYTES": "0"},
    )
    for connections in ("own", "uvicorn")
}
"""This project's application without BentoML, on connections of its own and on uvicorn's: what connections cost."""
TRIVIAL = Peer(
    "BentoML alone",
    ("-m", "bentoml", "serve", "benchmarks.peers.bentoml_trivial:Echo", *_LISTEN),
    "/readyz",
    {},
)
"""Not a server of any model either: what BentoML costs alone."""
