"""What a hostile client does, again and again, within bounds.

Each attack is a class, and a *strike* is one go of it: a request or a few connections. A copy of an attack strikes
again as soon as it was answered, or given up by the server.
"""

import re
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import ClassVar

import numpy as np

from benchmarks.connection import HOST
from benchmarks.hostile import bodies, pictures
from benchmarks.hostile.delivery import Delivery, Request
from services.api import npy

PATIENCE_S = 40.0
"""A strike that is not answered for so long hangs."""
HANGS = "hangs"
RESET = "reset"
CLOSED = "closed"
HELD = "held"
"""Outcomes without a status."""

_STATUS = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9]) ")
_LITTLE = 4096
_MOST_KEPT = 1 << 20


@dataclass(frozen=True, slots=True)
class Subject:
    """What is attacked, and with how much.

    Attributes:
        target: a target of pictures.
        row: height, width and channels of its arrays.
        body_bytes: of a body that the server's limit allows.
        side: pixels of the sides of large pictures.
        vain_bytes: of the largest body that is refused.
        connections: of a strike that holds several.
    """

    target: str = "digits"
    row: tuple[int, int, int] = (16, 16, 1)
    body_bytes: int = 31 << 20
    side: int = 8000
    vain_bytes: int = 200 << 20
    connections: int = 30

    @property
    def path(self) -> str:
        """Where it is asked to classify."""
        return f"/v1/classify/{self.target}"


class Attack(ABC):
    """One way to do harm.

    Args:
        subject: what is attacked.

    Attributes:
        name: in tables.
    """

    name: ClassVar[str]

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    @abstractmethod
    def strike(self, port: int, delivery: Delivery, turn: int, until: float) -> str:
        """Do it once.

        Args:
            port: of the server, on this machine.
            delivery: how requests are sent.
            turn: strikes before this one.
            until: moment by ``time.monotonic()`` at which connections that are only held are let go.

        Returns:
            the statuses of the answers, or an outcome without any.
        """

    def prepare(self) -> None:  # noqa: B027  # most have nothing to prepare
        """Make what is sent, before anything is timed."""


class Requests(Attack):
    """Sends requests in turns, and waits for each answer."""

    @cached_property
    @abstractmethod
    def requests(self) -> Sequence[Request]:
        """What is sent."""

    def prepare(self) -> None:
        """Make the requests."""
        _ = self.requests

    def strike(self, port: int, delivery: Delivery, turn: int, until: float) -> str:
        """Send one of the requests."""
        return ask(port, self.requests[turn % len(self.requests)].written(delivery))


class MultipartHeaders(Requests):
    """Forms that are nearly all headers."""

    name = "multipart headers"

    @cached_property
    def requests(self) -> Sequence[Request]:
        """The forms."""
        subject = self.subject
        return [
            Request(subject.path, media, body) for media, body in bodies.forms_of_headers(subject.body_bytes)
        ]


class LongDocuments(Requests):
    """JSON documents and forms that take long to read."""

    name = "JSON and forms"

    @cached_property
    def requests(self) -> Sequence[Request]:
        """JSON also to the operations that BentoML declares."""
        subject = self.subject
        size = subject.body_bytes
        ours = chain(bodies.documents(size), bodies.forms_of_contents(size))
        theirs = b'{"target":"%b","images":["' % subject.target.encode()
        return [
            *(Request(subject.path, media, body) for media, body in ours),
            Request("/classify", bodies.JSON, theirs + bodies.filled(b"AAAA", size - 100) + b'"]}'),
            Request("/embed", bodies.JSON, theirs[:-1] + bodies.filled(b"[],", size - 100) + b"[]]}"),
        ]


class ManyLargePictures(Requests):
    """A form of as many files as it may have, each small and of many pixels."""

    name = "many large pictures"

    @cached_property
    def requests(self) -> Sequence[Request]:
        """The form."""
        files = bodies.form(pictures.black_webp(self.subject.side)) * 256
        return [Request(self.subject.path, bodies.FORM, files + b"--B--\r\n")]


class CostlyPictures(Requests):
    """Pictures that take long to open or to decode."""

    name = "costly pictures"

    @cached_property
    def requests(self) -> Sequence[Request]:
        """A picture each."""
        return [Request(self.subject.path, "image/png", file) for file in pictures.costly(self.subject.side)]


