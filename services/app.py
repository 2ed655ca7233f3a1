"""The BentoML service: packaging, supervision, docs and typed clients around our own HTTP application.

The hot path does not go through BentoML's middleware: the service class hands BentoML's own
application to ``Hot``, which stands in front of it. ``to_asgi`` is not a public method, so
BentoML is pinned, and with ``CULTIVAR_SERVE_FRONT=mount`` the same application is mounted behind
the middleware by public means.
"""

# BentoML is not typed for strict checking; this is the one module that imports it.
# mypy: disable-error-code="misc, untyped-decorator, no-any-return"

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, TypeVar

import bentoml
from _bentoml_sdk.service import Service
from annotated_types import Ge
from bentoml.exceptions import BentoMLException
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from registry.errors import CultivarError
from registry.settings import Settings
from registry.tokens import CLASSIFY, EMBED
from services import metrics
from services.admission import Receive
from services.answers import DEFAULT_TOP_K
from services.deployment import Selector
from services.errors import TargetUnavailable, problem_of
from services.hot import GUARDED, Application, Scope, Send
from services.inference import Inference, Urgency
from services.opened import Opened
from services.protocols.native import Inputs, read_document
from services.settings import OVERRIDE, ServeSettings
from services.supervision import supervise
from services.tokens import check, hand_on, pick
from services.worker import Worker

SETTINGS = ServeSettings.read()
WORKER = Worker(SETTINGS, Settings.read())

_T = TypeVar("_T")


class HotService(Service[Any]):
    """A BentoML service that answers Cultivar's routes in front of BentoML's middleware."""

    def to_asgi(self, is_main: bool = True) -> Application:
        """Return BentoML's application with ours in front."""
        application = super().to_asgi(is_main=is_main)
        return WORKER.front(application, own_paths(application))


class DoorFirst:
    """Answers health in front of BentoML's own routes, which say less, and keeps the door to its operations.

    The mount's middleware.
    """

    _PATHS = frozenset({"/livez", "/readyz", *GUARDED})

    def __init__(self, app: Application) -> None:
        self._app = app
        self._front = WORKER.front(app, frozenset(GUARDED))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        hand_on(None)
        ours = scope["type"] == "http" and scope["path"] in self._PATHS
        if scope["type"] == "http" and scope["path"] == "/metrics":
            metrics.settle()
        await (self._front if ours else self._app)(scope, receive, send)


def own_paths(application: Starlette) -> frozenset[str]:
    """Return every path that BentoML's application answers."""
    paths = set()
    for route in application.router.routes:
        if isinstance(route, Route):
            paths.add(route.path)
        elif isinstance(route, Mount) and isinstance(route.app, StaticFiles) and route.app.directory:
            folder = Path(route.app.directory)
            paths |= {f"{route.path}/{file.relative_to(folder).as_posix()}" for file in folder.rglob("*")}
    return frozenset(paths)


class Refused(BentoMLException):
    """An error of the table, as BentoML's clients see it."""

    def __init__(self, error: CultivarError) -> None:
        super().__init__(str(error))
        self.error_code = HTTPStatus(problem_of(error).status)


class Cultivar:
    """Classify inputs and embed them with the versions that a registry has in production.

    ``POST /v1/classify/{target}`` and ``POST /v1/embed/{target}`` do the same faster, and take pictures
    as they are.
    """

    def __is_ready__(self) -> bool:
        return WORKER.ready

    @bentoml.on_deployment
    def supervise() -> None:
        """Prepare the process above the workers."""
        supervise(SETTINGS.patience_s)

    @bentoml.on_startup
    async def start(self) -> None:
        """Begin to follow the registry."""
        # Nobody sees these lines at BentoML's level, and yet uvicorn would gather what goes into them.
        logging.getLogger("uvicorn.access").propagate = False
        await WORKER.start()

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Finish the work under way."""
        await WORKER.stop()

    @bentoml.api
    async def classify(
        self,
        target: str,
        images: list[str] | None = None,
        texts: list[str | list[str]] | None = None,
        top_k: Annotated[int, Ge(1)] = DEFAULT_TOP_K,
    ) -> dict[str, Any]:
        """Return the best labels for each input, in order.

        Images are whole files in base64; a text is a string, or a list of two for models of pairs.
        """

        async def run(inference: Inference, opened: Opened, inputs: Inputs) -> dict[str, Any]:
            rankings = await inference.classify(opened, inputs, top_k, self._urgency())
            results = [
                {"labels": [{"label": label, "score": score} for label, score in ranking]}
                for ranking in rankings
            ]
            identity = opened.identity
            return {**identity.to_json(), "labels_digest": identity.labels_digest, "results": results}

        return await _answer(CLASSIFY, target, images, texts, run)

    @bentoml.api
    async def embed(
        self,
        target: str,
        images: list[str] | None = None,
        texts: list[str | list[str]] | None = None,
    ) -> dict[str, Any]:
        """Return a feature vector for each input, in order.

        Images are whole files in base64; a text is a string, or a list of two for models of pairs.
        """

        async def run(inference: Inference, opened: Opened, inputs: Inputs) -> dict[str, Any]:
            features = await inference.embed(opened, inputs, self._urgency())
            return {**opened.identity.to_json(), "dim": features.shape[1], "embeddings": features.tolist()}

        return await _answer(EMBED, target, images, texts, run)

    @staticmethod
    def _urgency() -> Urgency:
        return Urgency(perf_counter() + SETTINGS.deadline_s)


async def _answer(
    operation: str,
    target: str,
    images: list[str] | None,
    texts: list[str | list[str]] | None,
    run: Callable[[Inference, Opened, Inputs], Awaitable[_T]],
) -> _T:
    given = {name: items for name, items in (("images", images), ("texts", texts)) if items is not None}
    try:
        grant = WORKER.doorkeeper.admitted()
        check(grant, operation, (target,))
        if WORKER.inference is None:
            raise TargetUnavailable("the server is still starting")
        inputs = read_document(given, SETTINGS.max_rows)
        opened = pick(WORKER.inference.snapshot, grant, target, Selector())
        return await run(WORKER.inference, opened, inputs)
    except CultivarError as error:
        raise Refused(error) from error


def build(front: str) -> Service[Any]:
    """Return the service with our application in front (``override``) or mounted (``mount``)."""
    service = bentoml.service(
        Cultivar,
        service_class=HotService if front == OVERRIDE else Service,
        name="cultivar",
        workers=SETTINGS.workers,
        traffic={"timeout": SETTINGS.deadline_s + 5},
        logging={"access": {"enabled": False}},
        metrics={"duration": {"buckets": [0.001, 0.01, 0.1, 1.0, 10.0]}},
        tracing={"excluded_urls": ".*"},
    )
    if front != OVERRIDE:
        service.mount_asgi_app(WORKER.front(), path="/v1", name="cultivar")
        service.add_asgi_middleware(DoorFirst)
    return service


service = build(SETTINGS.front)
