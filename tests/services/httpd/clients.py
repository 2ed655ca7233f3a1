"""Clients of connections on uvicorn's own server, over real sockets; and of one without a socket."""

import asyncio
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import BinaryIO

import uvicorn
from uvicorn.config import HTTPProtocolType

from services.httpd.asgi import Application, Receive, Scope, Send
from services.httpd.connection import Connection
from services.httpd.connections import Connections
from services.httpd.limits import ConnectionLimits

HOST = "127.0.0.1"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with method, path, query and body."""
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    answer = f"{scope['method']} {scope['path']} {scope['query_string'].decode()} ".encode() + body
    await answered(send, answer)


async def answered(send: Send, body: bytes, status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [length(body)]})
    await send({"type": "http.response.body", "body": body})


def length(body: bytes) -> tuple[bytes, bytes]:
    return b"content-length", b"%d" % len(body)


@contextmanager
def served(
    application: Application,
    keep_alive_s: int = 5,
    limits: ConnectionLimits | None = None,
    http: HTTPProtocolType | None = None,
) -> Iterator[tuple[uvicorn.Server, int]]:
    """Serve on connections of our own, or on those of uvicorn that ``http`` names."""
    ours = partial(Connection, connections=Connections(limits or ConnectionLimits()))
    config = uvicorn.Config(
        application,
        http=http or ours,  # type: ignore[arg-type]  # it is called as a class is
        loop="uvloop",
        lifespan="off",
        log_config=None,
        timeout_keep_alive=keep_alive_s,
        server_header=False,
    )
    server = uvicorn.Server(config)
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            until(lambda: server.started)
            yield server, listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def until(holds: Callable[[], bool], limit_s: float = 60.0) -> None:
    limit = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.005)


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection((HOST, port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


class Reading:
    """What a client read ahead, and looks like a socket to the standard library."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def makefile(self, mode: str) -> "Reading":
        return self

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)

    def close(self) -> None:
        """Leave the file to the next answer."""


def answer(connection: socket.socket, method: str = "GET") -> tuple[http.client.HTTPResponse, bytes]:
    return read_answer(connection.makefile("rb"), method)


def read_answer(file: BinaryIO, method: str = "GET") -> tuple[http.client.HTTPResponse, bytes]:
    found = http.client.HTTPResponse(Reading(file), method=method)  # type: ignore[arg-type]  # enough of a socket
    found.begin()
    return found, found.read()


def asked(connection: socket.socket, request: bytes, method: str = "GET") -> tuple[int, bytes]:
    connection.sendall(request)
    found, body = answer(connection, method)
    return found.status, body


def rest(connection: socket.socket) -> bytes:
    """Return everything until the server hangs up."""
    found = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(1 << 16):
            found += part
    return found


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: a", *headers, "", ""]).encode()


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Paper(asyncio.Transport):
    """Keeps what is written, as it is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))
