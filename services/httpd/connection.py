"""A client's HTTP/1.1 connection to an ASGI application.

It replaces uvicorn's own protocol, on the same parser. uvicorn's sets and cancels a timer for every request, checks
every header of every answer by two regular expressions, and writes an answer in two pieces: half of its cost of a
small answer. It is also less strict: it accepts heads and trailers of any length, trailers as headers, and any number
of Host headers, and waits without limit for clients that do not read.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.config import HTTP_PROTOCOLS, Config
from uvicorn.server import ServerState

from services.httpd import head
from services.httpd.asgi import WHEN_LEFT, WHOLE_ANSWER, Application, Headers, Scope
from services.httpd.connections import Connections
from services.httpd.exchange import Exchange
from services.httpd.limits import ConnectionLimits

MAX_HEAD_BYTES = 64 << 10
"""Bytes of a request's line and headers that arrive in several reads; one read is at most 256 KiB."""

MAX_FRAMING_BYTES = 64 << 10
"""Bytes of chunk sizes, extensions and trailers without any body byte in between; trailers are dropped."""

FRAMING_PER_BYTE = 16
"""Bytes of framing per byte of a chunked body, beyond ``MAX_FRAMING_BYTES``; chunks of one byte need five."""

MAX_AHEAD = 256
"""Requests that a client may pipeline before the first one is answered; the connection ends after them."""

_REMEMBERED_URL_BYTES = 256

_ASGI = {"version": "3.0", "spec_version": "2.3"}
_WRONG_VERSION = "Invalid HTTP version"
"""The parser's message about an unknown version."""

_MESSAGES = {
    HTTPStatus.BAD_REQUEST: ("malformed_request", "expected a request of HTTP/1.1, got something else"),
    HTTPStatus.REQUEST_TIMEOUT: ("request_timeout", "the request did not arrive in time"),
    HTTPStatus.EXPECTATION_FAILED: ("expectation_failed", "the only supported expectation is 100-continue"),
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: ("head_too_large", "the request's head is too long"),
    HTTPStatus.NOT_IMPLEMENTED: ("not_implemented", "the only supported transfer coding is chunked"),
    HTTPStatus.SERVICE_UNAVAILABLE: ("overloaded", "too many connections are open"),
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED: (
        "version_not_supported",
        "this server supports HTTP/1.1 and HTTP/1.0",
    ),
}


def _refused(status: HTTPStatus, code: str, message: str) -> bytes:
    body = b'{"error":{"code":"%b","message":"%b","hint":"Send one well-formed request at a time."}}' % (
        code.encode(),
        message.encode(),
    )
    retry = b"retry-after: 1\r\n" if status == HTTPStatus.SERVICE_UNAVAILABLE else b""
    return (
        b"HTTP/1.1 %d %b\r\n%bconnection: close\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        % (status, status.phrase.encode(), retry, len(body), body)
    )


_REFUSALS = {status: _refused(status, *words) for status, words in _MESSAGES.items()}


