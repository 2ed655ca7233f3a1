"""The operations that BentoML declares: they take inputs in one JSON document and answer with another.

They are apart from ``services.app``, which calls them, as processes that are not workers import it too.
"""

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, TypeAlias

from starlette.responses import Response

from registry.errors import CultivarError
from registry.tokens import CLASSIFY, EMBED
from services.api import bento_body
from services.api.auth import check, pick
from services.api.codec import read_document
from services.api.reply import refusal
from services.deployment.loading import LoadedVersion
from services.deployment.snapshot import ANY
from services.errors import TargetUnavailable
from services.inference.pipeline import InferencePipeline
from services.inference.ranking import results_of
from services.inference.request import InferenceRequest
from services.process.worker import ServerWorker

Answer: TypeAlias = Any
"""A JSON object that BentoML writes, or a refusal as a Starlette response, which it sends unchanged."""


async def classify(
    worker: ServerWorker,
    target: str,
    images: list[str] | None,
    texts: list[str | list[str]] | None,
    top_k: int,
) -> Answer:
    """Return the best labels for each input, in order."""

    async def run(
        inference: InferencePipeline, loaded: LoadedVersion, request: InferenceRequest
    ) -> dict[str, Any]:
        rankings = await inference.classify(loaded, request, top_k)
        identity = loaded.identity
        return {
            **identity.to_json(),
            "labels_digest": identity.labels_digest,
            "results": results_of(rankings),
        }

    return await _answer(worker, CLASSIFY, target, images, texts, run)


async def embed(
    worker: ServerWorker, target: str, images: list[str] | None, texts: list[str | list[str]] | None
) -> Answer:
    """Return a feature vector for each input, in order."""

    async def run(
        inference: InferencePipeline, loaded: LoadedVersion, request: InferenceRequest
    ) -> dict[str, Any]:
        features = await inference.embed(loaded, request)
        return {**loaded.identity.to_json(), "dim": features.shape[1], "embeddings": features.tolist()}

    return await _answer(worker, EMBED, target, images, texts, run)


async def _answer(
    worker: ServerWorker,
    operation: str,
    target: str,
    images: list[str] | None,
    texts: list[str | list[str]] | None,
    run: Callable[[InferencePipeline, LoadedVersion, InferenceRequest], Awaitable[dict[str, Any]]],
) -> Answer:
    try:
        inputs = bento_body.take_inputs()
        if inputs is None:
            given = {
                name: items for name, items in (("images", images), ("texts", texts)) if items is not None
            }
            inputs = read_document(given, worker.settings.max_rows)
        grant = worker.authenticator.current_grant()
        check(grant, operation, (target,))
        if worker.inference is None:
            raise TargetUnavailable("the server is still starting")
        loaded = pick(worker.inference.snapshot, grant, target, ANY)
        deadline = perf_counter() + worker.settings.deadline_s
        return await run(worker.inference, loaded, InferenceRequest(inputs, deadline))
    except CultivarError as error:
        reply = refusal(error, operation)
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reply.headers}
    return Response(reply.body, reply.status, headers, reply.content_type.decode())
