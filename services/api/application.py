"""The HTTP application in front: routes, headers and answers of Cultivar's own protocol.

Plain ASGI without a framework. A request costs what its routes need and nothing more: BentoML's
own middleware is several times dearer than a small model, so only paths that are BentoML's
reach it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter
from typing import TypeVar

import orjson

from registry.tokens import Grant
from services import metrics
from services.api import bento_body, codec, landing_page, npy, request, status
from services.api.admission import Admission, AdmittedRequest, ClientLeft
from services.api.allocator import DelayedTrim
from services.api.auth import Authenticator, hand_on, pick, visible
from services.api.bento_pages import PATHS, BentoPages
from services.api.reply import Headers, Reply, allow, problem, refusal
from services.api.request import RequestHead
from services.deployment.identity import AnswerIdentity
from services.deployment.loading import LoadedVersion
from services.deployment.snapshot import Snapshot
from services.errors import (
    DeadlineExceeded,
    Overloaded,
    SpaceDiffers,
    TargetUnavailable,
    UnknownRoute,
    WrongMethod,
    problem_of,
)
from services.httpd.asgi import (
    WHEN_LEFT,
    WHOLE_ANSWER,
    Application,
    Message,
    Receive,
    Scope,
    Send,
    TakesWholeAnswer,
)
from services.inference.inputs import Inputs
from services.inference.pipeline import InferencePipeline, Urgency

_NONE: Mapping[str, object] = {}

_OPERATIONS = frozenset({metrics.CLASSIFY, metrics.EMBED})
_SEVERAL = "/v1/classify"
_POST = ("POST", "OPTIONS")
_GET = ("GET", "HEAD", "OPTIONS")
_OWN = frozenset({"/", "/livez", "/readyz", "/v1/targets"})
_PAGE_HEADERS: Headers = (
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
    (b"x-content-type-options", b"nosniff"),
)
GUARDED = {"/classify": metrics.CLASSIFY, "/embed": metrics.EMBED}
"""BentoML's own paths to the operations. They name the target in the body; the token is looked at before."""

_OPEN = frozenset({"/metrics", "/healthz"})
"""BentoML's paths that need no token."""

MAX_PARSED_IN_LOOP_BYTES = 256 << 10
"""Larger bodies are parsed in a thread: one, so that they cannot take the interpreter from the event loop together."""

MODERATE_BODY_BYTES = 4 << 20
"""Bodies of up to as many bytes have a thread of their own, and never wait for larger ones."""

_MODERATE, _LARGE = ThreadPoolExecutor(1, "parse"), ThreadPoolExecutor(1, "parse-large")
_AFTERWARDS = DelayedTrim()
_T = TypeVar("_T")


