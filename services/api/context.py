"""The context of one request to an operation, from admission to answer."""

from asyncio import CancelledError
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Self

from services import metrics
from services.api.admission import Admission, AdmittedRequest, ClientLeft
from services.api.reply import Reply, send_reply
from services.errors import problem_of
from services.httpd.asgi import WHEN_LEFT, Receive, Scope, Send

_NONE: Mapping[str, object] = {}


class RequestContext:
    """Answers, counts and releases a request, also when it fails; an async context manager.

    Args:
        admission: the limits on requests and bytes.
        scope: the request, as ASGI describes it.
        receive: the client's messages.
        send: sends the answer.
        operation: ``classify`` or ``embed``.
        respond: turns an error into an answer.

    Attributes:
        started: ``time.perf_counter()`` at the start.
        targets: the metric labels under which the request is counted; if empty, it is not counted.
        reply: the answer; None sends nothing.
    """

    __slots__ = (
        "_admission",
        "_admitted",
        "_handed_over",
        "_operation",
        "_receive",
        "_respond",
        "_scope",
        "_send",
        "reply",
        "started",
        "targets",
    )

    def __init__(
        self,
        admission: Admission,
        scope: Scope,
        receive: Receive,
        send: Send,
        operation: str,
        respond: Callable[[BaseException], Reply],
    ) -> None:
        self.started = perf_counter()
        self.targets: Sequence[str] = ()
        self.reply: Reply | None = None
        self._admission = admission
        self._scope = scope
        self._receive = receive
        self._send = send
        self._operation = operation
        self._respond = respond
        self._admitted: AdmittedRequest | None = None
        self._handed_over = False

    def admit(self) -> AdmittedRequest:
        """Admit the request, once; raises as ``Admission.enter`` does."""
        self._admitted = self._admission.enter(
            self._receive, self._scope.get("extensions", _NONE).get(WHEN_LEFT)
        )
        return self._admitted

    def hand_over(self) -> None:
        """Let another application answer from now on; its errors are not answered here."""
        self._handed_over = True
        if self._admitted is not None:
            self._admitted.answering()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> bool:
        try:
            if error is None:
                outcome = metrics.OK
            else:
                found = self._answered_here(error)
                if found is None:
                    return False
                if isinstance(found, ClientLeft):
                    self.reply, outcome = None, metrics.ABANDONED
                else:
                    self.reply, outcome = self._respond(found), problem_of(found).outcome
            # Before the answer is sent: every answer that a client gets is counted, even if this process dies.
            for target in self.targets:
                metrics.answered(target, self._operation, outcome, perf_counter() - self.started)
            if self.reply is not None:
                if self._admitted is not None:
                    self._admitted.answering()
                await send_reply(self._scope, self._send, self.reply)
            return True
        finally:
            if self._admitted is not None:
                self._admitted.leave()

    def _answered_here(self, error: BaseException) -> Exception | None:
        """Return the error to answer, or None. For a task that admission cancelled, it is the reason."""
        if self._handed_over:
            return None
        if isinstance(error, CancelledError):
            return None if self._admitted is None else self._admitted.ended()
        return error if isinstance(error, Exception) else None
