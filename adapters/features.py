"""Features of examples at any stage boundary: computed once, in batches, in eval mode."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from adapters.datasets.dataset import Dataset
from adapters.datasets.rows import CarriedRows, DenseRows, PreparedRows
from adapters.readout import MASK, layouts, readout
from adapters.sources.stages import CARRIED, Stages
from adapters.sources.weights import stage_weights_digest
from registry.cache import FeatureKey, FeatureStore, Found
from registry.progress import SILENT, Progress

BATCH_ROWS = 32


def compute(
    stages: Stages,
    dataset: Dataset,
    index: np.ndarray,
    *,
    device: torch.device,
    store: FeatureStore,
    progress: Progress,
) -> np.ndarray:
    """Return the network's features of the examples at these positions, float32 [N, D].

    The stages are in eval mode and on the CPU afterwards.

    Args:
        stages: the network.
        dataset: the dataset.
        index: positions in the dataset's items, at least one.
        device: the device to run on.
        store: the feature cache; cached rows are not computed again.
        progress: shows the progress.
    """
    whole = len(stages)
    return taps(stages, [whole], dataset, index, device=device, store=store, progress=progress)[whole]


def taps(
    stages: Stages,
    boundaries: Sequence[int],
    dataset: Dataset,
    index: np.ndarray,
    *,
    device: torch.device,
    store: FeatureStore,
    progress: Progress,
) -> dict[int, np.ndarray]:
    """Return the stages' outputs at several boundaries, averaged over positions or tokens, in one pass.

    The network runs once over the examples that lack any of them. Other arguments as in :func:`compute`.

    Args:
        stages: the network.
        boundaries: 1 to ``len(stages)``: ``b`` means the output of stage ``b - 1``.
        dataset: whose rows to run it on.
        index: positions in the dataset's items, at least one.
        device: the device to run on.
        store: the feature cache.
        progress: shows the progress.

    Returns:
        float32 [N, D of that stage] for each boundary.
    """
    wanted = sorted(set(boundaries))
    digests = [dataset.items[at].digest for at in index]
    keys = {boundary: _key(stages, boundary, dataset, device, "pooled") for boundary in wanted}
    found = {boundary: store.find(keys[boundary], digests) for boundary in wanted}
    absent = ~np.logical_and.reduce([each.mask for each in found.values()])
    missing = index[absent]
    fresh: dict[int, np.ndarray] = {}
    if len(missing):
        fresh = _pooled(stages, wanted, dataset.rows, missing, device, progress)
        new = [digest for digest, lacks in zip(digests, absent, strict=True) if lacks]
        for boundary in wanted:
            store.put(keys[boundary], new, fresh[boundary])
    return {boundary: _joined(found[boundary], absent, fresh.get(boundary)) for boundary in wanted}


def carry(
    stages: Stages,
    stop: int,
    dataset: Dataset,
    index: np.ndarray,
    *,
    device: torch.device,
    store: FeatureStore,
    progress: Progress,
) -> PreparedRows:
    """Return the training rows for the stages above the first ``stop``, one per example at these positions.

    Rows of one shape are cached in the store; a text's tokens are not. Arguments as in :func:`compute`.
    """
    if _is_ragged(stages, stop):
        below = dataset.rows.take(index)
        return CarriedRows(CARRIED, _ragged(stages, stop, below, device, progress), below, ragged=True)
    digests = [dataset.items[at].digest for at in index]
    key = _key(stages, stop, dataset, device, "carried")
    found = store.find(key, digests)
    missing = index[~found.mask]
    fresh = None
    if len(missing):
        fresh = _dense(stages, stop, dataset.rows, missing, device, progress)
        store.put(key, [digest for digest, has in zip(digests, found.mask, strict=True) if not has], fresh)
    rows = _joined(found, ~found.mask, fresh)
    if any(stages.sides[stop:]):
        return CarriedRows(CARRIED, list(rows), dataset.rows.take(index), ragged=False)
    return DenseRows({CARRIED: rows})


def carried_bytes(stages: Stages, stop: int, dataset: Dataset, index: np.ndarray) -> int:
    """Estimate the memory that the rows of :func:`carry` would take, from the first example."""
    one = _dense(stages, stop, dataset.rows, index[:1], torch.device("cpu"), SILENT)
    return int(one.nbytes) * len(index)


def batches(rows: PreparedRows, index: np.ndarray, size: int = BATCH_ROWS) -> Iterator[np.ndarray]:
    """Yield positions in ``index`` in batches of rows with similar lengths, to reduce padding."""
    order = np.argsort(rows.lengths(index), kind="stable")
    for start in range(0, len(index), size):
        yield order[start : start + size]


def tensors(fields: Mapping[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
    """Return a batch's fields as tensors on a device."""
    return {name: torch.from_numpy(np.ascontiguousarray(array)).to(device) for name, array in fields.items()}


