"""The inputs that all techniques share: seed, device, store and progress."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from adapters import calibration, features, heads
from adapters.datasets.dataset import VALIDATION, Dataset
from adapters.datasets.rows import PreparedRows
from adapters.sources.stages import Stages
from adapters.training import Callback
from registry.cache import FeatureStore, MemoryStore
from registry.progress import SILENT, Progress


def best_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True, slots=True)
class Context:
    """The environment of a fit.

    Attributes:
        seed: the random seed; equal seeds give equal results on a CPU.
        device: the device of the networks.
        progress: shows the progress.
        store: the feature cache.
        callbacks: hooks into the training loop, in calling order.
        clock: returns the time in seconds, for measurements.
    """

    seed: int = 0
    device: torch.device = field(default_factory=best_device)
    progress: Progress = SILENT
    store: FeatureStore = field(default_factory=MemoryStore)
    callbacks: tuple[Callback, ...] = ()
    clock: Callable[[], float] = time.perf_counter

    def features(self, stages: Stages, dataset: Dataset, index: np.ndarray) -> np.ndarray:
        """Return features; see :func:`adapters.features.compute`."""
        return features.compute(
            stages, dataset, index, device=self.device, store=self.store, progress=self.progress
        )

    def solve(
        self,
        kind: heads.Kind,
        rows: np.ndarray,
        dataset: Dataset,
        index: np.ndarray,
        l2: float | None,
        calibrate: bool,
    ) -> heads.LinearHead:
        """Return the head of a kind that is best on the features of some items.

        Args:
            kind: see :func:`adapters.heads.fit`.
            rows: features of the items, float32 [N, D].
            dataset: their labels.
            index: which items, int64 [N].
            l2: the penalty; None chooses it.
            calibrate: scale the head to what a like one is worth on the validation part.
        """
        targets, labels = dataset.targets(index), len(dataset.labels)
        with self.progress.step(f"solving the head, {kind}"):
            head = heads.fit(kind, rows, targets, labels, l2=l2, seed=self.seed)
        if not calibrate:
            return head
        held = np.isin(index, dataset.index(VALIDATION))
        with self.progress.step("calibrating the head"):
            return head.sharpened(calibration.solved(kind, rows, targets, labels, head.l2, held))

    def taps(
        self, stages: Stages, boundaries: Sequence[int], dataset: Dataset, index: np.ndarray
    ) -> dict[int, np.ndarray]:
        """Return averaged tensors at several boundaries; see :func:`adapters.features.taps`."""
        return features.taps(
            stages, boundaries, dataset, index, device=self.device, store=self.store, progress=self.progress
        )

    def carry(self, stages: Stages, stop: int, dataset: Dataset, index: np.ndarray) -> PreparedRows:
        """Return rows for the stages above a boundary; see :func:`adapters.features.carry`."""
        return features.carry(
            stages, stop, dataset, index, device=self.device, store=self.store, progress=self.progress
        )
