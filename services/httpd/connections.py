"""All connections of a process: how many there are, whose, and which have been waited for too long."""

import asyncio
from collections import Counter
from typing import Protocol

from services.httpd.limits import ConnectionLimits

SWEEP_S = 0.5
"""Between two checks of all connections: a timer for each request would cost a part of every small answer."""


class Held(Protocol):
    """A connection, as far as it is seen from here.

    Attributes:
        address: the client's, or None where it has none (a UNIX socket).
    """

    address: str | None

    def give_way(self) -> None:
        """Close at once: nothing is under way on it, and another client needs its place."""
        ...

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        ...

    def check_time(self, now: float) -> None:
        """Close if the client was waited for too long; ``now`` is the event loop's time."""
        ...


class Connections:
    """The connections of one process, of one event loop.

    Args:
        limits: on their number and times.

    Attributes:
        limits: the same.
        refused: connections that were closed at once because there was no place.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.refused = 0
        self._held: set[Held] = set()
        self._of_address: Counter[str] = Counter()
        # In order of the moment since when nothing is under way on them; incomplete heads are among them.
        self._idle: dict[Held, None] = {}
        self._draining: dict[Held, None] = {}
        # Bytes of answers that wait for those who are slow to take them, the slowest first.
        self._behind: dict[Held, int] = {}
        self._unsent_bytes = 0
        self._sweeper: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._held)

    def admit(self, connection: Held) -> bool:
        """Take a new connection in, and return whether there is a place for it.

        Where there is none, the connection on which nothing has been under way for longest gives way: of the same
        address, if that one holds as many as an address may.
        """
        limits, address = self.limits, connection.address
        if (
            address is not None
            and self._of_address[address] >= limits.per_address
            and not limits.trusts(address)
        ):
            other = next((held for held in self._idle if held.address == address), None)
        elif len(self._held) >= limits.connections:
            other = next(iter(self._idle), None)
        else:
            other = connection
        if other is None:
            self.refused += 1
            return False
        if other is not connection:
            self.discard(other)
            other.give_way()
        self._held.add(connection)
        self._idle[connection] = None
        if address is not None:
            self._of_address[address] += 1
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)
        return True

    def discard(self, connection: Held) -> None:
        """Forget a connection; one that is not known is passed over."""
        if connection not in self._held:
            return
        self._held.remove(connection)
        self._idle.pop(connection, None)
        self._draining.pop(connection, None)
        self.caught_up(connection)
        if (address := connection.address) is not None:
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]

    def busy(self, connection: Held) -> None:
        """Take note that a request is under way on a connection."""
        self._idle.pop(connection, None)

    def idle(self, connection: Held) -> None:
        """Take note that nothing is under way on a connection from now on."""
        if connection in self._held:
            self._idle[connection] = None

    def drain(self, connection: Held) -> None:
        """Take note that a connection's input is dropped from now on; the oldest such one may be closed for it."""
        self._idle.pop(connection, None)
        if len(self._draining) >= self.limits.drains:
            oldest = next(iter(self._draining))
            del self._draining[oldest]
            oldest.abort()
        self._draining[connection] = None

    def behind(self, connection: Held, unsent_bytes: int) -> None:
        """Take note of bytes that wait for a client; where all together are too many, the slowest are closed.

        Args:
            connection: whose client is slow to take them.
            unsent_bytes: as many as there will be until ``caught_up``.
        """
        self.caught_up(connection)
        self._behind[connection] = unsent_bytes
        self._unsent_bytes += unsent_bytes
        while self._unsent_bytes > self.limits.unsent_bytes:
            slowest = next(iter(self._behind))
            if slowest is connection:
                return
            self.caught_up(slowest)
            slowest.abort()

    def caught_up(self, connection: Held) -> None:
        """Take note that a client takes what there is."""
        self._unsent_bytes -= self._behind.pop(connection, 0)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in tuple(self._held):
            connection.check_time(now)
        self._sweeper = loop.call_later(SWEEP_S, self._sweep) if self._held else None
