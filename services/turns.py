"""Items of several requests, taken in turns, so that a request of many does not keep others waiting."""

import threading
from collections import deque
from typing import Generic, Protocol, TypeVar


class Many(Protocol):
    """A request, as far as it is seen from here."""

    def __len__(self) -> int:
        """How many items it has."""
        ...


_Request = TypeVar("_Request", bound=Many)


class _Entry(Generic[_Request]):
    """A request, the first item that nobody took yet, and those that were put off."""

    __slots__ = ("next", "put_off", "request")

    def __init__(self, request: _Request) -> None:
        self.request = request
        self.next = 0
        self.put_off: deque[int] = deque()


class Turns(Generic[_Request]):
    """A queue of requests from which threads take one item at a time, of each request in turn.

    Items that take long may be put off: threads that are kept for the others take none of those.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._fresh: deque[_Entry[_Request]] = deque()
        self._put_off: deque[_Entry[_Request]] = deque()
        self._turn_of_put_off = False
        self._closed = False

    def add(self, request: _Request) -> None:
        """Queue a request of one item or more."""
        with self._changed:
            self._fresh.append(_Entry(request))
            self._changed.notify(len(request))

    def take(self, *, put_off: bool) -> "tuple[_Entry[_Request], int] | None":
        """Wait for an item and take it; None once the queue is closed.

        Args:
            put_off: items that were put off are taken too, every other time where there are others.

        Returns:
            its request's entry, and its index.
        """
        with self._changed:
            while not self._closed:
                if put_off and self._put_off and (self._turn_of_put_off or not self._fresh):
                    self._turn_of_put_off = False
                    entry = self._put_off.popleft()
                    index = entry.put_off.popleft()
                    if entry.put_off:
                        self._put_off.append(entry)
                    return entry, index
                if self._fresh:
                    self._turn_of_put_off = True
                    entry = self._fresh.popleft()
                    index = entry.next
                    entry.next += 1
                    if entry.next < len(entry.request):
                        self._fresh.append(entry)
                    return entry, index
                self._changed.wait()
            return None

    def put_off(self, entry: "_Entry[_Request]", index: int) -> None:
        """Give an item back that takes long."""
        with self._changed:
            if not entry.put_off:
                self._put_off.append(entry)
            entry.put_off.append(index)
            # Any thread may wake, and one that is kept for the others would leave it.
            self._changed.notify_all()

    def close(self) -> None:
        """Let nothing be taken any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