class HttpApplication:
    """Answers Cultivar's routes, and hands BentoML's to BentoML.

    Args:
        inference: returns what answers, or None while the process is still starting.
        admission: the limits on requests and bytes.
        authenticator: tells what a request may ask for.
        max_rows: inputs of one request.
        beyond: BentoML's application. It gets what is not HTTP, its own operations and its pages; other paths are
            unknown here and there, and it would keep a metric for every path that anyone ever tries.
    """

    def __init__(
        self,
        inference: Callable[[], InferencePipeline | None],
        admission: Admission,
        authenticator: Authenticator,
        max_rows: int,
        beyond: Application | None = None,
    ) -> None:
        self._inference = inference
        self._admission = admission
        self._authenticator = authenticator
        self._max_rows = max_rows
        self._beyond = beyond
        self._pages = None if beyond is None else BentoPages(beyond)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] != "http":
            if self._beyond is not None:
                await self._beyond(scope, receive, send)
            return
        path: str = scope["path"]
        parts = path.split("/")
        if len(parts) == 4 and parts[1] == "v1" and parts[2] in _OPERATIONS and parts[3]:
            await self._infer(scope, receive, send, parts[2], parts[3])
        elif path == _SEVERAL:
            await self._infer(scope, receive, send, metrics.CLASSIFY, None)
        elif self._beyond is not None and path in GUARDED:
            await self._hand_over(self._beyond, scope, receive, send, GUARDED[path])
        elif self._pages is not None and path in PATHS:
            await self._page(self._pages, scope, send)
        else:
            await _send(scope, send, self._describe(scope, path))

    async def _page(self, pages: BentoPages, scope: Scope, send: Send) -> None:
        """Answer one of BentoML's pages to those who may see it."""
        path: str = scope["path"]
        method: str = scope["method"]
        try:
            if method == "OPTIONS":
                reply = allow(_GET)
            elif method not in _GET:
                raise WrongMethod(method, _GET)
            else:
                if path not in _OPEN:
                    self._authenticator.identify(scope["headers"])
                if path == "/metrics":
                    metrics.settle()
                reply = await pages.get(scope)
        except Exception as error:
            reply = problem(error)
        await _send(scope, send, reply)

    async def _hand_over(
        self, beyond: Application, scope: Scope, receive: Receive, send: Send, operation: str
    ) -> None:
        """Let BentoML answer an operation of its own, once its body is whole and is what the operation takes.

        BentoML reads bodies of any length, each in one go in the event loop: it gets what is short of them, and the
        operation the inputs.
        """
        if scope["method"] != "POST":
            await _send(scope, send, _other_method(scope["method"]))
            return
        admitted: AdmittedRequest | None = None
        hand_on(None)
        try:
            hand_on(self._authenticator.admit(scope["headers"], operation))
            if self._inference() is None:
                raise TargetUnavailable("the server is still starting")
            admitted = self._admission.enter(receive, scope.get("extensions", _NONE).get(WHEN_LEFT))
            head = request.read({**scope, "query_string": b""}, operation)
            body = await admitted.body(head.length)
            inputs, rest = await _apart(
                len(body), bento_body.read, head.content_type, body, operation, self._max_rows
            )
            del body
            admitted.answering()
        except asyncio.CancelledError:
            end = None if admitted is None else admitted.ended()
            if end is None:
                raise
            if not isinstance(end, ClientLeft):
                await _send(scope, send, refusal(end, operation))
        except ClientLeft:
            pass
        except Exception as error:
            await _send(scope, send, refusal(error, operation))
        else:
            bento_body.hand_on(inputs)
            del inputs
            await beyond(_of_length(scope, len(rest)), _again(rest, receive), send)
        finally:
            if admitted is not None:
                admitted.leave()

    def _describe(self, scope: Scope, path: str) -> Reply:
        """Answer the routes that take no body."""
        method: str = scope["method"]
        try:
            if path not in _OWN:
                raise UnknownRoute(f"there is no route {path[:200]!r}")
            if method == "OPTIONS":
                return allow(_GET)
            if method not in _GET:
                raise WrongMethod(method, _GET)
            if path == "/livez":
                return Reply(200, codec.JSON, b'{"alive":true}')
            if path == "/":
                self._authenticator.identify(scope["headers"])
                return Reply(200, b"text/html; charset=utf-8", landing_page.page(), _PAGE_HEADERS)
            inference = self._inference()
            if path == "/v1/targets":
                grant = self._authenticator.identify(scope["headers"])
                if inference is None:
                    raise TargetUnavailable("the server is still starting")
                seen = visible(inference.snapshot, grant)
                return Reply(200, codec.JSON, orjson.dumps(status.targets(seen), default=str))
            if inference is None or not self._authenticator.settled:
                return Reply(503, codec.JSON, b'{"ready":false,"degraded":[],"refused":[]}')
            ready, document = status.readiness(
                inference.snapshot,
                strict=inference.settings.strict_ready,
                leaving=self._admission.leaving,
            )
            return Reply(200 if ready else 503, codec.JSON, orjson.dumps(document, default=str))
        except Exception as error:
            return problem(error)

    async def _infer(
        self, scope: Scope, receive: Receive, send: Send, operation: str, target: str | None
    ) -> None:
        """Answer an operation on a target, or on several where None."""
        method = scope["method"]
        if method != "POST":
            await _send(scope, send, _other_method(method))
            return
        started = perf_counter()
        admitted: AdmittedRequest | None = None
        reply: Reply | None = None
        labels: Sequence[str] = (metrics.UNKNOWN,)
        outcome = metrics.OK
        try:
            targets = request.targets_of(scope["query_string"]) if target is None else (target,)
            grant = self._authenticator.admit(scope["headers"], operation, targets)
            inference = self._inference()
            if inference is None:
                raise TargetUnavailable("the server is still starting")
            served = inference.snapshot.targets
            labels = [name if name in served else metrics.UNKNOWN for name in targets]
            admitted = self._admission.enter(receive, scope.get("extensions", _NONE).get(WHEN_LEFT))
            head = request.read(scope, operation, several=target is None)
            admitted.deadline = min(admitted.deadline, started + head.timeout_s)
            if target is None:
                reply = await self._classify_all(inference, admitted, head, targets, grant)
            else:
                reply = await self._answer(inference, admitted, head, operation, target, grant)
        except asyncio.CancelledError:
            end = None if admitted is None else admitted.ended()
            if end is None:
                raise
            reply = None if isinstance(end, ClientLeft) else problem(end)
            outcome = _outcome(end)
        except ClientLeft:
            outcome = metrics.ABANDONED
        # The one place where whatever went wrong becomes an answer.
        except Exception as error:
            reply = problem(error)
            outcome = _outcome(error)
        try:
            # Before the answer is sent: what a client saw answered is counted, whatever becomes of this process.
            for label in labels:
                metrics.answered(label, operation, outcome, perf_counter() - started)
            if reply is not None:
                if admitted is not None:
                    admitted.answering()
                await _send(scope, send, reply)
        finally:
            if admitted is not None:
                admitted.leave()

    async def _answer(
        self,
        inference: InferencePipeline,
        admitted: AdmittedRequest,
        head: RequestHead,
        operation: str,
        target: str,
        grant: Grant,
    ) -> Reply:
        # Looked up before the body is read, so that a request in vain is refused early, and again
        # after, so that a slow upload is answered by the version that is in force by then.
        snapshot = inference.snapshot
        loaded = _pick(snapshot, grant, target, head)
        inference.check_time(loaded, admitted.deadline)
        body = await admitted.body(head.length)
        if inference.snapshot is not snapshot:
            loaded = _pick(inference.snapshot, grant, target, head)
        inputs = await _parse(head, body, inference.settings.max_rows)
        del body
        identity, urgency = loaded.identity, Urgency(admitted.deadline, head.priority)
        if operation == metrics.CLASSIFY:
            rankings = await inference.classify(loaded, inputs, head.top_k, urgency)
            begun = perf_counter()
            answer, content_type = codec.classification(identity, rankings), codec.JSON
        else:
            features = await inference.embed(loaded, inputs, urgency)
            begun = perf_counter()
            if head.accepts_npy:
                answer, content_type = npy.write(features), codec.NPY
            else:
                answer, content_type = codec.embedding(identity, features), codec.JSON
        metrics.ENCODE_SECONDS.observe(perf_counter() - begun)
        return Reply(200, content_type, answer, identity.headers)

    async def _classify_all(
        self,
        inference: InferencePipeline,
        admitted: AdmittedRequest,
        head: RequestHead,
        targets: Sequence[str],
        grant: Grant,
    ) -> Reply:
        for target in targets:
            inference.check_time(_pick(inference.snapshot, grant, target, head), admitted.deadline)
        body = await admitted.body(head.length)
        snapshot = inference.snapshot
        loaded = {target: _pick(snapshot, grant, target, head) for target in targets}
        inputs = await _parse(head, body, inference.settings.max_rows)
        del body
        rankings = await inference.classify_all(
            loaded, inputs, head.top_k, Urgency(admitted.deadline, head.priority)
        )
        begun = perf_counter()
        answer = codec.classifications(
            {target: (loaded[target].identity, rankings[target]) for target in targets}
        )
        metrics.ENCODE_SECONDS.observe(perf_counter() - begun)
        return Reply(200, codec.JSON, answer)


