"""Classify and embed without a server: the same recipe, model and answers, in batches."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from registry.cache import FeatureKey, FeatureStore, MemoryStore
from registry.digests import Digest
from registry.errors import InvalidInput
from registry.manifest import FEATURES
from registry.recipe import Prepared, Raw, content
from registry.registry import Registry
from registry.runtime import VERSION, cpu_quota
from services.commands.input_files import Input
from services.deployment.identity import AnswerIdentity, head_of, require_features
from services.deployment.loading import open_alone
from services.engine import Arrays, Route
from services.engine.batch import compute
from services.inference.preprocessing import InputLimits, prepare_input
from services.inference.ranking import Ranking, rank

BATCH_ROWS = 32

_LOOKED_UP = 256
"""Inputs per cache lookup."""

Advance = Callable[[int], None]
"""Called with the number of inputs finished since the last call."""


class OfflineModel:
    """A version opened in this process.

    Args:
        registry: its registry.
        ref: its ref; a bare target means production.
        store: the feature cache; None keeps no features.

    Raises:
        NotFound: the ref names no version.
        IntegrityError: the version's bytes are missing or damaged.
    """

    def __init__(self, registry: Registry, ref: str, store: FeatureStore | None = None) -> None:
        self._opened = open_alone(registry, registry.resolve(ref))
        self._store = store or MemoryStore(0)

    @property
    def identity(self) -> AnswerIdentity:
        """The identity of the version."""
        return self._opened.identity

    @property
    def modality(self) -> str:
        """The modality of its inputs: ``image`` or ``text``."""
        return self._opened.recipe.modality

    @property
    def dimension(self) -> int:
        """Length of a feature vector.

        Raises:
            MissingOutput: the version has no features.
        """
        require_features(self._opened.manifest)
        space = self._opened.manifest.space
        return 0 if space is None else space.dimension

    def classify(self, inputs: Sequence[Input], top_k: int, advance: Advance) -> list[Ranking]:
        """Return the best labels for each input, in order.

        Raises:
            InvalidInput: an input cannot be prepared; the message names it.
            MissingOutput: the version has no head.
        """
        head = head_of(self._opened.manifest)
        return [
            ranking
            for outputs in self._run(self._opened.route, inputs, advance)
            for ranking in rank(head, outputs, top_k)
        ]

    def embed(self, inputs: Sequence[Input], advance: Advance) -> Iterator[np.ndarray]:
        """Yield the feature vectors of the inputs, in order, float32 [rows, dimension] at a time.

        Inputs with the same content that this version, or another of its space, embedded before on the same provider
        are not run again.

        Raises:
            InvalidInput: an input cannot be prepared; the message names it.
            MissingOutput: the version has no features.
        """
        require_features(self._opened.manifest)
        key = self._feature_key()
        for start in range(0, len(inputs), _LOOKED_UP):
            contents = [_load(each) for each in inputs[start : start + _LOOKED_UP]]
            digests = [each.digest for each in contents]
            found = self._store.find(key, digests)
            rows = np.empty((len(contents), self.dimension), np.float32)
            if found.mask.any():
                rows[found.mask] = found.rows
                advance(int(found.mask.sum()))
            missing = np.flatnonzero(~found.mask)
            if len(missing):
                route = self._opened.route.towards(FEATURES)
                fresh = [
                    outputs[FEATURES]
                    for outputs in self._run(route, [contents[at] for at in missing], advance)
                ]
                rows[missing] = np.concatenate(fresh)
                self._store.put(key, [digests[at] for at in missing], rows[missing])
            yield rows

    def _feature_key(self) -> FeatureKey:
        """Return what this version's vectors depend on besides the inputs."""
        space = self._opened.manifest.space
        assert space is not None, "features and their space come together"
        provider = f"onnxruntime-{VERSION}-{self._opened.providers[0]}"
        return FeatureKey(space.weights, space.recipe, provider, f"{space.pooling} {space.normalisation}")

    def _run(self, route: Route, inputs: Sequence["Input | _Loaded"], advance: Advance) -> Iterator[Arrays]:
        """Run the inputs through a route, decoding one batch ahead."""
        batches = [inputs[start : start + BATCH_ROWS] for start in range(0, len(inputs), BATCH_ROWS)]
        with ThreadPoolExecutor(cpu_quota(), "decode") as pool:

            def decode(batch: Sequence[Input | _Loaded]) -> list[Future[Prepared]]:
                return [pool.submit(self._prepare, each) for each in batch]

            ahead = decode(batches[0]) if batches else []
            for number in range(len(batches)):
                current = ahead
                ahead = decode(batches[number + 1]) if number + 1 < len(batches) else []
                try:
                    rows = [future.result() for future in current]
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
                yield compute(route, self._opened.recipe.collate(rows))
                advance(len(rows))

    def _prepare(self, each: "Input | _Loaded") -> Prepared:
        with _located(each):
            return prepare_input(self._opened.recipe, each.read(), 0, InputLimits())


@dataclass(frozen=True, slots=True)
class _Loaded:
    """An input that is already read."""

    given: Input
    raw: Raw
    digest: Digest

    @property
    def origin(self) -> str:
        return self.given.origin

    def read(self) -> Raw:
        return self.raw


def _load(each: Input) -> _Loaded:
    with _located(each):
        raw = each.read()
        return _Loaded(each, raw, Digest.of(content(raw)))


@contextmanager
def _located(each: "Input | _Loaded") -> Iterator[None]:
    """Add the input's origin to the message of an error."""
    try:
        yield
    except InvalidInput as error:
        raise type(error)(f"{each.origin}: {error}") from error
