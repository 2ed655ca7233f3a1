"""Takes the inputs of several requests in turns, so that a request of many inputs does not make others wait."""

from collections import deque

from services.engine.request import Request


class _Entry:
    """A request, its remaining inputs, and since when it waits for its turn."""

    __slots__ = ("indices", "request", "since")

    def __init__(self, request: Request, since: float) -> None:
        self.request = request
        self.since = since
        self.indices: deque[int] = deque()


class RoundRobin:
    """Inputs to prepare one by one, from each request in turn."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: deque[_Entry] = deque()

    def __bool__(self) -> bool:
        return bool(self._entries)

    @property
    def since(self) -> float:
        """Since when the next input waits, on ``time.perf_counter()``'s clock; infinity if there is none."""
        return self._entries[0].since if self._entries else float("inf")

    def add(self, request: Request, index: int, now: float) -> None:
        """Add an input of a request."""
        for entry in self._entries:
            if entry.request is request:
                break
        else:
            entry = _Entry(request, now)
            self._entries.append(entry)
        entry.indices.append(index)

    def add_all(self, request: Request) -> None:
        """Add all inputs of a new request."""
        entry = _Entry(request, request.queued_at)
        entry.indices.extend(range(request.rows))
        self._entries.append(entry)

    def take(self, now: float) -> tuple[Request, int]:
        """Remove and return the next input of the next request; there must be one."""
        entry = self._entries.popleft()
        index = entry.indices.popleft()
        if entry.indices:
            entry.since = now
            self._entries.append(entry)
        return entry.request, index

    def drain(self) -> list[Request]:
        """Remove everything."""
        requests = [entry.request for entry in self._entries]
        self._entries.clear()
        return requests
