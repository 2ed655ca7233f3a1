"""Admission: limits on requests and bytes, deadlines, and clients that disconnect.

An admitted request is an ``AdmittedRequest``. A timer for each one would cost more than a small answer does. A
periodic sweep does their work: it ends requests that are past their deadline. Where the server does not report that
a client has disconnected, the sweep starts to listen for that.
"""

import asyncio
from time import perf_counter
from typing import Any

from registry.errors import InputTooLarge
from services.errors import DeadlineExceeded, MalformedRequest, Overloaded
from services.httpd.asgi import Receive, TellsWhenLeft

_SWEEP_S = 0.05

SLOW_BODY_S = 1.0
"""Seconds after which a request that is still sending its body gives way to a new one, at the limit on requests."""

SMALL_BODY_BYTES = 1 << 20
"""Bodies of up to this many bytes may also use the bytes that are reserved for small bodies."""

_KEPT_FOR_SMALL = 4
"""One byte in this many is reserved for small bodies."""
_DISCONNECT = "http.disconnect"


class ClientLeft(Exception):
    """The client has disconnected; there is nobody to answer."""


class AdmittedRequest:
    """One admitted request that is not answered yet.

    Attributes:
        started: ``time.perf_counter()`` at its first byte.
        deadline: when the client stops waiting, on the same clock.
        held_bytes: bytes of its body: those received, or the announced length.
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
            announced: its length by the Content-Length header, or None for a chunked body.

        Raises:
            InputTooLarge: it is over the limit; an announced length is checked before anything is read.
            Overloaded: all requests together hold too many bytes.
            ClientLeft: the client disconnected before it had sent everything.
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
        """Return whether the client has sent for ``SLOW_BODY_S`` and its body is still incomplete."""
        return self.may_give_way() and now - self.started >= SLOW_BODY_S

    def may_give_way(self) -> bool:
        """Return whether the body is still incomplete: no work was done for it yet."""
        answering = self.deadline == float("inf")
        return not (self._whole or answering) and self._end is None

    def give_way(self, end: Overloaded) -> None:
        """End the request, so that others can have its place or its bytes."""
        self._admission.visits.discard(self)
        self._let_go()
        self._cancel(end)

    def ended(self) -> Exception | None:
        """Return why admission cancelled this request's task, or None if something else did."""
        if self._end is not None:
            self._task.uncancel()
        return self._end

    def answering(self) -> None:
        """Never end the request from now on: its answer is being sent and must not be cut off."""
        self.deadline = float("inf")
        self._whole = False
        self._stop_listening()

    def leave(self) -> None:
        """Release what the request holds; every admitted request ends with this."""
        self._admission.visits.discard(self)
        self._let_go()
        self._stop_listening()

    def sweep(self, now: float) -> None:
        """End the request if its deadline has passed; listen for a disconnect once its body is complete."""
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

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.cancel()
            # A task and its request would keep each other until the garbage collector runs.
            self._listener = None

    def _abandon(self) -> None:
        """End the request after its client disconnected, if its body is complete and it is not answered yet."""
        if self._whole and self._end is None:
            self._cancel(ClientLeft())

    def _cancel(self, end: Exception) -> None:
        self._end = end
        self._task.cancel()

    def _hold(self, more: int) -> None:
        admission = self._admission
        admission.check_length(self.held_bytes + more)
        admission.free_bytes_for(self, more)
        self.held_bytes += more
        admission.held_bytes += more

    def _let_go(self) -> None:
        self._admission.held_bytes -= self.held_bytes
        self.held_bytes = 0


class Admission:
    """Limits the requests of one event loop and the bytes of their bodies.

    Args:
        max_requests: admitted requests at once.
        max_body_bytes: bytes of one body.
        max_held_bytes: bytes of all bodies together.
        deadline_s: seconds from a request's first byte to its answer.

    Attributes:
        visits: the admitted requests.
        held_bytes: bytes of their bodies.
        leaving: the process is about to end; it still admits requests, but new ones should be sent elsewhere.
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
        """Admit a request; called from the request's own task.

        Args:
            receive: the client's messages.
            when_left: reports that the client has disconnected; None where only its messages do.

        Raises:
            Overloaded: the limit on requests is reached, and none of them is slow to send its body.
        """
        if len(self.visits) >= self.max_requests and not self._evict_slow():
            raise Overloaded(f"{self.max_requests} requests are in progress already", "requests")
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        # Given the loop, Python skips a getpid() system call for every request.
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("a request belongs to a task")
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

    def free_bytes_for(self, admitted: AdmittedRequest, more: int) -> None:
        """Make room for more bytes of a request: larger incomplete bodies give way, the largest first.

        So a few clients that announce large bodies, and send them slowly or never, do not block others.

        Raises:
            Overloaded: the limit on bytes is reached, and no body that may give way is larger.
        """
        wanted = admitted.held_bytes + more
        most = self.max_held_bytes - (0 if wanted <= SMALL_BODY_BYTES else self._kept_for_small)
        while self.held_bytes + more > most:
            others = (other for other in self.visits if other is not admitted and other.may_give_way())
            largest = max(others, key=lambda other: other.held_bytes, default=None)
            if largest is None or largest.held_bytes <= wanted:
                raise Overloaded("the requests in progress hold as many bytes as the server allows", "bytes")
            largest.give_way(Overloaded("the body was dropped to free memory for smaller ones", "bytes"))

    def _evict_slow(self) -> bool:
        """End the request that has sent its body for longest, if one is slow; return whether one is."""
        now = perf_counter()
        slow = [admitted for admitted in self.visits if admitted.still_sends(now)]
        if slow:
            slowest = min(slow, key=lambda admitted: admitted.started)
            slowest.give_way(
                Overloaded("the body arrived so slowly that another request took its place", "requests")
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
