"""Who comes in, and for how long: limits on requests and bytes, deadlines, clients that left.

A request is a ``AdmittedRequest``. Timers for each one would cost more than small answers do, so a sweep
looks at those that have been here for a while: it ends visits whose time is up and, where the server does not
tell of itself that the client left, begins to listen for that.
"""

import asyncio
from time import perf_counter
from typing import Any

from registry.errors import InputTooLarge
from services.errors import DeadlineExceeded, MalformedRequest, Overloaded
from services.httpd.asgi import Receive, TellsWhenLeft

_SWEEP_S = 0.05

SLOW_BODY_S = 1.0
"""A request whose body is still on its way after so long gives its place to a new one, where all places are taken."""

SMALL_BODY_BYTES = 1 << 20
"""Bodies of up to as many bytes may also hold what is kept from larger ones."""

_KEPT_FOR_SMALL = 4
"""The share of all bytes that is kept for them: one in so many."""
_DISCONNECT = "http.disconnect"


class ClientLeft(Exception):
    """Nobody waits for the answer any more; there is nobody to tell."""


class AdmittedRequest:
    """One request under way.

    Attributes:
        started: ``time.perf_counter()`` at its first byte.
        deadline: when nobody waits any more, on the same clock.
        held_bytes: what its body holds, or will hold where its length is announced.
    """

    __slots__ = (
        "_admission",
        "_end",
        "_listener",
        "_receive",
        "_task",
        "_told",
        "_whole",
        "deadline",
        "held_bytes",
        "started",
    )

    def __init__(
        self,
        admission: "Admission",
        receive: Receive,
        when_left: TellsWhenLeft | None,
        task: "asyncio.Task[Any]",
        now: float,
    ) -> None:
        self.started = now
        self.deadline = now + admission.deadline_s
        self._admission = admission
        self._receive = receive
        self._task = task
        self.held_bytes = 0
        self._whole = False
        self._told = when_left is not None
        self._listener: asyncio.Task[None] | None = None
        self._end: Exception | None = None
        if when_left is not None:
            when_left(self._abandon)

    async def body(self, announced: int | None) -> bytes:
        """Read the whole body.

        Args:
            announced: its length by the Content-Length header, or None where it comes in chunks.

        Raises:
            InputTooLarge: it is over the limit; where it is announced, before anything is read.
            Overloaded: all requests together hold too many bytes already.
            ClientLeft: the client went away before it had sent everything.
        """
        if announced is not None:
            self._hold(announced)
        message = await self._receive()
        if message["type"] == _DISCONNECT:
            raise ClientLeft
        first: bytes = message.get("body", b"")
        if announced is None:
            self._hold(len(first))
        if not message.get("more_body"):
            self._whole = True
            return first
        chunks = [first]
        while not self._whole:
            message = await self._receive()
            if message["type"] == _DISCONNECT:
                raise ClientLeft
            chunk: bytes = message.get("body", b"")
            if announced is None:
                self._hold(len(chunk))
            chunks.append(chunk)
            self._whole = not message.get("more_body")
        return b"".join(chunks)

    def still_sends(self, now: float) -> bool:
        """Return whether the client has been sending its body for ``SLOW_BODY_S`` and has not sent it all."""
        return self.may_give_way() and now - self.started >= SLOW_BODY_S

    def may_give_way(self) -> bool:
        """Return whether the body is still on its way: nothing was spent on it yet."""
        answering = self.deadline == float("inf")
        return not (self._whole or answering) and self._end is None

    def give_way(self, end: Overloaded) -> None:
        """End the visit: others need its place, or what it holds."""
        self._admission.visits.discard(self)
        self._let_go()
        self._cancel(end)

    def ended(self) -> Exception | None:
        """Return why this visit's task was cancelled from here, or None where someone else did it."""
        if self._end is not None:
            self._task.uncancel()
        return self._end

    def answering(self) -> None:
        """Leave the visit alone from now on: its answer is on the way, and may not be cut."""
        self.deadline = float("inf")
        self._whole = False
        if self._listener is not None:
            self._listener.cancel()

    def leave(self) -> None:
        """Give back what the visit holds; every visit ends with this."""
        self._admission.visits.discard(self)
        self._let_go()
        if self._listener is not None:
            self._listener.cancel()

    def sweep(self, now: float) -> None:
        """End the visit if its time is up; see that its client's leaving is noticed once its body is whole."""
        if self._end is not None:
            return
        if now >= self.deadline:
            self._cancel(DeadlineExceeded(f"no answer within {self._admission.deadline_s:g} seconds"))
        elif not self._told and self._whole and self._listener is None and now - self.started >= _SWEEP_S:
            self._listener = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        while (await self._receive())["type"] != _DISCONNECT:
            pass
        self._abandon()

    def _abandon(self) -> None:
        """End the visit, if its client had said everything and was not answered: nobody waits any more."""
        if self._whole and self._end is None:
            self._cancel(ClientLeft())

    def _cancel(self, end: Exception) -> None:
        self._end = end
        self._task.cancel()

    def _hold(self, more: int) -> None:
        admission = self._admission
        admission.check_length(self.held_bytes + more)
        admission.make_room_for(self, more)
        self.held_bytes += more
        admission.held_bytes += more

    def _let_go(self) -> None:
        self._admission.held_bytes -= self.held_bytes
        self.held_bytes = 0


