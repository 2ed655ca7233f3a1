"""The HTTP application in front: routes, headers and answers of Cultivar's own protocol.

Plain ASGI without a framework. A request costs what its routes need and nothing more: BentoML's
own middleware is several times dearer than a small model, so only paths that are BentoML's
reach it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from time import perf_counter
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import parse_qsl

import orjson

from registry.errors import CultivarError
from registry.tokens import Grant
from services import metrics
from services.admission import Admission, ClientLeft, Receive, Visit, content_length
from services.answers import DEFAULT_TOP_K, Identity
from services.deployment import Selector
from services.errors import (
    DeadlineExceeded,
    Forbidden,
    MalformedRequest,
    Overloaded,
    SpaceDiffers,
    TargetUnavailable,
    Unauthorized,
    UnknownRoute,
    UnsupportedMedia,
    WrongMethod,
    envelope,
    problem_of,
)
from services.inference import Inference
from services.opened import Opened
from services.protocols import native, npy, status
from services.tokens import Doorkeeper, hand_on, pick, visible

Scope: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]

RETRY_AFTER_S = 1
_MAX_TOP_K_DIGITS = 9
_MAX_FIELDS = 16
_QUERY = {metrics.CLASSIFY: frozenset({"stage", "version", "source", "top_k"})}
_QUERY[metrics.EMBED] = _QUERY[metrics.CLASSIFY] - {"top_k"}
_POST = ("POST", "OPTIONS")
_GET = ("GET", "HEAD", "OPTIONS")
_OWN = frozenset({"/livez", "/readyz", "/v1/targets"})
GUARDED = {"/classify": metrics.CLASSIFY, "/embed": metrics.EMBED}
"""BentoML's own paths to the operations. They name the target in the body; the token is looked at before."""

_log = logging.getLogger("cultivar.http")


class Reply(NamedTuple):
    """An answer as it is sent."""

    status: int
    content_type: bytes
    body: bytes
    headers: Headers = ()


class _Request(NamedTuple):
    """The parts of a request's head that matter here."""

    content_type: str
    length: int | None
    accepts_npy: bool
    expected_space: str | None
    selector: Selector
    top_k: int


