"""The functions by which the server records its metrics.

Requests and refusals are written at once, so that the metrics include every answer that a client got, even if the
worker is killed. Everything else is collected first.
"""

import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from prometheus_client import Counter, multiprocess

from services.metrics import names
from services.metrics.tally import Tallies, Tally, written_through

TALLIES = Tallies()


def _phase(name: str) -> Tally:
    return TALLIES.of_histogram(names.PHASE_SECONDS.labels(name))


DECODE_SECONDS = _phase("decode")
QUEUE_SECONDS = _phase("queue")
TRUNK_SECONDS = _phase("trunk")
HEAD_SECONDS = _phase("head")
ENCODE_SECONDS = _phase("encode")


def answered(target: str, operation: str, outcome: str, seconds: float) -> None:
    """Count a request, before its answer is sent; the target is a served one, or ``unknown``."""
    count, observe = _answered(target, operation, outcome)
    count()
    observe(seconds)


def rejected(reason: str) -> None:
    """Count a request that a limit refused."""
    _rejected(reason).inc()


def feature_cache(outcome: str) -> None:
    """Count a feature cache lookup: ``hit`` or ``miss``."""
    _feature_cache(outcome).observe(1)


class EngineMetrics:
    """Records what the engine does; called from its threads."""

    def batch(self, root: str, rows: int, waits_s: Sequence[float], run_s: float, heads_s: float) -> None:
        """Record a batch of one root: its rows, the wait of each piece, and the run time without and of the heads."""
        _batch_rows(root).observe(rows)
        TRUNK_SECONDS.observe(run_s)
        HEAD_SECONDS.observe(heads_s)
        for wait_s in waits_s:
            QUEUE_SECONDS.observe(wait_s)

    def queued(self, root: str, rows: int) -> None:
        """Record the number of queued rows."""
        _queue_rows(root).observe(rows)


def settle() -> None:
    """Update the files before they are summed up: flush this worker's, remove the gauges of dead workers."""
    TALLIES.flush()
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is None:
        return
    for path in Path(folder).glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        if pid.isdigit() and not _alive(int(pid)):
            multiprocess.mark_process_dead(int(pid))  # type: ignore[no-untyped-call]  # it has no types


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@cache
def _answered(
    target: str, operation: str, outcome: str
) -> tuple[Callable[[], None], Callable[[float], None]]:
    counter = names.REQUESTS.labels(target, operation, outcome)
    return written_through(counter), _request_seconds(target, operation).observe


@cache
def _request_seconds(target: str, operation: str) -> Tally:
    return TALLIES.of_histogram(names.REQUEST_SECONDS.labels(target, operation))


@cache
def _rejected(reason: str) -> Counter:
    return names.REJECTED_TOTAL.labels(reason)


@cache
def _feature_cache(outcome: str) -> Tally:
    return TALLIES.of_counter(names.FEATURE_CACHE.labels(outcome))


@cache
def _batch_rows(root: str) -> Tally:
    return TALLIES.of_histogram(names.BATCH_ROWS.labels(root))


@cache
def _queue_rows(root: str) -> Tally:
    return TALLIES.of_gauge(names.QUEUE_ROWS.labels(root))
