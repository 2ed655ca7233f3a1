"""HTTP answers, including those to errors."""

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
    """An HTTP answer."""

    status: int
    content_type: bytes
    body: bytes
    headers: Headers = ()


def allow(methods: Collection[str]) -> Reply:
    """Return the answer that lists a route's methods."""
    return Reply(204, b"", b"", ((b"allow", ", ".join(methods).encode()),))


def other_method(method: str) -> Reply:
    """Return the answer to a method other than POST on a route that takes POST."""
    return allow(_POST) if method == "OPTIONS" else problem(WrongMethod(method, _POST))


def problem(error: BaseException) -> Reply:
    """Return the answer to an error. Refusals are counted; unexpected errors are logged with their traceback."""
    found = problem_of(error)
    if found.unexpected:
        _log.error("a request failed", exc_info=error)
    if isinstance(error, Overloaded | Unauthorized | Forbidden):
        metrics.rejected(error.reason)
    return Reply(found.status, JSON, orjson.dumps(envelope(error), default=str), headers_of(error))


def refusal(error: BaseException, operation: str) -> Reply:
    """Return the answer to an error of BentoML's operations, and log one line; BentoML would log a traceback."""
    reply = problem(error)
    if reply.status < 500:
        _log.warning(
            "BentoML's %s refused a request: %d %s", operation, reply.status, quoted(str(error), SENTENCE)
        )
    return reply


async def send_reply(scope: Scope, send: Send, reply: Reply) -> None:
    """Send an answer: in one call where the server supports it, else as two ASGI messages."""
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
