"""One request and its answer by ASGI: the body is passed on as it arrives, the answer is written at once if possible.

Head and body of an answer are written together. Written separately, they would cost one more system call, which is a
sixth of the total cost of a small answer.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from typing import Protocol

from services.httpd.asgi import Application, Headers, Message, Scope

MAX_WAITING_BYTES = 64 << 10
"""Bytes of a body that the application has not received yet; beyond them, reading from the client stops."""

MAX_DISCARDED_BYTES = 4 << 20
"""Bytes of an incomplete body that are read and dropped after the answer; with more, the connection closes."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_STATUS_LINES = {each.value: b"HTTP/1.1 %d %b\r\n" % (each, each.phrase.encode()) for each in HTTPStatus}
_WITHOUT_BODY = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
_FAILED: Headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"21")]

_FORBIDDEN_IN_NAMES = re.compile(rb'[\x00-\x20\x7f-\xff()<>@,;:\\"/\[\]?={}]')
_FORBIDDEN_IN_VALUES = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_CLOSE = re.compile(rb"(?:^|,)\s*close\s*(?:,|$)", re.IGNORECASE)

_log = logging.getLogger("uvicorn.error")


class Client(Protocol):
    """The interface of the request's connection that is used here.

    Attributes:
        transport: takes the answer's bytes.
        writable: done when the client can take more bytes; None if it can now.
        default_headers: headers of every answer.
    """

    transport: asyncio.Transport
    writable: "asyncio.Future[None] | None"

    @property
    def default_headers(self) -> Headers:
        """Headers of every answer."""
        ...

    def resume_reading(self) -> None:
        """Read more of the body from the client."""
        ...

    def answered(self, exchange: "Exchange") -> None:
        """Continue: the whole answer was passed to the transport."""
        ...

    def finished(self, exchange: "Exchange") -> None:
        """Note that the application has finished a request."""
        ...


