"""The BentoML service: packaging, supervision, docs and typed clients around our own HTTP application.

Cultivar's routes bypass BentoML's middleware: the service class passes BentoML's application to ``HttpApplication``,
which answers first. ``to_asgi`` is not a public method, so BentoML is pinned. With ``CULTIVAR_SERVE_FRONT=mount`` the
same application is mounted behind the middleware through public functions.
"""

# BentoML is not typed for strict checking; only this module imports it.
# mypy: disable-error-code="misc, untyped-decorator, no-any-return"

import logging
import os
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import bentoml
from _bentoml_sdk.service import Service
from annotated_types import Ge

from registry.settings import Settings
from services.process.gc_tuning import resting
from services.process.supervisor import supervise
from services.settings import DEFAULT_TOP_K, OVERRIDE, ServeSettings

if TYPE_CHECKING:
    from services.httpd.asgi import Application
    from services.process.worker import ServerWorker

SETTINGS = ServeSettings.read()
REGISTRY = Settings.read()


@cache
def worker() -> "ServerWorker":
    """Return the worker of this process, created on the first call.

    BentoML's supervisor imports this module too but is not a worker: it should neither wait for a worker's imports nor
    hold them.
    """
    with resting():
        from services.process.worker import ServerWorker

    return ServerWorker(SETTINGS, REGISTRY)


class OverridingService(Service[Any]):
    """A BentoML service that answers Cultivar's routes in front of BentoML's middleware."""

    def to_asgi(self, is_main: bool = True) -> "Application":
        """Return our application, which wraps BentoML's, and install our connections before uvicorn is created."""
        from services.httpd.connection import stand_in

        # uvicorn trusts forwarded addresses only from these; it reads the variable when it is created.
        os.environ["FORWARDED_ALLOW_IPS"] = ",".join(SETTINGS.trusted_proxies)
        stand_in(SETTINGS.limits)
        front = worker().front
        return front(super().to_asgi(is_main=is_main))


class Cultivar:
    """Classify and embed inputs with the versions that a registry has in production.

    ``POST /v1/classify/{target}`` and ``POST /v1/embed/{target}`` do the same faster, and take pictures as files.
    """

    def __is_ready__(self) -> bool:
        return worker().ready

    @bentoml.on_deployment
    def supervise() -> None:
        """Prepare the supervising process."""
        supervise(SETTINGS.patience_s, SETTINGS.silence_s)

    @bentoml.on_startup
    async def start(self) -> None:
        """Start to follow the registry."""
        # BentoML's log level hides these lines, but uvicorn would still format them.
        logging.getLogger("uvicorn.access").propagate = False
        await worker().start()

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Finish the current work."""
        await worker().stop()

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
        from services.bento import operations

        return await operations.classify(worker(), target, images, texts, top_k)

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
        from services.bento import operations

        return await operations.embed(worker(), target, images, texts)


def build(front: str) -> Service[Any]:
    """Return the service with our application in front (``override``) or mounted (``mount``)."""
    service = bentoml.service(
        Cultivar,
        service_class=OverridingService if front == OVERRIDE else Service,
        name="cultivar",
        workers=SETTINGS.workers,
        traffic={"timeout": SETTINGS.deadline_s + 5},
        logging={"access": {"enabled": False}},
        metrics={"duration": {"buckets": [0.001, 0.01, 0.1, 1.0, 10.0]}},
        tracing={"excluded_urls": ".*"},
    )
    if front != OVERRIDE:
        from services.bento.mount import MountMiddleware

        service.mount_asgi_app(worker().front(), path="/v1", name="cultivar")
        service.add_asgi_middleware(MountMiddleware, worker=worker())
    return service


service = build(SETTINGS.front)