class InVain(Requests):
    """Bodies that are refused before they are read."""

    name = "bodies in vain"

    @cached_property
    def requests(self) -> Sequence[Request]:
        """Too long, or to where nothing is."""
        subject = self.subject
        most = memoryview(bytes(subject.vain_bytes))
        over, little = subject.body_bytes + (2 << 20), 10 << 20
        places = [(subject.path, size) for size in (over, over * 5 // 4, over * 2, len(most))]
        places += [(f"/v1/classify/not-{subject.target}", little), ("/nothing", little), ("/livez", little)]
        places += [(f"{subject.path}?top_k=0", little), ("/classify", over), ("/metrics", over)]
        return [Request(path, "image/png", most[:size]) for path, size in places]


class Trailers(Attack):
    """A body in chunks, and then trailers without end: many, or one."""

    name = "trailers"
    _MOST = 64 << 20

    def strike(self, port: int, delivery: Delivery, turn: int, until: float) -> str:
        """Send trailers until the server hangs up, or for 64 MiB."""
        method = delivery.value if delivery in (Delivery.OPTIONS, Delivery.HEAD) else "POST"
        request = Request(self.subject.path, "image/png", b"")
        head = request.head(method, "Transfer-Encoding: chunked")
        before = b"".join(request.written(Delivery.POST)).replace(b"Connection: close\r\n", b"")
        start = (before * 2 if delivery is Delivery.PIPELINED else b"") + head + b"0\r\n"
        many = b"".join(b"X%07d: a\r\n" % number for number in range(4000))
        unit = many if turn % 2 == 0 else b"a" * len(many)
        rest = [unit] * (self._MOST // len(unit))
        return ask(port, [start if turn % 2 == 0 else start + b"X: ", *rest])


class NeverReads(Attack):
    """Clients that ask for long answers, several at once, and do not read them."""

    name = "never reads"
    rows = 256
    clients = 3
    ahead = 16

    def strike(self, port: int, delivery: Delivery, turn: int, until: float) -> str:
        """Ask, and wait for the server to hang up."""
        array = np.random.default_rng(turn).integers(0, 255, (self.rows, *self.subject.row), dtype=np.uint8)
        request = Request(f"/v1/embed/{self.subject.target}", "application/x-npy", npy.write(array))
        sent = b"".join(request.written(delivery)).replace(b"Connection: close\r\n", b"")
        with ExitStack() as stack:
            clients = [stack.enter_context(_deaf(port)) for _ in range(self.clients)]
            for _ in range(self.ahead):
                for client in clients:
                    with suppress(OSError):
                        client.sendall(sent)
            return _held(clients, until)


class Unfinished(Attack):
    """Bodies for BentoML's own operations that are announced, sent nearly whole, and never ended."""

    name = "unfinished bodies"

    def strike(self, port: int, delivery: Delivery, turn: int, until: float) -> str:
        """Send them, and wait for the server to hang up."""
        subject = self.subject
        path = ("/classify", subject.path)[turn % 2]
        begun = b'{"target":"%b","images":["' % subject.target.encode()
        whole = Request(
            path, bodies.JSON, begun + bytes(subject.body_bytes - len(begun)).replace(b"\0", b"A")
        )
        sent = b"".join(whole.written(delivery))[:-20]
        with ExitStack() as stack:
            clients = [
                stack.enter_context(socket.create_connection((HOST, port), PATIENCE_S))
                for _ in range(subject.connections)
            ]
            for client in clients:
                client.settimeout(1.0)
                with suppress(OSError):
                    client.sendall(sent)
            return _held(clients, until)


ATTACKS: tuple[type[Attack], ...] = (
    MultipartHeaders,
    LongDocuments,
    Trailers,
    ManyLargePictures,
    NeverReads,
    Unfinished,
    CostlyPictures,
    InVain,
)


def ask(port: int, parts: Iterable[bytes | memoryview]) -> str:
    """Send something on a connection of its own; return the statuses of the answers, or what else became of it."""
    found = b""
    broken = False
    with socket.create_connection((HOST, port), PATIENCE_S) as connection:
        try:
            for part in parts:
                connection.sendall(part)
        except TimeoutError:
            return HANGS
        except OSError:
            broken = True
        try:
            while part := connection.recv(1 << 16):
                found = (found + part)[:_MOST_KEPT]
        except TimeoutError:
            return HANGS
        except OSError:
            broken = True
    statuses = [status.decode() for status in _STATUS.findall(found)]
    return " ".join(statuses) or (RESET if broken else CLOSED)


def _deaf(port: int) -> socket.socket:
    """Return a connection that takes little at once."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _LITTLE)
    connection.settimeout(0.3)
    connection.connect((HOST, port))
    return connection


def _held(clients: Iterable[socket.socket], until: float) -> str:
    """Wait until the server has hung up on all clients, or until a moment, without reading; return which it was."""
    waiting = list(clients)
    while waiting and time.monotonic() < until:
        time.sleep(0.1)
        waiting = [client for client in waiting if not _has_ended(client)]
    return HELD if waiting else CLOSED


def _has_ended(client: socket.socket) -> bool:
    """Return whether the server closed a connection, which shows by its state alone while nothing is read."""
    state: int = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO)
    return state != _ESTABLISHED


_ESTABLISHED = 1
"""The first byte of Linux's ``tcp_info``: TCP_ESTABLISHED."""
