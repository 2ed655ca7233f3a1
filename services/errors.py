"""The errors of requests, and the table from an error to HTTP status, outcome and headers.

The errors that ``registry.errors`` does not define::

    CultivarError
    └── RequestError
        ├── MalformedRequest    the request is malformed
        ├── Unauthorized        no token, or one that is unknown, expired or revoked
        ├── Forbidden           the token does not permit this operation or target
        ├── UnsupportedMedia    the content type is not supported
        ├── UnknownRoute        no such path
        ├── WrongMethod         the path exists, the method does not
        ├── SpaceDiffers        the client expects vectors of another space
        ├── MissingOutput       the version has no head, or no features
        ├── TargetUnavailable   the target is known, but none of its versions could be loaded
        ├── Overloaded          more work than the limits allow
        └── DeadlineExceeded    no answer before the deadline
"""

from dataclasses import dataclass
from typing import TypeAlias

from registry.errors import (
    AmbiguousRef,
    CultivarError,
    InputTooLarge,
    InvalidInput,
    InvalidName,
    NotFound,
    StorageFailure,
    UndecodableInput,
    UnknownTarget,
    UnknownVersion,
    WrongModality,
)

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]


class RequestError(CultivarError):
    """A request that is not answered successfully."""


class MalformedRequest(RequestError):
    """The request is malformed."""


class Unauthorized(RequestError):
    """There is no token, or one that is unknown, expired or revoked.

    Attributes:
        challenge: the WWW-Authenticate header of the answer (RFC 6750, 3); it names an error only if the request had a
            token.
    """

    reason = "unauthorized"

    def __init__(self, message: str, *, shown: bool = False) -> None:
        super().__init__(message)
        self.challenge = 'Bearer realm="cultivar"' + (', error="invalid_token"' if shown else "")


class Forbidden(RequestError):
    """The token does not permit this operation or this target, which may exist or not."""

    reason = "forbidden"
    challenge = 'Bearer realm="cultivar", error="insufficient_scope"'


class UnsupportedMedia(RequestError):
    """The content type is not supported."""


class UnknownRoute(RequestError):
    """No such path."""


class WrongMethod(RequestError):
    """The path exists, the method does not.

    Attributes:
        allowed: the methods that the path takes.
    """

    def __init__(self, method: str, allowed: tuple[str, ...]) -> None:
        super().__init__(f"this route takes {', '.join(allowed)}, got {method[:20]}")
        self.allowed = allowed


class SpaceDiffers(RequestError):
    """The client expects vectors of another space."""


class MissingOutput(RequestError):
    """The version has no head, or no features."""


class TargetUnavailable(RequestError):
    """The target is known, but none of its versions could be loaded."""


class Overloaded(RequestError):
    """More work than the limits allow.

    Attributes:
        reason: the limit: ``requests``, ``bytes``, ``queue``, or ``deadline`` if the wait would be too long;
            ``shutdown`` at the end.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class DeadlineExceeded(RequestError):
    """No answer before the deadline."""


CLIENT_ERROR = "client_error"
REJECTED = "rejected"
UNAVAILABLE = "unavailable"
DEADLINE = "deadline"
SERVER_ERROR = "server_error"

RETRY_AFTER_S = 1
"""Seconds in the Retry-After header of every answer with status 503."""


@dataclass(frozen=True, slots=True)
class Problem:
    """How an error is answered and counted.

    Attributes:
        status: the HTTP status.
        code: the error's name for programs.
        hint: advice for people.
        outcome: the label of ``cultivar_requests_total``.
        unexpected: whether it is logged with its traceback.
    """

    status: int
    code: str
    hint: str
    outcome: str = CLIENT_ERROR
    unexpected: bool = False


_TABLE: tuple[tuple[type[CultivarError], Problem], ...] = (
    (Unauthorized, Problem(401, "unauthorized", "Ask the operator of the server for a token.")),
    (Forbidden, Problem(403, "forbidden", "Use a token that was made for this target and operation.")),
    (UnknownRoute, Problem(404, "unknown_route", "The routes are listed in the documentation under 'HTTP'.")),
    (WrongMethod, Problem(405, "method_not_allowed", "Use one of the methods in the Allow header.")),
    (UnknownTarget, Problem(404, "unknown_target", "GET /v1/targets lists what is served.")),
    (UnknownVersion, Problem(404, "unknown_version", "GET /v1/targets lists the versions that are served.")),
    (NotFound, Problem(404, "not_found", "GET /v1/targets lists what is served.")),
    (AmbiguousRef, Problem(409, "ambiguous_version", "Add source= to say which transfer is meant.")),
    (
        SpaceDiffers,
        Problem(409, "space_differs", "Embed the whole collection again with the deployed version."),
    ),
    (MissingOutput, Problem(409, "missing_output", "GET /v1/targets says what kind each target is.")),
    (
        InputTooLarge,
        Problem(413, "too_large", "Send less in one request; the limits are settings of the server."),
    ),
    (
        UnsupportedMedia,
        Problem(
            415,
            "unsupported_media_type",
            "Send image/*, multipart/form-data, application/x-npy or application/json.",
        ),
    ),
    (WrongModality, Problem(415, "wrong_modality", "The message says what this target takes.")),
    (
        UndecodableInput,
        Problem(422, "undecodable_input", "Check the input that index names, then send it whole."),
    ),
    (InvalidInput, Problem(422, "invalid_input", "Send the input in the form that the recipe asks for.")),
    (
        InvalidName,
        Problem(400, "malformed_request", "Names are lower-case letters, digits and '.', '_', '-'."),
    ),
    (MalformedRequest, Problem(400, "malformed_request", "The message says what was expected.")),
    (
        TargetUnavailable,
        Problem(503, "target_unavailable", "The server's log says why the version was refused.", UNAVAILABLE),
    ),
    (
        StorageFailure,
        Problem(503, "storage_failure", "Try again; the server's log says what failed.", SERVER_ERROR, True),
    ),
    (
        Overloaded,
        Problem(503, "overloaded", "Try again after the seconds in the Retry-After header.", REJECTED),
    ),
    (
        DeadlineExceeded,
        Problem(504, "deadline_exceeded", "Send fewer inputs at once, or try again later.", DEADLINE),
    ),
)

INTERNAL = Problem(
    500, "internal_error", "The server's log holds the details; try again.", SERVER_ERROR, True
)
INTERNAL_MESSAGE = "an unexpected error stopped this request"


def problem_of(error: BaseException) -> Problem:
    """Return how an error is answered: its row of the table, else an internal error without details."""
    for kind, problem in _TABLE:
        if isinstance(error, kind):
            return problem
    return INTERNAL


def headers_of(error: BaseException) -> Headers:
    """Return the headers of the answer to an error, without those of its body."""
    if isinstance(error, Unauthorized | Forbidden):
        return ((b"www-authenticate", error.challenge.encode()),)
    if isinstance(error, WrongMethod):
        return ((b"allow", ", ".join(error.allowed).encode()),)
    if problem_of(error).status == 503:
        return ((b"retry-after", b"%d" % RETRY_AFTER_S),)
    return ()


def envelope(error: BaseException) -> dict[str, object]:
    """Return an error's body: ``{"error": {"code", "message", "hint"[, "index"]}}``.

    The messages of errors outside the table may contain paths of the host, so they appear only in the log.
    """
    problem = problem_of(error)
    body: dict[str, object] = {
        "code": problem.code,
        "message": INTERNAL_MESSAGE if problem is INTERNAL else str(error),
        "hint": problem.hint,
    }
    if isinstance(error, InvalidInput) and error.index is not None:
        body["index"] = error.index
    return {"error": body}
