"""One client's connection: HTTP/1.1 in, ASGI behind it.

It stands in the place of uvicorn's own protocol, on the same parser. That one sets and cancels a timer for every
request, checks every header of every answer by two expressions, and hands an answer over in two pieces: half of what
a small answer costs on it. And it takes heads of any length.
"""

import asyncio
from collections import deque
from functools import lru_cache
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.config import HTTP_PROTOCOLS, Config
from uvicorn.server import ServerState

from services.wire.asgi import WHEN_LEFT, WHOLE_ANSWER, Application, Headers, Scope
from services.wire.exchange import Exchange

MAX_HEAD_BYTES = 64 << 10
"""Of a request's line and headers, as they come in pieces; what comes at once is no more than 256 KiB."""

MAX_AHEAD = 256
"""Requests that a client may send before the first of them is answered; one that sends more is answered no further."""

_REMEMBERED_URL_BYTES = 256

_ASGI = {"version": "3.0", "spec_version": "2.3"}
_REFUSALS = {
    status: b"HTTP/1.1 %d %b\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    % (status, status.phrase.encode())
    for status in (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
}


class Connection(asyncio.Protocol):
    """A connection, as uvicorn makes one for each client.

    Args:
        config: uvicorn's configuration.
        server_state: the connections and tasks that uvicorn waits for when it stops.
        app_state: what the application's start left for its requests.
        _loop: the event loop that serves; uvicorn gives it.

    Attributes:
        transport: takes the answers' bytes.
        writable: done when the client takes more bytes; None where it does at once.
    """

    transport: asyncio.Transport

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.writable: asyncio.Future[None] | None = None
        self._loop = _loop or asyncio.get_running_loop()
        self._application: Application = config.loaded_app
        self._root_path = config.root_path
        self._keep_alive_s = config.timeout_keep_alive
        self._state = server_state
        self._app_state = app_state
        self._parser = httptools.HttpRequestParser(self)
        self._client: tuple[str, int] | None = None
        self._server: tuple[str, int] | None = None
        self._scheme = "http"
        # The request that is answered, those that wait behind it, and the one whose body comes in.
        self._exchange: Exchange | None = None
        self._waiting: deque[tuple[Exchange, Scope]] = deque()
        self._reading: Exchange | None = None
        # The head that comes in.
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = -1
        self._paused = False
        self._last = False
        self._idle_since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def default_headers(self) -> Headers:
        """Headers of every answer: the date, which uvicorn renews every second."""
        return self._state.default_headers

    # What the event loop calls.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to serve a client."""
        self.transport = transport
        self._client = _address(transport.get_extra_info("peername"))
        self._server = _address(transport.get_extra_info("sockname"))
        self._scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self._state.connections.add(self)  # type: ignore[arg-type]  # the union of its own protocols
        self._idle_since = self._loop.time()
        self._timer = self._loop.call_later(self._keep_alive_s, self._look)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client."""
        if self._last and self._reading is None:
            return
        try:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as request:
                self._decline_upgrade(data[request.args[0] :])
        except httptools.HttpParserError:
            self._misunderstood(HTTPStatus.BAD_REQUEST)
        else:
            # A body that is whole lets nobody wait: who does not read does not learn either that the client left.
            if self._reading is not None and self._reading.full:
                self.pause_reading()
            if self._head_bytes >= 0:
                self._head_bytes += len(data)
                if self._head_bytes > MAX_HEAD_BYTES:
                    self._misunderstood(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell those who work for the client that it is gone."""
        self._state.connections.discard(self)
        self._last = True
        if self._timer is not None:
            self._timer.cancel()
        if self._exchange is not None:
            self._exchange.leave()
        self._waiting.clear()
        self.resume_writing()

    def pause_writing(self) -> None:
        """Let answers wait: the client is slow to take them."""
        if self.writable is None:
            self.writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """Let them go on."""
        if self.writable is not None:
            if not self.writable.done():  # whoever waits may have been cancelled
                self.writable.set_result(None)
            self.writable = None

    def shutdown(self) -> None:
        """Close once what is under way is answered; uvicorn calls this when it stops."""
        self._end_with_this()
        if self._exchange is None:
            self.transport.close()

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._url = b""
        self._headers = []
        self._head_bytes = 0

    def on_url(self, part: bytes) -> None:
        """Take a part of the URL."""
        self._url += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Begin to answer, or let the request wait until the one before is answered."""
        self._head_bytes = -1
        parser, url = self._parser, self._url
        if self._last or parser.should_upgrade():
            return
        version = parser.get_http_version()
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
        if self._exchange is None:
            self._begin(exchange, scope)
        elif len(self._waiting) < MAX_AHEAD:
            self._waiting.append((exchange, scope))
            self.pause_reading()
        else:
            self._reading = None
            self._end_with_this()

    def on_body(self, part: bytes) -> None:
        """Take a part of a request's body."""
        if self._reading is not None:
            self._reading.feed(part)

    def on_message_complete(self) -> None:
        """Take note that a request is whole."""
        if self._reading is not None:
            self._reading.feed_end()
            self._reading = None

    # What a request under way asks for.

    def pause_reading(self) -> None:
        """Let the client wait before it sends more."""
        if not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Let it go on, unless a request waits already."""
        if self._paused and not self._waiting:
            self._paused = False
            self.transport.resume_reading()

    def answered(self, exchange: Exchange) -> None:
        """Go on to the client's next request."""
        self._state.total_requests += 1
        self._exchange = None
        if not exchange.keeps_alive:
            self._last = True
            self.transport.close()
        elif self._waiting:
            self._begin(*self._waiting.popleft())
            if self._reading is None:
                # It is whole already: nothing else would let us learn that its client left.
                self.resume_reading()
        else:
            self._idle_since = self._loop.time()
            self.resume_reading()

    def finished(self, exchange: Exchange) -> None:
        """Take note that the application is done with a request."""
        if exchange.task is not None:
            self._state.tasks.discard(exchange.task)

    def _begin(self, exchange: Exchange, scope: Scope) -> None:
        self._exchange = exchange
        exchange.task = self._loop.create_task(exchange.run(self._application, scope))
        self._state.tasks.add(exchange.task)

    def _end_with_this(self) -> None:
        """Let the last request so far be the connection's last."""
        self._last = True
        last = self._waiting[-1][0] if self._waiting else self._exchange
        if last is not None:
            last.keeps_alive = False

    def _decline_upgrade(self, rest: bytes) -> None:
        """Read a request again as if it had not asked for another protocol: the parser would skip its body.

        Args:
            rest: what came behind its head.

        Raises:
            HttpParserError: it is nothing without the other protocol, or does not go on as it began.
        """
        method = self._parser.get_method()
        if method == b"CONNECT":
            raise httptools.HttpParserError("nobody here is a proxy")
        kept = [(name, value) for name, value in self._headers if name not in (b"connection", b"upgrade")]
        lines = [b"%b: %b\r\n" % header for header in (*kept, (b"connection", b"close"))]
        head = b"%b %b HTTP/1.1\r\n%b\r\n" % (method, self._url, b"".join(lines))
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(head + rest)

    def _misunderstood(self, status: HTTPStatus) -> None:
        """Refuse what came last, after what came before it was answered, and hang up."""
        broken, self._reading = self._reading, None
        if self._waiting and broken is self._waiting[-1][0]:
            self._waiting.pop()
        elif broken is not None and broken is self._exchange:
            broken.leave()
            self._exchange = None
        self._end_with_this()
        if self._exchange is None:
            self.transport.write(_REFUSALS[status])
            self.transport.close()

    def _look(self) -> None:
        """Hang up where nobody asked anything for too long; one timer looks after all requests."""
        idle_s = 0.0 if self._exchange is not None else self._loop.time() - self._idle_since
        if idle_s < self._keep_alive_s:
            self._timer = self._loop.call_later(self._keep_alive_s - idle_s, self._look)
        else:
            self.transport.close()


def stand_in() -> None:
    """Let uvicorn's servers of this process make connections of this kind, where nothing else is asked for."""
    HTTP_PROTOCOLS["auto"] = f"{__name__}:{Connection.__name__}"


def _address(found: object) -> tuple[str, int] | None:
    return (str(found[0]), int(found[1])) if isinstance(found, tuple) and len(found) >= 2 else None


@lru_cache(1024)
def _split(url: bytes) -> tuple[str, bytes, bytes]:
    """Return a URL's path, decoded and raw, and its query."""
    parsed = httptools.parse_url(url)
    raw: bytes = parsed.path or b""
    path = raw.decode("ascii")
    return unquote(path) if "%" in path else path, raw, parsed.query or b""