class Hot:
    """Answers Cultivar's routes, and hands BentoML's to BentoML.

    Args:
        inference: returns what answers, or None while the process is still starting.
        admission: the limits on requests and bytes.
        doorkeeper: tells what a request may ask for.
        beyond: takes what is not HTTP, and the paths that are its own.
        beyond_paths: those paths. Others are unknown here and there, and BentoML would keep a metric
            for every path that anyone ever tries.
    """

    def __init__(
        self,
        inference: Callable[[], Inference | None],
        admission: Admission,
        doorkeeper: Doorkeeper,
        beyond: Application | None = None,
        beyond_paths: Collection[str] = frozenset(),
    ) -> None:
        self._inference = inference
        self._admission = admission
        self._doorkeeper = doorkeeper
        self._beyond = beyond
        self._beyond_paths = frozenset(beyond_paths) - _OWN

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] != "http":
            if self._beyond is not None:
                await self._beyond(scope, receive, send)
            return
        path: str = scope["path"]
        parts = path.split("/")
        if len(parts) == 4 and parts[1] == "v1" and parts[2] in _QUERY and parts[3]:
            await self._infer(scope, receive, send, parts[2], parts[3])
        elif self._beyond is not None and path in self._beyond_paths:
            await self._hand_over(self._beyond, scope, receive, send)
        else:
            await _send(send, self._describe(scope, path))

    async def _hand_over(self, beyond: Application, scope: Scope, receive: Receive, send: Send) -> None:
        """Let BentoML answer those who may ask, within the limit on bodies, which it has none for."""
        operation = GUARDED.get(scope["path"])
        try:
            if operation is not None and scope["method"] != "OPTIONS":
                hand_on(self._doorkeeper.admit(scope["headers"], operation))
            length = content_length(dict(scope["headers"]).get(b"content-length"))
            self._admission.check_length(length or 0)
        except CultivarError as error:
            await _send(send, _problem(error))
            return
        if scope["path"] == "/metrics":
            metrics.settle()
        await beyond(scope, self._admission.limited(receive), send)

    def _describe(self, scope: Scope, path: str) -> Reply:
        """Answer the routes that take no body."""
        method: str = scope["method"]
        try:
            if path not in _OWN:
                raise UnknownRoute(f"there is no route {path[:200]!r}")
            if method == "OPTIONS":
                return _allow(_GET)
            if method not in _GET:
                raise WrongMethod(method, _GET)
            if path == "/livez":
                return Reply(200, native.JSON, b'{"alive":true}')
            inference = self._inference()
            if path == "/v1/targets":
                grant = self._doorkeeper.identify(scope["headers"])
                if inference is None:
                    raise TargetUnavailable("the server is still starting")
                seen = visible(inference.snapshot, grant)
                return Reply(200, native.JSON, orjson.dumps(status.targets(seen), default=str))
            if inference is None or not self._doorkeeper.settled:
                return Reply(503, native.JSON, b'{"ready":false,"degraded":[],"refused":[]}')
            ready, document = status.readiness(
                inference.snapshot,
                strict=inference.settings.strict_ready,
                leaving=self._admission.leaving,
            )
            return Reply(200 if ready else 503, native.JSON, orjson.dumps(document, default=str))
        except Exception as error:
            return _problem(error)

    async def _infer(self, scope: Scope, receive: Receive, send: Send, operation: str, target: str) -> None:
        method = scope["method"]
        if method != "POST":
            await _send(send, _allow(_POST) if method == "OPTIONS" else _problem(WrongMethod(method, _POST)))
            return
        started = perf_counter()
        visit: Visit | None = None
        reply: Reply | None = None
        label = metrics.UNKNOWN
        outcome = metrics.OK
        try:
            grant = self._doorkeeper.admit(scope["headers"], operation, (target,))
            inference = self._inference()
            if inference is None:
                raise TargetUnavailable("the server is still starting")
            if target in inference.snapshot.targets:
                label = target
            visit = self._admission.enter(receive)
            reply = await self._answer(inference, visit, scope, operation, target, grant)
        except asyncio.CancelledError:
            end = None if visit is None else visit.ended()
            if end is None:
                raise
            reply = None if isinstance(end, ClientLeft) else _problem(end)
            outcome = _outcome(end)
        except ClientLeft:
            outcome = metrics.ABANDONED
        # The one place where whatever went wrong becomes an answer.
        except Exception as error:
            reply = _problem(error)
            outcome = _outcome(error)
        try:
            # Before the answer is sent: what a client saw answered is counted, whatever becomes of this process.
            metrics.answered(label, operation, outcome, perf_counter() - started)
            if reply is not None:
                if visit is not None:
                    visit.answering()
                await _send(send, reply)
        finally:
            if visit is not None:
                visit.leave()

    async def _answer(
        self, inference: Inference, visit: Visit, scope: Scope, operation: str, target: str, grant: Grant
    ) -> Reply:
        request = _read_head(scope, operation)
        # Looked up before the body is read, so that a request in vain is refused early, and again
        # after, so that a slow upload is answered by the version that is in force by then.
        opened = _pick(inference, grant, target, request)
        body = await visit.body(request.length)
        opened = _pick(inference, grant, target, request)
        inputs = native.parse(request.content_type, body, inference.settings.max_rows)
        del body
        identity = opened.identity
        if operation == metrics.CLASSIFY:
            rankings = await inference.classify(opened, inputs, request.top_k, visit.deadline)
            begun = perf_counter()
            answer, content_type = native.classification(identity, rankings), native.JSON
        else:
            features = await inference.embed(opened, inputs, visit.deadline)
            begun = perf_counter()
            if request.accepts_npy:
                answer, content_type = npy.write(features), native.NPY
            else:
                answer, content_type = native.embedding(identity, features), native.JSON
        metrics.ENCODE_SECONDS.observe(perf_counter() - begun)
        return Reply(200, content_type, answer, identity.headers)


