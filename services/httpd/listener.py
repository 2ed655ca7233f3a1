"""Distributes connections evenly among the workers of one server.

All workers accept from one socket, and the one that is awake takes every connection. One worker of two was seen to
accept all of 32 simultaneous connections, and the other's core was idle for as long as they lasted. So a worker with
more connections than another one waits before it accepts the next.
"""

import asyncio
import fcntl
import mmap
import socket
import ssl
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

FILE = "connections"
"""The file with the workers' counts, in their shared folder."""

_PATIENCE_S = 0.002
"""Seconds that a worker lets those with fewer connections go first; then it accepts, as they may be gone."""

_TROUBLE_S = 0.1
"""Seconds between two attempts while the system cannot accept another connection."""

_PLACES = 512
_SIZE = struct.calcsize("q")
_NOBODY = 0


class Counts:
    """The number of connections of every worker, in shared memory.

    A killed worker's count stays until its replacement takes its place. Until then the others may wait slightly
    longer than necessary.

    Args:
        file: the file that backs the memory; created if it does not exist.

    Raises:
        OSError: it cannot be created, or all places are taken.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file.open("a+b")
        self._file.truncate(_PLACES * _SIZE)
        self._counts = memoryview(mmap.mmap(self._file.fileno(), _PLACES * _SIZE)).cast("q")
        self._place = self._take_place()
        self.held = 0

    @property
    def held(self) -> int:
        """The connections of this worker."""
        return self._counts[self._place] - 1

    @held.setter
    def held(self, count: int) -> None:
        self._counts[self._place] = count + 1

    @property
    def workers(self) -> int:
        """The number of workers."""
        return sum(count != _NOBODY for count in self._counts)

    def is_ahead(self) -> bool:
        """Return whether this worker has more connections than another one."""
        own = self._counts[self._place]
        return any(own > count != _NOBODY for count in self._counts)

    def close(self) -> None:
        """Remove this worker's count and release its place, so that others do not wait for it."""
        if not self._file.closed:
            self._counts[self._place] = _NOBODY
            self._file.close()

    def _take_place(self) -> int:
        """Take the first place whose lock is free; the lock is released when this process ends."""
        for place in range(_PLACES):
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, _SIZE, place * _SIZE)
            except OSError:
                continue
            return place
        raise OSError(f"expected fewer than {_PLACES} workers")


class Listener(asyncio.AbstractServer):
    """Accepts connections from a socket one at a time, after workers with fewer connections.

    Args:
        listening: the socket.
        factory: creates a protocol for each connection.
        counts: the workers' connection counts.
        tls: the TLS context of every connection, or None.
    """

    def __init__(
        self,
        listening: socket.socket,
        factory: Callable[[], asyncio.Protocol],
        counts: Counts,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = listening
        self._factory = factory
        self._counts = counts
        self._tls = tls
        self._serving = True
        self._starting: set[asyncio.Task[None]] = set()
        self._listen()

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The socket, while it serves."""
        return (self._socket,) if self._serving else ()

    def is_serving(self) -> bool:
        """Return whether it accepts connections."""
        return self._serving

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return its event loop."""
        return self._loop

    async def start_serving(self) -> None:
        """Do nothing: it serves from its creation on."""

    async def serve_forever(self) -> None:
        """Wait until the task is cancelled, then close."""
        try:
            await self._loop.create_future()
        finally:
            self.close()

    def close(self) -> None:
        """Stop accepting; existing connections stay open."""
        if self._serving:
            self._serving = False
            self._loop.remove_reader(self._socket)
            self._counts.close()
            self._socket.close()

    async def wait_closed(self) -> None:
        """Return at once: the creator of the protocols waits for their connections."""

    def _listen(self) -> None:
        if self._serving:
            self._loop.add_reader(self._socket, self._look)

    def _look(self) -> None:
        """Accept a connection, or leave it to others for a moment."""
        if self._counts.is_ahead():
            self._pause(_PATIENCE_S, self._accept)
        else:
            self._accept()

    def _pause(self, seconds: float, then: Callable[[], None] | None = None) -> None:
        def resume() -> None:
            if then is not None and self._serving:
                then()
            self._listen()

        self._loop.remove_reader(self._socket)
        self._loop.call_later(seconds, resume)

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):  # another worker was faster
            return
        except OSError:
            self._pause(_TROUBLE_S)
            return
        connection.setblocking(False)
        self._counts.held += 1
        task = self._loop.create_task(self._begin(connection))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _begin(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, connection, ssl=self._tls)
        except OSError:  # the client has disconnected, or the TLS handshake failed
            connection.close()
            self._lost()

    def _lost(self) -> None:
        if self._serving:
            self._counts.held -= 1

    def _protocol(self) -> asyncio.Protocol:
        protocol = self._factory()
        lost = protocol.connection_lost

        def connection_lost(error: Exception | None) -> None:
            self._lost()
            lost(error)

        protocol.connection_lost = connection_lost  # type: ignore[method-assign,assignment]
        return protocol


def share_out(counts: Counts) -> None:
    """Make the running event loop's servers use ``Listener``.

    uvicorn creates its server by ``create_server``, from a socket that it was given, after the application has
    started. There is no other access to it.
    """
    loop = asyncio.get_running_loop()
    ordinary = loop.create_server

    async def create_server(
        factory: Callable[[], asyncio.Protocol], *args: Any, sock: socket.socket | None = None, **options: Any
    ) -> asyncio.AbstractServer:
        if sock is None or args:
            return await ordinary(factory, *args, sock=sock, **options)
        sock.setblocking(False)
        sock.listen(options.get("backlog", 100))
        return Listener(sock, factory, counts, options.get("ssl"))

    loop.create_server = create_server  # type: ignore[method-assign,assignment]
