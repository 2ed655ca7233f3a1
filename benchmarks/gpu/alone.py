"""What one session does: whether it is right, how fast it is, and what float16 is worth."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
import onnx
import onnxruntime as ort

from benchmarks.gpu.device import lying_there, on_gpu, placed
from benchmarks.gpu.network import Network
from benchmarks.gpu.pace import Pace
from benchmarks.measurement import Measurement
from benchmarks.raw import measure
from benchmarks.rounds import Rounds, run_rounds
from benchmarks.spread import Spread
from benchmarks.table import table
from benchmarks.verdict import finite
from registry.manifest import FEATURES, LOGITS
from registry.runtime import CPU, CUDA, Session, Tensor, cpu_quota
from services.deployment.pinned_memory import PinnedBuffers

COMPARED_ROWS = 16
HOST, STAYS, LOCKED, THERE = (
    "host to host",
    "outputs stay",
    "inputs page-locked, outputs stay",
    "inputs there, outputs stay",
)
WAYS = (HOST, STAYS, LOCKED, THERE)
ONE, OWN = "one session for all sizes", "a session for each size"
FP32, FP16 = "float32", "float16"
IN_FLOAT32 = ("ReduceL2", "LpNormalization", "ReduceMean", "ReduceSum", "Pow", "Sqrt")
"""Operators that stay in float32: sums of squares leave float16's range, and norms are made of them
(microsoft/onnxconverter-common#323: ReduceMean gave NaN)."""

Part: TypeAlias = tuple[str, dict[str, object]]
"""A part's tables in Markdown, and all that was seen as JSON values."""


def what_is_there(networks: Sequence[Network], pace: Pace, seed: int) -> Part:
    """Compare what a session computes where it runs with the CPU provider, on the same pictures."""
    rows: dict[str, list[str]] = {}
    found: dict[str, object] = {}
    for network in networks:
        model, feeds = network.whole(), network.feeds(COMPARED_ROWS)
        session = Session(model, name=network.spec)
        here, there = session.run(feeds), Session(model, name=network.spec, providers=[CPU]).run(feeds)
        off = {name: deviation(there[name], here[name]) for name in (FEATURES, LOGITS)}
        same = float(np.mean(here[LOGITS].argmax(1) == there[LOGITS].argmax(1)))
        nodes = placed(model, feeds)
        counted = ", ".join(f"{count} {provider}" for provider, count in sorted(nodes.items()))
        rows[network.spec] = [
            session.providers[0],
            counted,
            *(f"{v:.1e}" for v in off.values()),
            f"{same:.3f}",
        ]
        found[network.spec] = {
            "providers": session.providers,
            "nodes": nodes,
            "off": {name: finite(value) for name, value in off.items()},
            "top1": same,
        }
    columns = ("session runs on", "nodes", "features off by", "logits off by", "same first label")
    return table("against the CPU provider", columns, rows), found


def buckets(networks: Sequence[Network], pace: Pace, seed: int) -> Part:
    """Measure every bucket in the ways that arrays can take to a session and back, and all buckets in turns.

    Every bucket has a session of its own, since a change of size is what is measured apart.
    """
    jobs: dict[str, Callable[[], Measurement]] = {}
    for network in networks:
        model = network.whole()
        own = {size: Session(model, name=network.spec) for size in pace.buckets}
        one = dict.fromkeys(pace.buckets, Session(model, name=network.spec))
        for size in pace.buckets:
            for way, step in _steps(own[size], network, size).items():
                jobs[f"{network.spec}, {size}, {way}"] = timed(step, size, pace.window_s)
        for sessions, of_whom in ((one, ONE), (own, OWN)):
            step = partial(_in_turns, sessions, network)
            jobs[f"{network.spec}, {of_whom}"] = timed(step, sum(pace.buckets), pace.window_s)
    results = run_rounds(jobs, pace.rounds, seed)
    turns = {}
    for network in networks:
        slow, fast = (results[f"{network.spec}, {of_whom}"] for of_whom in (ONE, OWN))
        turns[network.spec] = [show(slow), show(fast), over(fast, slow).show()]
    rows = {
        f"{network.spec}, {size}": [show(results[f"{network.spec}, {size}, {way}"]) for way in WAYS]
        for network in networks
        for size in pace.buckets
    }
    alike = table("network, rows of a run", [f"{way}: rows/s, ms" for way in WAYS], rows)
    columns = (f"{ONE}: rows/s, ms", f"{OWN}: rows/s, ms", "times as fast")
    return f"{alike}\n{table('every size once, in turns', columns, turns)}", to_json(results)


def half_precision(networks: Sequence[Network], pace: Pace, seed: int) -> Part:
    """Measure trunks in float16 beside float32: rates, and what becomes of features and first labels."""
    jobs: dict[str, Callable[[], Measurement]] = {}
    agreement: dict[str, list[str]] = {}
    found: dict[str, object] = {}
    for network in networks:
        model = network.features()
        models = {FP32: model, FP16: in_float16(model)}
        sessions = {(name, size): _opened(models[name]) for name in models for size in pace.few}
        features = {name: _all_features(sessions[name, pace.few[-1]], network, pace) for name in models}
        seen = agreed(features[FP32], features[FP16], network)
        agreement[network.spec] = [f"{value:.6f}" for value in seen.values()]
        found[network.spec] = {name: finite(value) for name, value in seen.items()}
        for (name, size), session in sessions.items():
            step = partial(session.run, [FEATURES], network.feeds(size))
            jobs[f"{network.spec}, {size}, {name}"] = timed(step, size, pace.window_s)
    results = run_rounds(jobs, pace.rounds, seed)
    rows = {}
    for network in networks:
        for size in pace.few:
            slow, fast = (results[f"{network.spec}, {size}, {name}"] for name in (FP32, FP16))
            rows[f"{network.spec}, {size}"] = [show(slow), show(fast), over(fast, slow).show()]
    rates = table(
        "trunk, rows of a run", ("float32: rows/s, ms", "float16: rows/s, ms", "times as fast"), rows
    )
    columns = ("smallest cosine", "smallest, means taken off", "same first label")
    return f"{rates}\n{table('float16 against float32', columns, agreement)}", {**found, **to_json(results)}


def in_float16(model: bytes) -> bytes:
    """Return a trunk that computes in float16, but takes and gives what it did.

    Heads are not part of it: they stay products of float32 arrays, as a server computes them.
    """
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    converted = convert_float_to_float16(
        onnx.load_from_string(model),
        keep_io_types=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *IN_FLOAT32],
    )
    return bytes(converted.SerializeToString())