def _read_head(scope: Scope, operation: str) -> _Request:
    content_type = accept = b""
    length: bytes | None = None
    space: str | None = None
    for name, value in scope["headers"]:
        if name == b"content-type":
            content_type = value
        elif name == b"content-length":
            length = value
        elif name == b"accept":
            accept = value
        elif name == b"x-expect-space":
            space = value.decode("latin-1").strip()
        elif name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise UnsupportedMedia(
                f"bodies come uncompressed, got content-encoding {value[:40].decode('latin-1')!r}"
            )
    query = scope["query_string"]
    selector, top_k = _read_query(query, operation) if query else (_PRODUCTION, DEFAULT_TOP_K)
    return _Request(
        content_type.decode("latin-1"), content_length(length), native.NPY in accept, space, selector, top_k
    )


_PRODUCTION = Selector()


def _read_query(query: bytes, operation: str) -> tuple[Selector, int]:
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError as error:
        raise MalformedRequest(f"the query cannot be read: {error}") from error
    fields = dict(pairs)
    known = _QUERY[operation]
    if len(fields) != len(pairs) or not fields.keys() <= known:
        raise MalformedRequest(
            f"the query of {operation} takes {', '.join(sorted(known))}, each once at most"
        )
    top_k = fields.get("top_k", str(DEFAULT_TOP_K))
    if not (top_k.isascii() and top_k.isdigit() and len(top_k) <= _MAX_TOP_K_DIGITS) or int(top_k) < 1:
        raise MalformedRequest(f"top_k is a whole number from 1, got {top_k[:40]!r}")
    return Selector.parse(fields.get("stage"), fields.get("version"), fields.get("source")), int(top_k)


def _pick(inference: Inference, grant: Grant, target: str, request: _Request) -> Opened:
    opened = pick(inference.snapshot, grant, target, request.selector)
    if request.expected_space is not None:
        _check_space(opened.identity, request.expected_space)
    return opened


def _check_space(identity: Identity, expected: str) -> None:
    if identity.space_id != expected:
        raise SpaceDiffers(
            f"{identity.ref} answers in space {identity.space_id}, the request expects {expected[:100]}"
        )


def _allow(methods: Collection[str]) -> Reply:
    return Reply(204, b"", b"", ((b"allow", ", ".join(methods).encode()),))


def _problem(error: BaseException) -> Reply:
    problem = problem_of(error)
    headers: Headers = ()
    if problem.status >= 500 and not isinstance(error, Overloaded | DeadlineExceeded | TargetUnavailable):
        _log.error("a request failed", exc_info=error)
    if isinstance(error, Overloaded | Unauthorized | Forbidden):
        metrics.rejected(error.reason)
    if problem.status == 503:
        headers = ((b"retry-after", b"%d" % RETRY_AFTER_S),)
    if isinstance(error, Unauthorized | Forbidden):
        headers = ((b"www-authenticate", error.challenge.encode()),)
    if isinstance(error, WrongMethod):
        headers = ((b"allow", ", ".join(error.allowed).encode()),)
    return Reply(problem.status, native.JSON, orjson.dumps(envelope(error), default=str), headers)


def _outcome(error: BaseException) -> str:
    if isinstance(error, ClientLeft):
        return metrics.ABANDONED
    if isinstance(error, Overloaded):
        return metrics.REJECTED
    if isinstance(error, DeadlineExceeded):
        return metrics.DEADLINE
    if isinstance(error, TargetUnavailable):
        return metrics.UNAVAILABLE
    return metrics.CLIENT_ERROR if problem_of(error).status < 500 else metrics.SERVER_ERROR


async def _send(send: Send, reply: Reply) -> None:
    headers = list(reply.headers)
    if reply.content_type:
        headers += ((b"content-type", reply.content_type), (b"content-length", b"%d" % len(reply.body)))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
