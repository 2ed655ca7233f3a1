"""The HTTP application: all routes and what answers them.

Plain ASGI without a framework. BentoML's own middleware costs several times as much as a small model, so only
BentoML's paths reach it.
"""

from collections.abc import Callable

import orjson

from services import metrics
from services.api import bento_operations, codec, landing_page, status
from services.api.admission import Admission
from services.api.auth import Authenticator, visible
from services.api.bento_operations import BentoOperations
from services.api.bento_pages import PATHS, BentoPages
from services.api.operations import Operations
from services.api.reply import Reply, allow, problem, send_reply
from services.errors import Headers, TargetUnavailable, UnknownRoute, WrongMethod
from services.httpd.asgi import Application, Receive, Scope, Send
from services.inference.pipeline import InferencePipeline

_OPERATIONS = frozenset({metrics.CLASSIFY, metrics.EMBED})
_SEVERAL = "/v1/classify"
_GET = ("GET", "HEAD", "OPTIONS")
_OWN = frozenset({"/", "/livez", "/readyz", "/v1/targets"})
_PAGE_HEADERS: Headers = (
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
    (b"x-content-type-options", b"nosniff"),
)

_OPEN = frozenset({"/metrics", "/healthz"})
"""BentoML's paths that need no token."""


class HttpApplication:
    """Answers Cultivar's routes, and passes BentoML's to BentoML.

    Args:
        inference: returns the pipeline, or None while the process is still starting.
        admission: the limits on requests and bytes.
        authenticator: checks tokens.
        max_rows: inputs of one request.
        bentoml: BentoML's application, if there is one. It gets its own operations, its pages and what is not HTTP.
            Other paths never reach it: it would keep a metric for every path that anyone tries.
    """

    def __init__(
        self,
        inference: Callable[[], InferencePipeline | None],
        admission: Admission,
        authenticator: Authenticator,
        max_rows: int,
        bentoml: Application | None = None,
    ) -> None:
        self._inference = inference
        self._admission = admission
        self._authenticator = authenticator
        self._operations = Operations(inference, admission, authenticator)
        self._bentoml = bentoml
        self._bento_operations: BentoOperations | None = None
        self._bento_pages: BentoPages | None = None
        if bentoml is not None:
            self._bento_operations = BentoOperations(bentoml, inference, admission, authenticator, max_rows)
            self._bento_pages = BentoPages(bentoml)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] != "http":
            if self._bentoml is not None:
                await self._bentoml(scope, receive, send)
            return
        path: str = scope["path"]
        parts = path.split("/")
        if len(parts) == 4 and parts[1] == "v1" and parts[2] in _OPERATIONS and parts[3]:
            await self._operations.answer(scope, receive, send, parts[2], parts[3])
        elif path == _SEVERAL:
            await self._operations.answer(scope, receive, send, metrics.CLASSIFY, None)
        elif self._bento_operations is not None and path in bento_operations.OPERATIONS:
            await self._bento_operations.answer(scope, receive, send)
        elif self._bento_pages is not None and path in PATHS:
            await self._page(self._bento_pages, scope, send)
        else:
            await send_reply(scope, send, self._describe(scope, path))

    async def _page(self, pages: BentoPages, scope: Scope, send: Send) -> None:
        """Answer with one of BentoML's pages, if the token permits."""
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
        await send_reply(scope, send, reply)

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
