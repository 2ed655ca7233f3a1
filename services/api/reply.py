"""Answers as they are sent, and what errors become."""

import logging
from collections.abc import Collection, Mapping
from typing import NamedTuple

import orjson

from registry.quoting import SENTENCE, quoted
from services import metrics
from services.api.codec import JSON
from services.errors import (
    Forbidden,
    Headers,
    Overloaded,
    Unauthorized,
    WrongMethod,
    envelope,
    headers_of,
    problem_of,
)
from services.httpd.asgi import WHOLE_ANSWER, Scope, Send, TakesWholeAnswer

_NONE: Mapping[str, object] = {}
_POST = ("POST", "OPTIONS")

_log = logging.getLogger("cultivar.http")


class Reply(NamedTuple):
    """An answer as it is sent."""

    status: int
    content_type: bytes
    body: bytes
    headers: Headers = ()


def allow(methods: Collection[str]) -> Reply:
    """Answer which methods a route takes."""
    return Reply(204, b"", b"", ((b"allow", ", ".join(methods).encode()),))


def other_method(method: str) -> Reply:
    """Answer another method than POST on a route that takes POST."""
    return allow(_POST) if method == "OPTIONS" else problem(WrongMethod(method, _POST))


def problem(error: BaseException) -> Reply:
    """Answer an error; count it where it is a refusal, and log it with its traceback where nobody expected it."""
    found = problem_of(error)
    if found.unexpected:
        _log.error("a request failed", exc_info=error)
    if isinstance(error, Overloaded | Unauthorized | Forbidden):
        metrics.rejected(error.reason)
    return Reply(found.status, JSON, orjson.dumps(envelope(error), default=str), headers_of(error))


def refusal(error: BaseException, operation: str) -> Reply:
    """Answer an error of an operation that BentoML declares, and log a line: BentoML would log a traceback."""
    reply = problem(error)
    if reply.status < 500:
        _log.warning(
            "BentoML's %s refused a request: %d %s", operation, reply.status, quoted(str(error), SENTENCE)
        )
    return reply


async def send_reply(scope: Scope, send: Send, reply: Reply) -> None:
    """Send an answer: in one call where the connection takes it so, as ASGI's two messages otherwise."""
    headers = reply.headers
    if reply.content_type:
        headers = (*headers, (b"content-type", reply.content_type))
    whole: TakesWholeAnswer | None = scope.get("extensions", _NONE).get(WHOLE_ANSWER)
    if whole is not None:
        whole(reply.status, headers, reply.body)
        return
    if reply.content_type:
        headers = (*headers, (b"content-length", b"%d" % len(reply.body)))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
