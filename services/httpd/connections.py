"""All connections of a process, with limits on their number and times."""

import asyncio
from collections import Counter
from typing import Protocol

from services.httpd.limits import ConnectionLimits

SWEEP_S = 0.5
"""Seconds between two checks of all connections; a timer for each request would make small answers slower."""


class Held(Protocol):
    """The interface of a connection that is used here.

    Attributes:
        address: the client's address, or None if it has none (a UNIX socket).
    """

    address: str | None

    def give_way(self) -> None:
        """Close at once: it is idle, and another client needs its place."""
        ...

    def abort(self) -> None:
        """Close at once, also during a request."""
        ...

    def check_time(self, now: float) -> None:
        """Close if a time limit on the client has passed; ``now`` is the event loop's time."""
        ...


class Connections:
    """The connections of one process, of one event loop.

    Args:
        limits: limits on their number and times.

    Attributes:
        limits: the same.
        refused: number of connections that were refused for lack of a place.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.refused = 0
        self._held: set[Held] = set()
        self._of_address: Counter[str] = Counter()
        # Idle connections, the longest idle one first; those with incomplete heads are included.
        self._idle: dict[Held, None] = {}
        self._draining: dict[Held, None] = {}
        # Unsent bytes of answers, by connections whose clients read slowly, the slowest first.
        self._behind: dict[Held, int] = {}
        self._unsent_bytes = 0
        self._sweeper: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._held)

    def admit(self, connection: Held) -> bool:
        """Admit a new connection, and return whether there is a place for it.

        At a limit, the connection that has been idle for longest gives way; at the limit of an address, the longest
        idle one of that address.
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
        """Remove a connection; an unknown one is ignored."""
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
        """Note that a connection has a request in progress."""
        self._idle.pop(connection, None)

    def idle(self, connection: Held) -> None:
        """Note that a connection is idle from now on."""
        if connection in self._held:
            self._idle[connection] = None

    def drain(self, connection: Held) -> None:
        """Note that a connection's input is dropped from now on; beyond the limit the oldest such one is closed."""
        self._idle.pop(connection, None)
        if len(self._draining) >= self.limits.drains:
            oldest = next(iter(self._draining))
            del self._draining[oldest]
            oldest.abort()
        self._draining[connection] = None

    def behind(self, connection: Held, unsent_bytes: int) -> None:
        """Note unsent bytes of a connection; if all together have too many, the slowest are closed.

        Args:
            connection: the connection, whose client reads slowly.
            unsent_bytes: its unsent bytes until ``caught_up``.
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
        """Note that a connection has no unsent bytes any more."""
        self._unsent_bytes -= self._behind.pop(connection, 0)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in tuple(self._held):
            connection.check_time(now)
        self._sweeper = loop.call_later(SWEEP_S, self._sweep) if self._held else None