def _pick(snapshot: Snapshot, grant: Grant, target: str, head: RequestHead) -> LoadedVersion:
    loaded = pick(snapshot, grant, target, head.selector)
    if head.expected_space is not None:
        _check_space(loaded.identity, head.expected_space)
    return loaded


def _check_space(identity: AnswerIdentity, expected: str) -> None:
    if identity.space_id != expected:
        raise SpaceDiffers(
            f"{identity.ref} answers in space {identity.space_id}, the request expects {expected[:100]}"
        )


async def _parse(head: RequestHead, body: bytes, max_rows: int) -> Inputs:
    """Read a body: here if that takes no time, else in a thread for that."""
    if codec.is_read_at_once(head.content_type):
        return codec.parse(head.content_type, body, max_rows)
    return await _apart(len(body), codec.parse, head.content_type, body, max_rows)


async def _apart(body_bytes: int, work: Callable[..., _T], *arguments: object) -> _T:
    """Do something to a body: here if it is small, else in a thread for that."""
    if body_bytes <= MAX_PARSED_IN_LOOP_BYTES:
        return work(*arguments)
    loop = asyncio.get_running_loop()
    if body_bytes <= MODERATE_BODY_BYTES:
        return await loop.run_in_executor(_MODERATE, partial(work, *arguments))
    try:
        return await loop.run_in_executor(_LARGE, partial(work, *arguments))
    finally:
        _AFTERWARDS.give_back()


def _other_method(method: str) -> Reply:
    return allow(_POST) if method == "OPTIONS" else problem(WrongMethod(method, _POST))


def _of_length(scope: Scope, length: int) -> Scope:
    """Return a request with a body of another length."""
    kept = [
        header for header in scope["headers"] if header[0] not in (b"content-length", b"transfer-encoding")
    ]
    return {**scope, "headers": [*kept, (b"content-length", b"%d" % length)]}


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a way to receive a body that was read already, or that stands for one."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive_again() -> Message:
        for message in messages:
            return message
        return await receive()

    return receive_again


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


async def _send(scope: Scope, send: Send, reply: Reply) -> None:
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