def agreed(exact: np.ndarray, rounded: np.ndarray, network: Network) -> dict[str, float]:
    """Return how features agree, row by row, and the first labels of the network's head on them.

    Features of one network resemble one another, so cosines are near 1 anyhow; with the mean of all
    rows taken off they tell more. What is not a number makes all of it so.
    """
    head = network.linear()
    mean = exact.mean(0)
    first = [(features @ head.weight + head.bias).argmax(1) for features in (exact, rounded)]
    finite = 1.0 if np.isfinite(rounded).all() else float("nan")
    return {
        "cosine": finite * _smallest_cosine(exact, rounded),
        "centred_cosine": finite * _smallest_cosine(exact - mean, rounded - mean),
        "top1": finite * float(np.mean(first[0] == first[1])),
    }


def deviation(expected: np.ndarray, given: np.ndarray) -> float:
    """Return the largest difference over the larger of 1 and the largest expected value."""
    return float(np.abs(expected - given).max() / max(1.0, float(np.abs(expected).max())))


def timed(step: Callable[[], object], rows: int, seconds: float, lanes: int = 1) -> Callable[[], Measurement]:
    """Return what measures a step of some rows on some lanes; each lane is warmed at once.

    ONNX Runtime waits for the device at the end of every run, so a step's time is the whole of it.
    """

    def stepped(count: int) -> int:
        step()
        return rows

    lanes_of_it = [stepped] * lanes
    measure(lanes_of_it, 0.0)
    return partial(measure, lanes_of_it, seconds)


def over(ours: Sequence[Measurement], theirs: Sequence[Measurement]) -> Spread:
    """Return the ratio of two rates, round by round."""
    return Spread.of([a.rows_per_s / b.rows_per_s for a, b in zip(ours, theirs, strict=True)])


def show(several: Sequence[Measurement]) -> str:
    """Return rate and median time."""
    rate = Spread.of([each.rows_per_s for each in several])
    return f"{rate.show(1)}, {Spread.of([each.p50_ms for each in several]).median:.2f}"


def to_json(results: Rounds) -> dict[str, object]:
    """Return the JSON form of rounds."""
    return {name: [each.to_json() for each in several] for name, several in results.items()}


def _steps(session: Session, network: Network, rows: int) -> dict[str, Callable[[], object]]:
    feeds = network.feeds(rows)
    staging = PinnedBuffers()

    def staged() -> object:
        locked = {name: staging.stage(name, array, rows) for name, array in feeds.items()}
        return session.run_on_device(locked, rows)

    there: Mapping[str, Tensor] = {name: lying_there(array) for name, array in feeds.items()}
    return {
        HOST: partial(session.run, feeds),
        STAYS: partial(session.run_on_device, feeds, rows),
        LOCKED: staged,
        THERE: partial(session.run_on_device, there, rows),
    }


def _in_turns(sessions: Mapping[int, Session], network: Network) -> None:
    for size, session in sessions.items():
        session.run(network.feeds(size))


def _opened(model: bytes) -> ort.InferenceSession:
    """Open a model without the optimisations that are last and for the CPU's memory layout.

    ViT-B/16 in float16 ends the process in them (ONNX Runtime 1.31.1, CPU provider); nodes on CUDA need none of them.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = cpu_quota()
    options.log_severity_level = 4  # cuDNN says of every plan that it does not have that it has none
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    providers = [(CUDA, {"use_tf32": "0"}), CPU] if on_gpu() else [CPU]
    return ort.InferenceSession(model, options, providers=providers)


def _all_features(session: ort.InferenceSession, network: Network, pace: Pace) -> np.ndarray:
    return np.asarray(session.run([FEATURES], network.feeds(pace.buckets[-1]))[0])


def _smallest_cosine(a: np.ndarray, b: np.ndarray) -> float:
    products = (a * b).sum(1, dtype=np.float64)
    return float((products / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))).min())
