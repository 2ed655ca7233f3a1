"""Uncut = chained = merged, and merged is as fast as uncut: ``python -m benchmarks.segments``.

For every classification model that torchvision lists, with random weights and realistic
batch-norm statistics, at the smallest input that it takes:

- *uncut* is the untouched network behind its normalisation, exported whole, made canonical;
- *chained* are its exported segments, each in a session of its own;
- *merged* are the same segments joined into one model.

Each model is measured in a process of its own, which gives its memory back at the end. Results
are kept in a JSON file; what is in there already is not measured again.
"""

import argparse
import contextlib
import fcntl
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median
from typing import TypeAlias

import numpy as np
import onnxruntime as ort
import torch
import torchvision
from torch import Tensor, nn

from adapters.export import Exported, export, export_head
from adapters.export.exporting import to_onnx
from adapters.sources.normalisation import Normalise
from adapters.sources.stages import Stages
from adapters.sources.torchvision import TorchvisionProvider, TorchvisionSource, build, whole_weights
from registry.digests import Digest
from registry.segments import Detached, Node, canonical, detach, merge, merge_detached
from registry.segments.graph import Graph

ROWS = 3
"""Rows that outputs are compared on; networks are traced with two."""
CALIBRATION_ROWS = 64
TIMED_SECONDS = 4.0
MIN_ROUNDS = 7
MAX_ROUNDS = 200
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "1048576", "MALLOC_TRIM_THRESHOLD_": "1048576"}
"""glibc would keep freed weights for itself: a third of the memory that the largest models take."""
ONE_FILE_BYTES = 2_000_000_000
"""Weights from which on a model is not one file: 7 % below protobuf's limit, for all that is no weight."""

