"""Records of requests that never were."""

import numpy as np

from benchmarks.openloop import Records


def records(
    due: np.ndarray,
    took_s: np.ndarray,
    edges: list[float],
    *,
    status: np.ndarray | None = None,
    ref: np.ndarray | None = None,
    label: np.ndarray | None = None,
    problem: np.ndarray | None = None,
    names: tuple[str, ...] = (),
) -> Records:
    """Make records of requests that were sent when they were due, in the phases between edges."""
    count = len(due)
    return Records(
        due=due,
        sent=due,
        ended=due + took_s,
        status=np.full(count, 200, np.int16) if status is None else status,
        phase=(np.searchsorted(edges, due, side="right") - 1).astype(np.int16),
        number=np.arange(count, dtype=np.int32),
        ref=np.full(count, -1, np.int16) if ref is None else ref,
        label=np.full(count, -1, np.int16) if label is None else label,
        retry=np.zeros(count, bool),
        problem=np.full(count, -1, np.int16) if problem is None else problem,
        names=names,
        edges=np.array(edges),
        generator_s=np.zeros(len(edges) - 1),
    )