class Connection(asyncio.Protocol):
    """A connection; uvicorn creates one for each client.

    Args:
        config: uvicorn's configuration.
        server_state: the connections and tasks that uvicorn waits for when it stops.
        app_state: the state of the application's lifespan, for its requests.
        _loop: the event loop that serves; passed by uvicorn.
        connections: the connections of the process, including this one; None counts only this one.

    Attributes:
        address: the client's address, or None if it has none.
        transport: takes the answers' bytes.
        writable: done when the client can take more bytes; None if it can now.
    """

    transport: asyncio.Transport

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        connections: Connections | None = None,
    ) -> None:
        self.address: str | None = None
        self.writable: asyncio.Future[None] | None = None
        self._loop = _loop or asyncio.get_running_loop()
        self._application: Application = config.loaded_app
        self._root_path = config.root_path
        self._keep_alive_s = config.timeout_keep_alive
        self._connections = Connections(ConnectionLimits()) if connections is None else connections
        self._limits = self._connections.limits
        self._state = server_state
        self._app_state = app_state
        self._parser = httptools.HttpRequestParser(self)
        self._client: tuple[str, int] | None = None
        self._server: tuple[str, int] | None = None
        self._scheme = "http"
        # The request in progress, those that wait after it, and the one whose body is being received.
        self._exchange: Exchange | None = None
        self._waiting: deque[tuple[Exchange, Scope]] = deque()
        self._reading: Exchange | None = None
        # The head being received.
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._checked: list[tuple[bytes, bytes]] = []
        self._head_bytes = -1
        self._head_since: float | None = None
        # The body being received: its framing, in total and since its last byte, and when bytes arrived last.
        self._body_bytes = 0
        self._framing_bytes = 0
        self._unframed_bytes = 0
        self._body_at = 0.0
        # The status that ends the connection after the pending answers.
        self._refusal: HTTPStatus | None = None
        self._paused = False
        self._last = False
        self._idle_since = 0.0
        # Bytes that the client has not taken yet, and since when it takes too little.
        self._unsent_bytes = 0
        self._unsent_since = 0.0
        # Since when input is dropped, and how much was dropped.
        self._drained_since: float | None = None
        self._drained_bytes = 0

    @property
    def default_headers(self) -> Headers:
        """Headers of every answer: the date, which uvicorn renews every second."""
        return self._state.default_headers

    # Called by the event loop.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to serve a client, or refuse it if there are too many connections."""
        self.transport = transport
        self._client = _address(transport.get_extra_info("peername"))
        self._server = _address(transport.get_extra_info("sockname"))
        self._scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self.address = None if self._client is None else self._client[0]
        self._idle_since = self._loop.time()
        if self._connections.admit(self):
            self._state.connections.add(self)  # type: ignore[arg-type]  # the union of its own protocols
        else:
            self._last = True
            transport.write(_REFUSALS[HTTPStatus.SERVICE_UNAVAILABLE])
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Receive bytes from the client."""
        if self._drained_since is not None:
            self._drained_bytes += len(data)
            if self._drained_bytes > self._limits.drain_bytes:
                self.transport.abort()
            else:
                # One read per iteration of the event loop: uvloop would read some MiB before others get a turn.
                self.transport.pause_reading()
                self._loop.call_soon(self._drain_on)
            return
        if self._last and self._reading is None:
            return
        reading, before = self._reading, self._body_bytes
        try:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as request:
                self._decline_upgrade(data[request.args[0] :])
        except httptools.HttpParserError as error:
            wrong_version = _WRONG_VERSION in str(error)
            self._misunderstood(
                self._refusal
                or (HTTPStatus.HTTP_VERSION_NOT_SUPPORTED if wrong_version else HTTPStatus.BAD_REQUEST)
            )
        else:
            if self._reading is not None:
                self._body_at = self._loop.time()
                if self._reading is reading:
                    self._bound_framing(len(data), self._body_bytes - before)
                # Reading goes on after a complete body; otherwise a disconnect of the client would go unnoticed.
                if self._reading is not None and self._reading.full:
                    self.pause_reading()
            if self._head_bytes >= 0:
                self._head_bytes += len(data)
                if self._head_since is None:
                    self._head_since = self._loop.time()
                if self._head_bytes > MAX_HEAD_BYTES:
                    self._misunderstood(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def connection_lost(self, error: Exception | None) -> None:
        """Notify the client's request that the client has disconnected."""
        self._state.connections.discard(self)
        self._connections.discard(self)
        self._last = True
        if self._exchange is not None:
            self._exchange.leave()
        self._waiting.clear()
        self.resume_writing()

    def pause_writing(self) -> None:
        """Delay the rest of an answer, and the client's next request: the client reads too slowly."""
        if self.writable is None:
            self.writable = self._loop.create_future()
        self._connections.behind(self, self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Continue them."""
        self._connections.caught_up(self)
        if self.writable is not None:
            if not self.writable.done():  # the task that waits may have been cancelled
                self.writable.set_result(None)
            self.writable = None
        if self._waiting and self._exchange is None:
            self._begin_next()

    def shutdown(self) -> None:
        """Close after the requests in progress are answered; uvicorn calls this when it stops."""
        self._end_with_this()
        if self._is_idle():
            self.transport.close()

    # Called by the process's ``Connections``.

    def give_way(self) -> None:
        """Close at once to make way for another client."""
        self._last = True
        self.transport.abort()

    def abort(self) -> None:
        """Close at once, also during a request."""
        self.transport.abort()

    def check_time(self, now: float) -> None:
        """Close if a time limit on the client has passed."""
        limits = self._limits
        if self._unsent_for_too_long(now):
            self.transport.abort()
        elif self._drained_since is not None:
            if now - self._drained_since >= limits.drain_s:
                self.transport.abort()
        elif self._head_since is not None and now - self._head_since >= limits.head_s:
            self._misunderstood(HTTPStatus.REQUEST_TIMEOUT)
        elif self._reading is not None:
            if not self._paused and now - self._body_at >= limits.body_s:
                self._misunderstood(HTTPStatus.REQUEST_TIMEOUT)
        elif self._is_idle() and now - self._idle_since >= self._keep_alive_s:
            self._last = True
            self.transport.close()

    # Called by the parser.

    def on_message_begin(self) -> None:
        """Start a request."""
        self._url = b""
        self._headers = []
        self._checked = []
        self._head_bytes = 0

    def on_url(self, part: bytes) -> None:
        """Receive a part of the URL."""
        self._url += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """Receive a header; trailers, which come after the head, are dropped."""
        if self._head_bytes < 0:
            return
        name = name.lower()
        self._headers.append((name, value))
        if name in head.CHECKED:
            self._checked.append((name, value))

    def on_headers_complete(self) -> None:
        """Start the request, or queue it until the one before is answered.

        Raises:
            HttpParserError: the request is refused, with the status in ``_refusal``.
        """
        self._head_bytes = -1
        self._head_since = None
        parser, url = self._parser, self._url
        if self._last or parser.should_upgrade():
            return
        version = parser.get_http_version()
        self._refusal = head.refusal(version, self._checked)
        if self._refusal is not None:
            raise httptools.HttpParserError("refused")
        path, raw_path, query = (_split if len(url) <= _REMEMBERED_URL_BYTES else _split.__wrapped__)(url)
        method = parser.get_method().decode("ascii")
        scope: Scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": method,
            "scheme": self._scheme,
            "path": self._root_path + path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": self._root_path,
            "headers": self._headers,
            "client": self._client,
            "server": self._server,
            "state": self._app_state.copy(),
        }
        exchange = Exchange(
            self, method, self._headers, keeps_alive=version != "1.0" and parser.should_keep_alive()
        )
        scope["extensions"] = {WHOLE_ANSWER: exchange.answer_whole, WHEN_LEFT: exchange.when_left}
        self._reading = exchange
        self._body_bytes = self._framing_bytes = self._unframed_bytes = 0
        if self._is_idle() and self.writable is None:
            self._begin(exchange, scope)
        elif len(self._waiting) < MAX_AHEAD:
            self._waiting.append((exchange, scope))
            self.pause_reading()
        else:
            self._reading = None
            self._end_with_this()

    def on_body(self, part: bytes) -> None:
        """Receive a part of a request's body."""
        if self._reading is not None:
            self._body_bytes += len(part)
            self._reading.feed(part)

    def on_message_complete(self) -> None:
        """Note that a request is complete."""
        if self._reading is not None:
            self._reading.feed_end()
            self._reading = None

    # Called by the request in progress.

    def pause_reading(self) -> None:
        """Stop reading from the client."""
        if not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read from the client again, unless a request waits already."""
        if self._paused and not self._waiting:
            self._paused = False
            self.transport.resume_reading()

    def answered(self, exchange: Exchange) -> None:
        """Continue with the client's next request."""
        self._state.total_requests += 1
        self._exchange = None
        if not exchange.keeps_alive:
            self._close()
        elif self._waiting:
            if self.writable is None:
                self._begin_next()
            else:
                self._connections.idle(self)
        elif self._refusal is not None:
            self._refuse(self._refusal)
        elif self._last:
            self._close()
        else:
            self._idle_since = self._loop.time()
            self._connections.idle(self)
            self.resume_reading()

    def finished(self, exchange: Exchange) -> None:
        """Note that the application has finished a request."""
        if exchange.task is not None:
            self._state.tasks.discard(exchange.task)

    def _is_idle(self) -> bool:
        return self._exchange is None and not self._waiting

    def _begin_next(self) -> None:
        """Start the next waiting request.

        This is not called while the client does not read its answers: its requests would hold places, and their
        answers memory, for as long as it wants.
        """
        self._begin(*self._waiting.popleft())
        if self._reading is None:
            # The request is complete; without reading, a disconnect of the client would go unnoticed.
            self.resume_reading()

    def _begin(self, exchange: Exchange, scope: Scope) -> None:
        self._exchange = exchange
        self._connections.busy(self)
        exchange.task = self._loop.create_task(exchange.run(self._application, scope))
        self._state.tasks.add(exchange.task)

    def _end_with_this(self) -> None:
        """Close the connection after the last request so far."""
        self._last = True
        last = self._waiting[-1][0] if self._waiting else self._exchange
        if last is not None:
            last.keeps_alive = False

    def _decline_upgrade(self, rest: bytes) -> None:
        """Parse a request again without its upgrade to another protocol: the parser would skip its body.

        Args:
            rest: the bytes after its head.

        Raises:
            HttpParserError: it makes no sense without the other protocol, or its rest is malformed.
        """
        method = self._parser.get_method()
        if method == b"CONNECT":
            raise httptools.HttpParserError("this server is not a proxy")
        kept = [(name, value) for name, value in self._headers if name not in (b"connection", b"upgrade")]
        lines = [b"%b: %b\r\n" % header for header in (*kept, (b"connection", b"close"))]
        head = b"%b %b HTTP/1.1\r\n%b\r\n" % (method, self._url, b"".join(lines))
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(head + rest)

    def _bound_framing(self, came: int, of_body: int) -> None:
        """Refuse a body with too much framing.

        Args:
            came: bytes received at once.
            of_body: how many of them belong to the body.
        """
        self._unframed_bytes = 0 if of_body else self._unframed_bytes + came
        self._framing_bytes += came - of_body
        most = MAX_FRAMING_BYTES + FRAMING_PER_BYTE * self._body_bytes
        if self._unframed_bytes > MAX_FRAMING_BYTES or self._framing_bytes > most:
            self._misunderstood(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def _misunderstood(self, status: HTTPStatus) -> None:
        """Refuse the last input after the earlier requests are answered, and close."""
        broken, self._reading = self._reading, None
        self._head_bytes, self._head_since = -1, None
        if self._last:
            # The last request to answer was determined before; nothing after it is read.
            self._refusal = None
        else:
            self._last = True
            self._refusal = status
        if broken is not None and self._waiting and broken is self._waiting[-1][0]:
            self._waiting.pop()
        elif broken is not None and broken is self._exchange:
            broken.leave()
            self._exchange = None
            if not broken.silent:  # a second head would be read as its body
                self._refusal = None
        elif broken is not None and broken.ended:
            self._refusal = None
        last = self._waiting[-1][0] if self._waiting else self._exchange
        if last is not None:
            if not last.keeps_alive:
                self._refusal = None
        elif self._refusal is not None:
            self._refuse(self._refusal)
        else:
            self._close()

    def _refuse(self, status: HTTPStatus) -> None:
        """Send a refusal, and close."""
        self._refusal = None
        self.transport.write(_REFUSALS[status])
        self._close(unread=True)

    def _close(self, *, unread: bool = False) -> None:
        """Close after the written bytes: at once, or if the client may still send, after it has read them.

        A socket that is closed with unread input sends a reset, and the client then loses what it has not read yet
        (RFC 9112, 9.6).

        Args:
            unread: there may be unread input, even if no body is incomplete.
        """
        self._last = True
        if not (unread or self._reading is not None or self._paused) or self.transport.is_closing():
            self.transport.close()
            return
        self._reading = None
        self._drained_since = self._loop.time()
        self._connections.drain(self)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._waiting.clear()
        self.resume_reading()

    def _drain_on(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def _unsent_for_too_long(self, now: float) -> bool:
        """Return whether the client has been reading its answers too slowly for too long."""
        unsent = self.transport.get_write_buffer_size()
        if not unsent:
            self._unsent_bytes = 0
            return False
        if not self._unsent_bytes or unsent <= self._unsent_bytes - self._limits.write_bytes:
            self._unsent_bytes, self._unsent_since = unsent, now
        else:
            self._unsent_bytes = max(self._unsent_bytes, unsent)
        return now - self._unsent_since >= self._limits.write_s


configured: Callable[..., Connection] = Connection
"""What uvicorn's servers of this process create for each client, after ``stand_in``."""


def stand_in(limits: ConnectionLimits) -> None:
    """Make this class the default protocol of uvicorn's servers in this process."""
    global configured
    configured = partial(Connection, connections=Connections(limits.within_files()))
    HTTP_PROTOCOLS["auto"] = f"{__name__}:configured"


def _address(found: object) -> tuple[str, int] | None:
    return (str(found[0]), int(found[1])) if isinstance(found, tuple) and len(found) >= 2 else None


@lru_cache(1024)
def _split(url: bytes) -> tuple[str, bytes, bytes]:
    """Return a URL's path, decoded and raw, and its query."""
    parsed = httptools.parse_url(url)
    raw: bytes = parsed.path or b""
    path = raw.decode("ascii")
    return unquote(path) if "%" in path else path, raw, parsed.query or b""
