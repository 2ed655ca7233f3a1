"""The metrics: their names and labels in Prometheus, and the fixed label values.

Label values are bounded sets: served targets, versions and roots, and fixed words; never a path or anything else that
a client sends. Several workers share one folder of files, which ``/metrics`` sums up.
"""

from prometheus_client import Counter, Gauge, Histogram

from services.metrics.files import reserve

CLASSIFY = "classify"
EMBED = "embed"

UNKNOWN = "unknown"
"""The label of targets that are not served."""

OK = "ok"
ABANDONED = "abandoned"

HIT = "hit"
MISS = "miss"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

# Metrics open their files when they are created.
reserve()

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
    "Seconds by phase: decode, queue (waiting), trunk (a batch's run), head (its linear heads), encode.",
    ["phase"],
    buckets=_SECONDS,
)
BATCH_ROWS = Histogram("cultivar_batch_rows", "Rows of a batch, by root segment.", ["trunk"], buckets=_ROWS)
QUEUE_ROWS = Gauge(
    "cultivar_queue_rows", "Queued rows, by root segment.", ["trunk"], multiprocess_mode="livesum"
)
REJECTED_TOTAL = Counter(
    "cultivar_rejected_total", "Requests refused by a limit or by authentication.", ["reason"]
)
SWAPS = Counter(
    "cultivar_swaps_total", "Changes of what is served: swapped, refused, withdrawn.", ["outcome"]
)
LOADED = Gauge(
    "cultivar_loaded",
    "Workers that have a version loaded.",
    ["target", "version", "provider"],
    multiprocess_mode="livesum",
)
REGISTRY_READ = Gauge(
    "cultivar_registry_read_timestamp_seconds",
    "Unix time at which every worker had last read the registry.",
    multiprocess_mode="livemin",
)
LOOP_STALL_SECONDS = Gauge(
    "cultivar_loop_stall_seconds",
    "The longest stall of a worker's event loop in the last minute.",
    multiprocess_mode="livemax",
)
FEATURE_CACHE = Counter(
    "cultivar_feature_cache_total",
    "Feature cache lookups: hit, miss.",
    ["outcome"],
)
