"""Checks before an adaptation: errors that can be found early are found before the first example is read."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adapters.datasets.loading import provider
from adapters.datasets.reading import MEMORY_BYTES
from adapters.sources.source import Source
from adapters.sources.stages import Stages
from registry.cache import DiskStore, FeatureStore
from registry.disk import Need, check_space
from registry.lifecycle import check_destination
from registry.names import check_task
from registry.registry import Registry

if TYPE_CHECKING:
    from adapters.adaptation import Order

_OVERHEAD = 4 << 20
"""Bytes of a version in addition to its weights: graphs, example lists, predictions, evidence."""


def check_order(order: "Order", registry: Registry) -> None:
    """Check an order's names, that its data exist, and that its registry is writable.

    Nothing is decoded or hashed.

    Raises:
        InvalidName: the target or the stage breaks the grammar.
        Conflict: the stage is ``candidate``.
        DatasetError: the order's path does not have data in a known format.
        StorageFailure: the registry cannot be written to.
    """
    check_task(order.target)
    if order.source_task is not None:
        check_task(order.source_task)
    if order.promote is not None:
        check_destination(order.promote)
    check_data(order.data, order.test, order.source)
    registry.check_writable()


def check_data(data: str, test: str | None, source: Source) -> None:
    """Check that data exist at a path, without listing them.

    Raises:
        DatasetError: nothing is there, or it has no known format.
    """
    for place in (data, test):
        if place is not None:
            provider(place, source.modality)


def space_check(
    source: Source, stages: Stages, frozen: bool, registry: Registry, store: FeatureStore
) -> Callable[[int], None]:
    """Return a check of the disk space for a number of examples, to be called before the first is read.

    The version needs the size of its weights, and as much again for their state if they are trained. The
    feature cache needs a row per example, up to its bound. Prepared examples over 1 GiB go to a temporary
    file.

    Args:
        source: the source.
        stages: its network.
        frozen: whether its weights do not change.
        registry: the registry for the version.
        store: the feature cache.
    """
    tensors = [*stages.stages.parameters(), *stages.stages.buffers()]
    weights = sum(tensor.nbytes for tensor in tensors)

    def check(items: int) -> None:
        needs = []
        if registry.blob_folder is not None:
            needs.append(
                Need("the version", registry.blob_folder, weights * (1 if frozen else 2) + _OVERHEAD)
            )
        if isinstance(store, DiskStore):
            rows = items * source.dimension * 4
            needs.append(Need("the feature cache", store.folder, min(rows, store.max_bytes)))
        prepared = items * sum(
            int(np.prod([size for size in spec.shape[1:] if isinstance(size, int)]))
            * np.dtype(spec.dtype).itemsize
            for spec in source.recipe.fields
        )
        if prepared > MEMORY_BYTES:
            needs.append(Need("prepared items", Path(tempfile.gettempdir()), prepared))
        check_space(needs)

    return check