def _key(stages: Stages, stop: int, dataset: Dataset, device: torch.device, view: str) -> FeatureKey:
    weights = tuple(stage_weights_digest(stages, k) for k in range(stop))
    return FeatureKey(weights, dataset.recipe.digest, f"torch-{torch.__version__}-{device.type}", view)


@torch.no_grad()
def _run(
    stages: Stages,
    boundaries: Sequence[int],
    rows: PreparedRows,
    index: np.ndarray,
    device: torch.device,
    progress: Progress,
) -> Iterator[tuple[np.ndarray, dict[str, Tensor], dict[int, Tensor]]]:
    """Yield for each batch its positions in ``index``, its fields, and the outputs at the boundaries."""
    stages.train(False).to(device)
    try:
        with progress.step("features", len(index)) as step:
            for places in batches(rows, index):
                fields = tensors(rows.batch(index[places]), device)
                value, start = fields[stages.entry], 0
                left: dict[int, Tensor] = {}
                for stop in boundaries:
                    value = stages.run(value, start, stop, sides=fields)
                    left[stop], start = value, stop
                yield places, fields, left
                step.advance(len(places))
    finally:
        stages.to("cpu")


def _pooled(
    stages: Stages,
    boundaries: Sequence[int],
    rows: PreparedRows,
    index: np.ndarray,
    device: torch.device,
    progress: Progress,
) -> dict[int, np.ndarray]:
    pools = {boundary: readout(stages, [boundary]) for boundary in boundaries}
    found: dict[int, np.ndarray] = {}
    for places, fields, left in _run(stages, boundaries, rows, index, device, progress):
        for boundary, value in left.items():
            sides = (fields[MASK],) if pools[boundary].masked else ()
            means = pools[boundary](value, *sides).float().cpu().numpy()
            kept = found.setdefault(boundary, np.empty((len(index), *means.shape[1:]), np.float32))
            kept[places] = means
    return found


def _dense(
    stages: Stages, stop: int, rows: PreparedRows, index: np.ndarray, device: torch.device, progress: Progress
) -> np.ndarray:
    kept: np.ndarray | None = None
    for places, _, left in _run(stages, [stop], rows, index, device, progress):
        values = left[stop].cpu().numpy()
        if kept is None:
            kept = np.empty((len(index), *values.shape[1:]), np.float32)
        kept[places] = values
    assert kept is not None, "callers ask for at least one row"
    return kept


def _ragged(
    stages: Stages, stop: int, rows: PreparedRows, device: torch.device, progress: Progress
) -> list[np.ndarray]:
    everything = np.arange(len(rows))
    lengths = rows.lengths(everything)
    kept: list[np.ndarray] = [np.zeros(0, np.float32)] * len(rows)
    for places, _, left in _run(stages, [stop], rows, everything, device, progress):
        for place, row in zip(places, left[stop].cpu().numpy(), strict=True):
            kept[place] = row[: lengths[place]].copy()
    return kept


def _is_ragged(stages: Stages, stop: int) -> bool:
    """Tell whether a stage's output is as long as its text."""
    return any("seq" in spec.shape for spec in stages.inputs) and layouts(stages)[stop - 1] == "tokens"


def _joined(found: Found, computed: np.ndarray, fresh: np.ndarray | None) -> np.ndarray:
    """Merge cached and newly computed rows in order."""
    if fresh is None:
        return found.rows
    if computed.all():
        return fresh
    rows = np.empty((len(computed), *fresh.shape[1:]), np.float32)
    rows[found.mask] = found.rows
    rows[computed] = fresh
    return rows