class Admission:
    """The door: counts requests and the bytes of their bodies, all of one event loop.

    Args:
        max_requests: requests under way at once.
        max_body_bytes: bytes of one body.
        max_held_bytes: bytes of all bodies under way.
        deadline_s: seconds from a request's first byte to its answer.

    Attributes:
        visits: the requests under way.
        held_bytes: what their bodies hold.
        leaving: the process is about to end; requests are still let in, and others should be sent elsewhere.
    """

    def __init__(
        self, *, max_requests: int, max_body_bytes: int, max_held_bytes: int, deadline_s: float
    ) -> None:
        self.max_requests = max_requests
        self.max_body_bytes = max_body_bytes
        self.max_held_bytes = max_held_bytes
        self.deadline_s = deadline_s
        self.visits: set[AdmittedRequest] = set()
        self.held_bytes = 0
        self.leaving = False
        self._kept_for_small = min(max_held_bytes // _KEPT_FOR_SMALL, max_held_bytes - max_body_bytes)
        self._sweeping = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def enter(self, receive: Receive, when_left: TellsWhenLeft | None = None) -> AdmittedRequest:
        """Let a request in; its own task is the one that calls.

        Args:
            receive: the client's messages.
            when_left: tells that the client is gone; None where only its messages do.

        Raises:
            Overloaded: as many as allowed are in already, and none of them is slow to send its body.
        """
        if len(self.visits) >= self.max_requests and not self._make_room():
            raise Overloaded(f"{self.max_requests} requests are under way already", "requests")
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        # Without the loop Python would ask the system whether this process was forked, for every request.
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("a visit belongs to a task")
        admitted = AdmittedRequest(self, receive, when_left, task, perf_counter())
        self.visits.add(admitted)
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_later(_SWEEP_S, self._sweep)
        return admitted

    def leave(self) -> None:
        """Announce that the process is about to end."""
        self.leaving = True

    def check_length(self, body_bytes: int) -> None:
        """Check a body's length.

        Raises:
            InputTooLarge: it is over the limit.
        """
        if body_bytes > self.max_body_bytes:
            raise InputTooLarge(f"a body has at most {self.max_body_bytes:,} bytes, got more")

    def make_room_for(self, admitted: AdmittedRequest, more: int) -> None:
        """See that a visit may hold more bytes: larger bodies that are still on their way give way, the largest first.

        So a few clients that announce large bodies, and send them slowly or never, keep nobody else out.

        Raises:
            Overloaded: all bodies hold as many as allowed, and none that may give way is larger.
        """
        wanted = admitted.held_bytes + more
        most = self.max_held_bytes - (0 if wanted <= SMALL_BODY_BYTES else self._kept_for_small)
        while self.held_bytes + more > most:
            others = (other for other in self.visits if other is not admitted and other.may_give_way())
            largest = max(others, key=lambda other: other.held_bytes, default=None)
            if largest is None or largest.held_bytes <= wanted:
                raise Overloaded("the requests under way hold as many bytes as the server allows", "bytes")
            largest.give_way(
                Overloaded("the body was so large that smaller ones got the bytes that it held", "bytes")
            )

    def _make_room(self) -> bool:
        """End the visit that has been sending its body for longest, if one has for long, and return whether one has."""
        now = perf_counter()
        slow = [admitted for admitted in self.visits if admitted.still_sends(now)]
        if slow:
            slowest = min(slow, key=lambda admitted: admitted.started)
            slowest.give_way(
                Overloaded("the body came so slowly that another request got its place", "requests")
            )
        return bool(slow)

    def _sweep(self) -> None:
        now = perf_counter()
        for admitted in tuple(self.visits):
            admitted.sweep(now)
        self._sweeping = bool(self.visits)
        if self._sweeping:
            asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)


def content_length(text: bytes | None) -> int | None:
    """Read a Content-Length header; None where there is none.

    Raises:
        MalformedRequest: it is not a whole number.
    """
    if text is None:
        return None
    if not text.isdigit() or len(text) > 18:
        raise MalformedRequest("Content-Length is a whole number of bytes")
    return int(text)
