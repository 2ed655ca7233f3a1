"""What a server counts, for Prometheus.

Labels are bounded sets: targets, versions and roots that are served, and fixed words; never a
path or anything else that a client sends. Several workers share one folder of files, which
``/metrics`` adds up.
"""

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram, multiprocess

CLASSIFY = "classify"
EMBED = "embed"

UNKNOWN = "unknown"
"""The label of targets that are not served."""

OK = "ok"
CLIENT_ERROR = "client_error"
REJECTED = "rejected"
UNAVAILABLE = "unavailable"
DEADLINE = "deadline"
SERVER_ERROR = "server_error"
ABANDONED = "abandoned"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

REQUESTS = Counter(
    "cultivar_requests_total", "Requests answered, by outcome.", ["target", "operation", "outcome"]
)
REQUEST_SECONDS = Histogram(
    "cultivar_request_seconds",
    "Seconds from a request's first byte to its answer.",
    ["target", "operation"],
    buckets=_SECONDS,
)
PHASE_SECONDS = Histogram(
    "cultivar_phase_seconds",
    "Seconds by phase: decode, queue (waiting), trunk (a batch's whole run), encode.",
    ["phase"],
    buckets=_SECONDS,
)
BATCH_ROWS = Histogram("cultivar_batch_rows", "Rows of a batch, by root segment.", ["trunk"], buckets=_ROWS)
QUEUE_ROWS = Gauge(
    "cultivar_queue_rows", "Rows that wait, by root segment.", ["trunk"], multiprocess_mode="livesum"
)
REJECTED_TOTAL = Counter("cultivar_rejected_total", "Requests refused under load, by limit.", ["reason"])
SWAPS = Counter(
    "cultivar_swaps_total", "Changes of what is served: swapped, refused, withdrawn.", ["outcome"]
)
LOADED = Gauge(
    "cultivar_loaded",
    "Workers that have a version loaded.",
    ["target", "version", "provider"],
    multiprocess_mode="livesum",
)

DECODE_SECONDS = PHASE_SECONDS.labels("decode")
QUEUE_SECONDS = PHASE_SECONDS.labels("queue")
TRUNK_SECONDS = PHASE_SECONDS.labels("trunk")
ENCODE_SECONDS = PHASE_SECONDS.labels("encode")


@lru_cache(maxsize=4096)
def requests(target: str, operation: str, outcome: str) -> Counter:
    """Return the counter of one outcome; targets are those served, or ``unknown``."""
    return REQUESTS.labels(target, operation, outcome)


@lru_cache(maxsize=1024)
def request_seconds(target: str, operation: str) -> Histogram:
    """Return the durations of one operation on one target."""
    return REQUEST_SECONDS.labels(target, operation)


@lru_cache(maxsize=1024)
def _batch_rows(root: str) -> Histogram:
    return BATCH_ROWS.labels(root)


@lru_cache(maxsize=1024)
def _queue_rows(root: str) -> Gauge:
    return QUEUE_ROWS.labels(root)


class EngineMetrics:
    """Writes down what the engine does."""

    def batch(self, root: str, rows: int, waits_s: Sequence[float], run_s: float) -> None:
        """Count a batch."""
        _batch_rows(root).observe(rows)
        TRUNK_SECONDS.observe(run_s)
        for wait_s in waits_s:
            QUEUE_SECONDS.observe(wait_s)

    def queued(self, root: str, rows: int) -> None:
        """Note how many rows wait."""
        _queue_rows(root).set(rows)


def bury_dead_workers() -> None:
    """Take the gauges of workers that were killed out of the sums."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is None:
        return
    for path in Path(folder).glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            multiprocess.mark_process_dead(int(pid))  # type: ignore[no-untyped-call]