Model: TypeAlias = bytes | Detached
Runner: TypeAlias = Callable[[np.ndarray], np.ndarray]
Open: TypeAlias = Callable[[], Runner]


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured of one model.

    Attributes:
        model: torchvision's name.
        side: of the square input, in pixels.
        segments: how many, the head included.
        megabytes: of all segments together.
        largest: megabytes of the largest segment.
        scale: largest absolute logit of the uncut model.
        torch: largest absolute difference of the merged model's logits to torch's.
        merged: the same of the merged to the uncut model's.
        chained: the same of the chained segments' to the uncut model's.
        identical: whether merged and uncut have the same canonical bytes.
        uncut_ms: median time of the uncut model on one row, one thread.
        merged_ratio: median time of the merged over the uncut model.
        chained_ratio: median time of the chained segments over the uncut model.
        export_seconds: exporting all segments.
        merge_seconds: joining them.
        peak_gigabytes: most memory that the process held.
        detached: whether the joined model is too large for one file.
    """

    model: str
    side: int
    segments: int
    megabytes: float
    largest: float
    scale: float
    torch: float
    merged: float
    chained: float
    identical: bool
    uncut_ms: float
    merged_ratio: float
    chained_ratio: float
    export_seconds: float
    merge_seconds: float
    peak_gigabytes: float
    detached: bool


def measure(name: str, lock: Path | None) -> Result:
    """Measure one model."""
    source = _smallest(name)
    pixels = np.random.default_rng(0).integers(0, 256, (ROWS, source.smallest, source.smallest, 3), np.uint8)
    network, stages = _realistic(source)
    with torch.no_grad():
        expected = stages.logits(torch.from_numpy(pixels)).numpy()

    started = time.perf_counter()
    segments = [*export(stages), export_head(stages, _head(stages), after=stages.head_after)]
    export_seconds = time.perf_counter() - started
    uncut = _uncut(nn.Sequential(Normalise(source.normalisation), network), source.smallest)
    del network, stages

    started = time.perf_counter()
    merged = _merged(segments)
    merge_seconds = time.perf_counter() - started
    identical = _identity(uncut) == _identity(merged)
    if identical and isinstance(merged, Detached) and isinstance(uncut, Detached):
        merged = Detached(merged.model, uncut.weights)  # the same, so one copy in memory will do
    logits = _run(_session(uncut), pixels)
    merged_logits = _run(_session(merged), pixels)
    chained_logits = _chain(segments)(pixels)
    compare = _apart if isinstance(merged, Detached) else _in_turns
    with _holding(lock):
        merged_times = compare(lambda: _runner(uncut), lambda: _runner(merged), pixels[:1])
        chained_times = compare(lambda: _runner(uncut), lambda: _chain(segments), pixels[:1])
    return Result(
        model=name,
        side=source.smallest,
        segments=len(segments),
        megabytes=sum(len(segment.model) for segment in segments) / 1e6,
        largest=max(len(segment.model) for segment in segments) / 1e6,
        scale=float(np.abs(logits).max()),
        torch=float(np.abs(merged_logits - expected).max()),
        merged=float(np.abs(merged_logits - logits).max()),
        chained=float(np.abs(chained_logits - logits).max()),
        identical=identical,
        uncut_ms=1e3 * median(merged_times[0]),
        merged_ratio=median(merged_times[1]) / median(merged_times[0]),
        chained_ratio=median(chained_times[1]) / median(chained_times[0]),
        export_seconds=export_seconds,
        merge_seconds=merge_seconds,
        peak_gigabytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        detached=isinstance(merged, Detached),
    )


def _smallest(name: str) -> TorchvisionSource:
    """Return the source with those weights of a model that take the smallest input."""
    provider = TorchvisionProvider()
    sources = [provider.source(f"torchvision:{name}@{member}") for member in whole_weights(name)]
    return min(sources, key=lambda source: source.smallest)


def _realistic(source: TorchvisionSource) -> tuple[nn.Module, Stages]:
    """Return a network with random weights, and its stages.

    What is initialised to a constant (norms, biases, layer scales) would hide differences, so it
    is moved off it; batch-norm statistics are those of a batch of noise.
    """
    torch.manual_seed(0)
    network = build(source.model, source.weights)
    for parameter in network.parameters():
        if parameter.min() == parameter.max():
            parameter.data += 0.1 * torch.randn_like(parameter)
    side = source.smallest
    noise = torch.randint(0, 256, (CALIBRATION_ROWS, side, side, 3), dtype=torch.uint8)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    network.eval()
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    if norms:
        with torch.no_grad():
            network(Normalise(source.normalisation)(noise))
    for norm in norms:
        # Few rows estimate a channel's variance badly, and what is far too small is amplified layer
        # by layer until rounding decides the logits: draw them half way to their mean.
        variance = norm.get_buffer("running_var")
        variance.lerp_(variance.mean(), 0.5)
    return network.eval(), source.staged(network, (side, side))


def _head(stages: Stages) -> nn.Module:
    assert stages.head is not None
    return stages.head


def _uncut(network: nn.Module, side: int) -> Model:
    example: Tensor = torch.zeros((2, side, side, 3), dtype=torch.uint8)
    exported = to_onnx(network, [example], ["pixels"], ["logits"])
    if sum(array.nbytes for array in exported.weights.values()) < ONE_FILE_BYTES:
        return canonical(exported)
    graph = Graph()
    return detach(graph, graph.read(exported))


def _merged(segments: Sequence[Exported]) -> Model:
    nodes = [Node(segment.name, segment.model, segment.inputs) for segment in segments]
    outputs = {"logits": f"{segments[-1].name}:logits"}
    one_file = sum(len(segment.model) for segment in segments) < ONE_FILE_BYTES
    return merge(nodes, outputs) if one_file else merge_detached(nodes, outputs)


def _identity(model: Model) -> list[Digest]:
    if isinstance(model, bytes):
        return [Digest.of(model)]
    return [Digest.of(model.model), *(Digest.of(array.tobytes()) for array in model.weights.values())]


def _session(model: Model) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if isinstance(model, bytes):
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    values = [ort.OrtValue.ortvalue_from_numpy(array) for array in model.weights.values()]
    options.add_external_initializers(list(model.weights), values)
    return ort.InferenceSession(model.model, options, providers=["CPUExecutionProvider"])


def _run(session: ort.InferenceSession, pixels: np.ndarray) -> np.ndarray:
    (logits,) = session.run(["logits"], {"pixels": pixels})
    return np.asarray(logits)


def _runner(model: Model) -> Runner:
    session = _session(model)
    return lambda pixels: _run(session, pixels)


def _chain(segments: Sequence[Exported]) -> Runner:
    sessions = [(segment, _session(segment.model)) for segment in segments]

    def run(pixels: np.ndarray) -> np.ndarray:
        values = {"recipe:pixels": pixels}
        for segment, session in sessions:
            feeds = {port: values[wire] for port, wire in segment.inputs.items()}
            for port, value in zip(segment.outputs, session.run(list(segment.outputs), feeds), strict=True):
                values[f"{segment.name}:{port}"] = np.asarray(value)
        return values[f"{segments[-1].name}:logits"]

    return run


def _in_turns(one: Open, other: Open, pixels: np.ndarray) -> tuple[list[float], list[float]]:
    """Time two runners in turns, first one and then the other first."""
    runners = (one(), other())
    for runner in runners:
        runner(pixels)
    times: tuple[list[float], list[float]] = ([], [])
    until = time.perf_counter() + TIMED_SECONDS
    while len(times[0]) < MIN_ROUNDS or (time.perf_counter() < until and len(times[0]) < MAX_ROUNDS):
        order = (0, 1) if len(times[0]) % 2 else (1, 0)
        for index in order:
            times[index].append(_timed(runners[index], pixels))
    return times


def _apart(one: Open, other: Open, pixels: np.ndarray) -> tuple[list[float], list[float]]:
    """Time two runners one after the other, twice over: what is too large for one file is so twice."""
    times: tuple[list[float], list[float]] = ([], [])
    for index, loaded in ((0, one), (1, other), (1, other), (0, one)):
        runner = loaded()
        runner(pixels)
        times[index].extend(_timed(runner, pixels) for _ in range(MIN_ROUNDS))
        del runner
    return times


def _timed(runner: Runner, pixels: np.ndarray) -> float:
    started = time.perf_counter()
    runner(pixels)
    return time.perf_counter() - started


@contextlib.contextmanager
def _holding(lock: Path | None) -> Iterator[None]:
    """Hold a file's lock while timing, so that benchmarks on one machine take turns."""
    if lock is None:
        yield
        return
    with lock.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def table(results: Sequence[Result]) -> str:
    """Return the results as a Markdown table."""
    header = (
        "model | input | segments | MB | export s | merge s | max \\|logit\\| | merged − torch | merged − uncut | "
        "chained − uncut | same bytes | uncut ms | merged / uncut | chained / uncut"
    )
    lines = [f"| {header} |", "|" + " --- |" * (header.replace("\\|", "").count("|") + 1)]
    for r in sorted(results, key=lambda result: result.model):
        cells = (
            r.model,
            str(r.side),
            str(r.segments),
            f"{r.megabytes:.1f}" + (" (detached)" if r.detached else ""),
            f"{r.export_seconds:.1f}",
            f"{r.merge_seconds:.2f}",
            f"{r.scale:.2g}",
            f"{r.torch:.1e}",
            f"{r.merged:.1e}" if r.merged else "0",
            f"{r.chained:.1e}" if r.chained else "0",
            "yes" if r.identical else "no",
            f"{r.uncut_ms:.2f}",
            f"{r.merged_ratio:.2f}",
            f"{r.chained_ratio:.2f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure the models that have no result yet, then print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", help="names separated by commas; default: all that torchvision lists")
    parser.add_argument(
        "--json", type=Path, default=Path("segments.json"), help="file that keeps the results"
    )
    parser.add_argument("--lock", type=Path, help="file to hold locked while timing")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(asdict(measure(arguments.one, arguments.lock))))
        return
    listed = torchvision.models.list_models(module=torchvision.models)
    names = arguments.models.split(",") if arguments.models else listed
    kept = json.loads(arguments.json.read_text()) if arguments.json and arguments.json.exists() else {}
    for position, name in enumerate(names, start=1):
        if name in kept:
            continue
        command = [sys.executable, "-m", "benchmarks.segments", "--one", name]
        command += ["--lock", str(arguments.lock)] if arguments.lock else []
        started = time.perf_counter()
        answer = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **_MALLOC})
        if answer.returncode:
            print(
                f"[{position}/{len(names)}] {name} failed:\n{answer.stderr[-2000:]}",
                file=sys.stderr,
                flush=True,
            )
            continue
        kept[name] = json.loads(answer.stdout.splitlines()[-1])
        if arguments.json:
            arguments.json.write_text(json.dumps(kept, indent=1))
        r = Result(**kept[name])
        print(
            f"[{position}/{len(names)}] {name}: {time.perf_counter() - started:.0f} s, merged − uncut {r.merged:.1e}, "
            f"chained {r.chained:.1e}, times {r.merged_ratio:.2f} and {r.chained_ratio:.2f}",
            file=sys.stderr,
            flush=True,
        )
    results = [
        Result(**{f.name: kept[name][f.name] for f in fields(Result)}) for name in names if name in kept
    ]
    print(table(results))
    if len(results) < len(names):
        sys.exit(1)


if __name__ == "__main__":
    main()
