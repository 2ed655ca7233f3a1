"""The inference pipeline: feature cache and engine, independent of the protocol."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from registry.digests import Digest
from registry.errors import InvalidInput
from registry.manifest import FEATURES
from registry.runtime import CUDA, usable_providers
from services import metrics
from services.deployment.identity import head_of, require_features
from services.deployment.loading import LoadedVersion
from services.deployment.snapshot import Snapshot
from services.deployment.watcher import DeploymentWatcher
from services.engine import Arrays, Engine, Preparation, QueueLimits, Route
from services.inference.feature_cache import FeatureCache, Key, keys_of
from services.inference.inputs import Inputs
from services.inference.preprocessing import InputLimits, RawInputs, Shared, load_plugins
from services.inference.ranking import Ranking, rank
from services.inference.request import InferenceRequest
from services.settings import ServeSettings

WORTH_REMEMBERING_S = 0.001
"""Features of a row that cost less are not cached: a lookup takes a tenth of that."""

MAX_HASHED_IN_LOOP_BYTES = 256 << 10
"""Larger inputs are hashed in a thread: 32 MiB would block the event loop for a tenth of a second."""

_Joint: TypeAlias = tuple[tuple[str, Route], ...]


class InferencePipeline:
    """Answers the requests of one process; created in the event loop that it serves.

    Args:
        settings: the server's settings.
        deployment: provides the snapshot of what is served.
        cores: cores that this process may use.
    """

    def __init__(self, settings: ServeSettings, deployment: DeploymentWatcher, cores: int) -> None:
        self.settings = settings
        self._deployment = deployment
        self._input_limits = InputLimits(
            settings.max_pixels, settings.max_characters, settings.max_request_pixels
        )
        load_plugins()
        gpu = usable_providers()[0] == CUDA
        self._engine = Engine(
            QueueLimits(
                settings.max_batch_rows,
                settings.max_batch_tokens,
                settings.max_queue_rows,
                settings.max_queue_tokens,
                settings.line_s or settings.deadline_s / 10,
            ),
            workers=settings.parallel_batches(cores, gpu=gpu),
            preparing=settings.decode_threads_of(cores, gpu=gpu),
            fill=gpu,
            observer=metrics.EngineMetrics(),
        )
        self._feature_cache = FeatureCache(settings.feature_cache_bytes)
        self._joint: dict[_Joint, Route] = {}

    @property
    def snapshot(self) -> Snapshot:
        """What is served now."""
        return self._deployment.snapshot

    async def classify(self, loaded: LoadedVersion, request: InferenceRequest, top_k: int) -> list[Ranking]:
        """Return the best labels for each input, in order.

        Args:
            loaded: the version that answers.
            request: the inputs, with deadline and priority.
            top_k: number of labels, at least 1.

        Raises:
            InvalidInput: an input cannot be prepared; there are no results.
            MissingOutput: the version has no head.
            Overloaded: the queue is full, or the wait too long.
            DeadlineExceeded: the deadline passed.
            RuntimeFailure: the version could not be run on these inputs.
        """
        head = loaded.head or head_of(loaded.manifest)
        return rank(head, await self._outputs(loaded, loaded.route, request), top_k)

    async def classify_all(
        self, targets: Mapping[str, LoadedVersion], request: InferenceRequest, top_k: int
    ) -> dict[str, list[Ranking]]:
        """Return the best labels by several targets; what they share is prepared and run once.

        Args:
            targets: the versions that answer, by the names of their answers.
            request: the inputs, with deadline and priority.
            top_k: number of labels, at least 1.

        Raises:
            InvalidInput: an input cannot be prepared for one of them; there are no results.
            MissingOutput: one of the versions has no head.
            Overloaded: a queue is full, or the wait too long.
            DeadlineExceeded: the deadline passed.
            RuntimeFailure: one of the versions could not be run on these inputs.
        """
        heads = {name: loaded.head or head_of(loaded.manifest) for name, loaded in targets.items()}
        groups: dict[tuple[str, str], dict[str, LoadedVersion]] = {}
        for name, loaded in targets.items():
            key = (loaded.manifest.recipe, loaded.route.steps[0].key)
            groups.setdefault(key, {})[name] = loaded
        prepared: _Prepared = {}
        tasks = [asyncio.ensure_future(self._group(group, request, prepared)) for group in groups.values()]
        try:
            outputs = {name: own for found in await asyncio.gather(*tasks) for name, own in found.items()}
        finally:
            for task in tasks:
                task.cancel()
        return {name: rank(heads[name], outputs[name], top_k) for name in targets}

    async def embed(self, loaded: LoadedVersion, request: InferenceRequest) -> np.ndarray:
        """Return a feature vector for each input, float32 [rows, dimension]; raises as ``classify`` does."""
        require_features(loaded.manifest)
        outputs = await self._outputs(loaded, loaded.route.towards(FEATURES), request)
        return outputs[FEATURES]

    def check_time(self, loaded: LoadedVersion, deadline: float) -> None:
        """Check that a request for a version can be answered in time, before any work is done for it.

        Raises:
            Overloaded: the rows ahead of it take too long.
        """
        self._engine.wait_estimate(loaded.route).check(1, deadline)

    def forget_all_but(self, snapshot: Snapshot) -> None:
        """Drop what belongs to sessions that are no longer served."""
        self._joint.clear()
        self._engine.forget({loaded.route.root for loaded in snapshot.loaded()})

    def close(self) -> None:
        """Stop the threads after their current work."""
        self._engine.close()

    async def _group(
        self, group: Mapping[str, LoadedVersion], request: InferenceRequest, prepared: "_Prepared"
    ) -> dict[str, Arrays]:
        """Return the outputs of versions that share recipe and root, by name."""
        routes = tuple((name, loaded.route) for name, loaded in group.items())
        route = self._joint.get(routes)
        if route is None:
            route = self._joint[routes] = Route.together(dict(routes))
        first = next(iter(group.values()))
        outputs = await self._outputs(first, route, request, prepared)
        return {name: {each: outputs[f"{name}/{each}"] for each in own.outputs} for name, own in routes}

    async def _outputs(
        self,
        loaded: LoadedVersion,
        route: Route,
        request: InferenceRequest,
        prepared: "_Prepared | None" = None,
    ) -> Arrays:
        inputs = request.inputs
        inputs.require(loaded.recipe.modality, self.settings.max_rows)
        keys = await self._keys(loaded, route, inputs)
        if keys is None:
            return await self._run(loaded, route, request, prepared)
        assert route.pivot is not None, "what has keys has features"
        found = [self._feature_cache.get(key) for key in keys]
        lacking = [index for index, row in enumerate(found) if row is None]
        for row in found:
            metrics.feature_cache(metrics.MISS if row is None else metrics.HIT)
        if not lacking:
            return route.after(np.stack([row for row in found if row is not None]))
        some = len(lacking) < len(keys)
        asked = replace(request, inputs=inputs.only(lacking)) if some else request
        try:
            outputs = await self._run(loaded, route, asked, None if some else prepared)
        except InvalidInput as error:
            if error.index is not None:
                error.index = lacking[error.index]
            raise
        for index, row in zip(lacking, outputs[route.pivot], strict=True):
            self._feature_cache.put(keys[index], row)
        if not some:
            return outputs
        known = route.after(np.stack([row for row in found if row is not None]))
        return {name: _interleaved(rows, known[name], lacking) for name, rows in outputs.items()}

    async def _keys(self, loaded: LoadedVersion, route: Route, inputs: Inputs) -> list[Key] | None:
        """Return the cache keys of the inputs' features, or None where caching is not worthwhile."""
        if not self.settings.feature_cache_bytes or route.pivot is None:
            return None
        if self._engine.row_seconds(route.root) < WORTH_REMEMBERING_S:
            return None
        segment = route.outputs[route.pivot]
        try:
            if inputs.size <= MAX_HASHED_IN_LOOP_BYTES:
                return keys_of(loaded, segment, inputs.contents())
            return await asyncio.to_thread(lambda: keys_of(loaded, segment, inputs.contents()))
        except InvalidInput:  # its preparation refuses it, with its index
            return None

    async def _run(
        self,
        loaded: LoadedVersion,
        route: Route,
        request: InferenceRequest,
        prepared: "_Prepared | None",
    ) -> Arrays:
        inputs = request.inputs
        with self._engine.wait_estimate(route).reserve(len(inputs), request.deadline):
            rows: Arrays | Preparation
            if inputs.array is not None:
                rows = {route.inputs[0].name: inputs.array}
            else:
                rows = self._preparation(loaded, inputs, prepared)
            return await self._engine.submit(route, rows, request.deadline, request.priority)

    def _preparation(
        self, loaded: LoadedVersion, inputs: Inputs, prepared: "_Prepared | None"
    ) -> Preparation:
        """Return the preparation of the inputs; several targets with the same recipe share it."""
        if prepared is None:
            return self._raw(loaded, inputs)
        recipe = loaded.manifest.recipe
        if recipe not in prepared:
            prepared[recipe] = Shared(self._raw(loaded, inputs))
        return prepared[recipe]

    def _raw(self, loaded: LoadedVersion, inputs: Inputs) -> RawInputs:
        return RawInputs(loaded.recipe, inputs.items, self._input_limits, metrics.DECODE_SECONDS.observe)


_Prepared: TypeAlias = dict[Digest, Preparation]
"""The preparations of one request's inputs, by recipe."""


def _interleaved(rows: np.ndarray, known: np.ndarray, places: Sequence[int]) -> np.ndarray:
    """Return new rows at their places, and known rows at the other places, in order."""
    whole = np.empty((len(rows) + len(known), *rows.shape[1:]), rows.dtype)
    others = np.ones(len(whole), bool)
    others[list(places)] = False
    whole[list(places)] = rows
    whole[others] = known
    return whole