class Exchange:
    """A request in progress.

    Args:
        client: the request's connection.
        method: the request's method.
        headers: the request's headers.
        keeps_alive: the connection may be used for further requests.

    Attributes:
        keeps_alive: the connection stays open after the answer.
        silent: nothing of the answer was sent yet.
        ended: the whole answer was sent.
        task: the task that runs the application, or None before it starts.
    """

    __slots__ = (
        "_body", "_chunked", "_client", "_continued", "_gone", "_head", "_headers", "_left", "_method", "_received",
        "_tell", "_told", "_waiter", "_waiting_bytes", "_whole", "ended", "keeps_alive", "silent", "task",
    )  # fmt: skip

    def __init__(self, client: Client, method: str, headers: Headers, *, keeps_alive: bool) -> None:
        self.keeps_alive = keeps_alive
        self._client = client
        self._method = method
        self._headers = headers
        self.task: asyncio.Task[None] | None = None
        # The received body, whether it is complete and the application knows, and whether the client is gone.
        self._body: list[bytes] = []
        self._waiting_bytes = 0
        self._received = 0
        self._continued = False
        self._whole = False
        self._told = False
        self._gone = False
        self._tell: Callable[[], None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        # The answer: a head that waits for its body, whether the body is chunked, and its remaining bytes.
        self._head: Message | None = None
        self.silent = True
        self._chunked = False
        self._left = 0
        self.ended = False

    @property
    def full(self) -> bool:
        """Whether more of the body waits for the application than ``MAX_WAITING_BYTES``."""
        return not self.ended and self._waiting_bytes > MAX_WAITING_BYTES

    def feed(self, body: bytes) -> None:
        """Add a part of the body."""
        self._received += len(body)
        if self.ended:
            return
        self._body.append(body)
        self._waiting_bytes += len(body)
        if self._waiter is not None:
            self._wake()

    def feed_end(self) -> None:
        """Note that the body is complete."""
        self._whole = True
        if self._waiter is not None:
            self._wake()

    def leave(self) -> None:
        """Note that the client has disconnected."""
        self._gone = True
        if self._waiter is not None:
            self._wake()
        tell, self._tell = self._tell, None
        if tell is not None:
            tell()

    def when_left(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` when the client disconnects, as ``TellsWhenLeft`` defines."""
        if self._gone:
            tell()
        else:
            self._tell = tell

    async def run(self, application: Application, scope: Scope) -> None:
        """Run the application for this request; if it fails, answer with status 500 or close the connection.

        The scope refers to this object, by its extensions. This object must not refer to the scope: the reference
        cycle would leave every request to the garbage collector (measured: a sixth of the cost of a small answer).
        """
        try:
            await application(scope, self.receive, self.send)
            if not self.ended and not self._gone:
                _log.error("the application did not finish its answer to %s", scope["path"])
        except Exception as error:
            _log.error("Exception in ASGI application\n", exc_info=error)
        finally:
            if not self.ended and not self._gone:
                self._give_up()
            self._client.finished(self)

    async def receive(self) -> Message:
        """Return the next part of the body; a disconnect message if the client is gone or was answered."""
        while not self._gone and not self.ended:
            if self._body or (self._whole and not self._told):
                body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
                self._body, self._waiting_bytes = [], 0
                self._told = self._whole
                return {"type": "http.request", "body": body, "more_body": not self._whole}
            await self._wait()
        return {"type": "http.disconnect"}

    def answer_whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Send the whole answer, as ``TakesWholeAnswer`` defines.

        Raises:
            RuntimeError: a header would be more than one line, or an answer was begun before.
        """
        client = self._client
        if self._gone:
            return
        if self._head is not None:
            raise RuntimeError("expected no answer before this one")
        if not self._whole:
            self._judge_the_rest()
        head = _head(status, tuple(headers), self.keeps_alive)
        dates = b"".join([_line(name, value) for name, value in client.default_headers])
        without = status in _WITHOUT_BODY
        length = b"" if without else b"content-length: %d\r\n" % len(body)
        if without or self._method == "HEAD":
            body = b""
        self.silent = False
        client.transport.write(b"%b%b%b\r\n%b" % (head, dates, length, body))
        self._end()

    async def send(self, message: Message) -> None:
        """Send the head of an answer, then its body in one part or more.

        Raises:
            RuntimeError: the answer is not valid HTTP.
        """
        client = self._client
        if client.writable is not None:
            await client.writable
        if self._gone:
            return
        if self.silent:
            if self._head is None:
                self._head = message
                return
            written = self._opening(self._head)
        elif self.ended:
            raise RuntimeError("expected nothing after the end of an answer")
        else:
            written = []
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        if self._method == "HEAD":
            pass
        elif self._chunked:
            if body:
                written += (b"%x\r\n" % len(body), body, b"\r\n")
            if not more:
                written.append(b"0\r\n\r\n")
        else:
            self._left -= len(body)
            written.append(body)
        if self._left < 0 or (self._left and not more):
            raise RuntimeError("expected as many bytes as Content-Length says")
        self.silent = False
        client.transport.write(b"".join(written))
        if not more:
            self._end()

    def _end(self) -> None:
        self.ended = True
        self._tell = None
        if self._waiter is not None:
            self._wake()
        self._client.answered(self)

    def _opening(self, head: Message) -> list[bytes]:
        """Return an answer's head, and determine how its body ends."""
        status: int = head["status"]
        lines = [_STATUS_LINES[status]]
        length: bytes | None = None
        closes = False
        for headers in (self._client.default_headers, head["headers"]):
            for name, value in headers:
                lines.append(_line(name, value))
                if name == b"content-length":
                    length = value
                elif name == b"transfer-encoding":
                    self._chunked = True
                elif name == b"connection":
                    closes = _CLOSE.search(value) is not None
        if self._method != "HEAD" and not self._chunked:
            if length is not None:
                self._left = int(length)
            elif status not in _WITHOUT_BODY:
                self._chunked = True
                lines.append(b"transfer-encoding: chunked\r\n")
        if not self._whole:
            self._judge_the_rest()
        if closes:
            self.keeps_alive = False
        elif not self.keeps_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        return lines

    def _judge_the_rest(self) -> None:
        """Let the connection close after this answer, if too much of the body, or an unknown amount, is outstanding."""
        if _expects_word(self._headers) and not self._continued:
            self.keeps_alive = False
            return
        announced = next((int(value) for name, value in self._headers if name == b"content-length"), None)
        if announced is None or announced - self._received > MAX_DISCARDED_BYTES:
            self.keeps_alive = False

    def _give_up(self) -> None:
        """Answer with status 500, if nothing was sent yet, and close the connection."""
        self.keeps_alive = False
        self.ended = True
        self._tell = None
        if self.silent:
            opening = self._opening({"status": 500, "headers": _FAILED})
            self._client.transport.write(b"".join((*opening, b"Internal Server Error")))
        self._client.answered(self)

    async def _wait(self) -> None:
        """Wait for more of the body, or for the end."""
        if not self._whole:
            self._client.resume_reading()
            if self.silent and self._waiter is None and _expects_word(self._headers):
                self._continued = True
                self._client.transport.write(_CONTINUE)
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _expects_word(headers: Headers) -> bool:
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers)


@lru_cache(1024)
def _head(status: int, headers: Headers, keeps_alive: bool) -> bytes:
    """Return an answer's head; raises as ``_line`` does."""
    lines = [_STATUS_LINES[status], *(_line(name, value) for name, value in headers)]
    if not keeps_alive:
        lines.append(b"connection: close\r\n")
    return b"".join(lines)


@lru_cache(1024)
def _line(name: bytes, value: bytes) -> bytes:
    """Return a header line. Cached, as most headers repeat.

    Raises:
        RuntimeError: it would be more than one line.
    """
    if _FORBIDDEN_IN_NAMES.search(name) or _FORBIDDEN_IN_VALUES.search(value):
        raise RuntimeError("expected a header of one line, got something else")
    return b"%b: %b\r\n" % (name, value)
