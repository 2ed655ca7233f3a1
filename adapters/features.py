"""Features of items at any boundary between stages: computed once, in batches, in eval mode."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from adapters.datasets.dataset import Dataset
from adapters.progress import Progress
from adapters.sources.stages import Stages
from adapters.sources.weights import stage_weights_digest
from registry.digests import Digest

BATCH_ROWS = 32
MEMORY_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class FeatureKey:
    """What features depend on, apart from the items.

    Attributes:
        weights: weights digest of every stage that ran, from the input on.
        recipe: digest of the recipe that prepared the rows.
        provider: what computed them: equal weights differ in the last bits from one to another.
    """

    weights: tuple[Digest, ...]
    recipe: Digest
    provider: str


class FeatureStore(ABC):
    """Where features already computed are kept, found again by item content."""

    @abstractmethod
    def get(self, key: FeatureKey, items: Sequence[Digest]) -> Mapping[Digest, np.ndarray]:
        """Return what there is: for some of the items a row, float32, without batch dimension."""

    @abstractmethod
    def put(self, key: FeatureKey, items: Sequence[Digest], rows: np.ndarray) -> None:
        """Keep rows, float32 [N, ...], one for each item."""


class MemoryStore(FeatureStore):
    """Features of this process, up to a number of bytes; the oldest go first."""

    def __init__(self, max_bytes: int = MEMORY_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._rows: OrderedDict[tuple[FeatureKey, Digest], np.ndarray] = OrderedDict()

    def get(self, key: FeatureKey, items: Sequence[Digest]) -> Mapping[Digest, np.ndarray]:
        """Return the rows that are still in memory."""
        return {item: self._rows[key, item] for item in items if (key, item) in self._rows}

    def put(self, key: FeatureKey, items: Sequence[Digest], rows: np.ndarray) -> None:
        """Keep rows, and forget the oldest where they are too many."""
        if rows.nbytes > self._max_bytes:
            return
        for item, row in zip(items, rows, strict=True):
            if (key, item) not in self._rows:
                self._rows[key, item] = row
                self._bytes += row.nbytes
        while self._bytes > self._max_bytes:
            self._bytes -= self._rows.popitem(last=False)[1].nbytes


def compute(
    stages: Stages,
    stop: int,
    dataset: Dataset,
    index: np.ndarray,
    *,
    device: torch.device,
    store: FeatureStore,
    progress: Progress,
) -> np.ndarray:
    """Return what the first ``stop`` stages leave for the items at these positions, float32 [N, ...].

    The stages are in eval mode and on the CPU afterwards.

    Args:
        stages: the network.
        stop: how many stages to run, at least 1.
        dataset: whose rows to run them on.
        index: positions in the dataset's items, at least one.
        device: where to run.
        store: rows that are in there already are not computed again.
        progress: who watches.
    """
    weights = tuple(stage_weights_digest(stages, k) for k in range(stop))
    key = FeatureKey(weights, dataset.recipe.digest, f"torch-{torch.__version__}-{device.type}")
    digests = [dataset.items[at].digest for at in index]
    rows = dict(store.get(key, digests))
    missing = np.array(
        [at for at, digest in zip(index, digests, strict=True) if digest not in rows], np.int64
    )
    if len(missing):
        fresh = _run(stages, stop, dataset.pixels, missing, device, progress)
        new = [dataset.items[at].digest for at in missing]
        store.put(key, new, fresh)
        if not rows:
            return fresh
        rows |= dict(zip(new, fresh, strict=True))
    return np.stack([rows[digest] for digest in digests])


@torch.no_grad()
def _run(
    stages: Stages, stop: int, pixels: np.ndarray, index: np.ndarray, device: torch.device, progress: Progress
) -> np.ndarray:
    found: np.ndarray | None = None
    stages.train(False).to(device)
    try:
        with progress.step("features", len(index)) as step:
            for start in range(0, len(index), BATCH_ROWS):
                batch = torch.from_numpy(pixels[index[start : start + BATCH_ROWS]]).to(device)
                left = stages.run(batch, stop=stop).cpu().numpy()
                if found is None:
                    found = np.empty((len(index), *left.shape[1:]), np.float32)
                found[start : start + len(left)] = left
                step.advance(len(left))
    finally:
        stages.to("cpu")
    assert found is not None, "callers ask for at least one row"
    return found
