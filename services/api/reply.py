"""Answers as they are sent, and what errors become."""

import logging
from collections.abc import Collection
from typing import NamedTuple, TypeAlias

import orjson

from registry.quoting import SENTENCE, quoted
from services import metrics
from services.api.codec import JSON
from services.errors import (
    DeadlineExceeded,
    Forbidden,
    Overloaded,
    TargetUnavailable,
    Unauthorized,
    WrongMethod,
    envelope,
    problem_of,
)

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]

RETRY_AFTER_S = 1

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


def problem(error: BaseException) -> Reply:
    """Answer an error; count it where it is a refusal, and log it with its traceback where nobody expected it."""
    found = problem_of(error)
    headers: Headers = ()
    if found.status >= 500 and not isinstance(error, Overloaded | DeadlineExceeded | TargetUnavailable):
        _log.error("a request failed", exc_info=error)
    if isinstance(error, Overloaded | Unauthorized | Forbidden):
        metrics.rejected(error.reason)
    if found.status == 503:
        headers = ((b"retry-after", b"%d" % RETRY_AFTER_S),)
    if isinstance(error, Unauthorized | Forbidden):
        headers = ((b"www-authenticate", error.challenge.encode()),)
    if isinstance(error, WrongMethod):
        headers = ((b"allow", ", ".join(error.allowed).encode()),)
    return Reply(found.status, JSON, orjson.dumps(envelope(error), default=str), headers)


def refusal(error: BaseException, operation: str) -> Reply:
    """Answer an error of an operation that BentoML declares, and log a line: BentoML would log a traceback."""
    reply = problem(error)
    if reply.status < 500:
        _log.warning(
            "BentoML's %s refused a request: %d %s", operation, reply.status, quoted(str(error), SENTENCE)
        )
    return reply
