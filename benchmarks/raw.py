"""What the machine can do without a server: ONNX Runtime alone, decoding alone, and both in one process.

A lane is a Python thread that calls ONNX Runtime, one batch after another; the interpreter's lock
is free meanwhile.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from benchmarks.machine import busy_seconds
from benchmarks.measurement import Measurement
from benchmarks.spread import quantile
from registry.manifest import LOGITS, Manifest
from registry.recipe import ImageRecipe
from registry.registry import Registry
from registry.segments import Node, merge

MIN_STEPS = 2
"""Steps that every lane takes at least, however short the window."""

Step = Callable[[int], int]
"""Does one batch, whose number within its lane is given; returns its rows."""


@dataclass(frozen=True, slots=True, order=True)
class Setting:
    """How ONNX Runtime is used.

    Attributes:
        lanes: runs under way at once.
        threads: cores that one run may use.
        sessions: sessions that the lanes share out among them, 1 or one each.
        spinning: whether idle threads of a session spin.
        batch: rows of one run.
    """

    lanes: int
    threads: int
    sessions: int
    spinning: bool
    batch: int

    def __str__(self) -> str:
        shape = f"{_several(self.sessions, 'session')} × {_several(self.threads, 'thread')}"
        lanes = f", {self.lanes} lanes" if self.lanes > 1 else ""
        spinning = ", spinning" if self.spinning else ""
        return f"{shape}{lanes}{spinning}, batch {self.batch}"


def settings(cores: int, batches: Sequence[int]) -> list[Setting]:
    """Return every setting that may be the best one on some cores."""
    shapes = {
        (1, cores, 1, True),
        (1, cores, 1, False),
        (cores, 1, 1, False),
        (cores, 1, cores, False),
    }
    return [Setting(*shape, batch) for shape in sorted(shapes) for batch in batches]


class Bench:
    """One model, and the inputs that it is measured on.

    Args:
        model: takes ``pixels`` and gives ``logits``.
        recipe: decodes pictures for it.
        pixels: decoded rows, uint8 [rows, height, width, channels].
        pictures: files to decode.
    """

    def __init__(
        self, model: bytes, recipe: ImageRecipe, pixels: np.ndarray, pictures: Sequence[bytes]
    ) -> None:
        self._model = model
        self._recipe = recipe
        self._pixels = pixels
        self._pictures = pictures
        self._sessions: dict[tuple[int, bool, int], ort.InferenceSession] = {}

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Return the logits of some rows."""
        return _run(self._session(1, False, 0), pixels)

    def raw(self, setting: Setting, seconds: float) -> Measurement:
        """Measure ONNX Runtime alone on decoded rows."""
        batches = _batches(self._pixels, setting.batch)

        def lane(number: int) -> Step:
            session = self._session(setting.threads, setting.spinning, number % setting.sessions)
            return lambda step: len(_run(session, batches[(number + step) % len(batches)]))

        return measure([lane(number) for number in range(setting.lanes)], seconds)

    def decoding(self, lanes: int, seconds: float) -> Measurement:
        """Measure decoding alone, a picture a step."""

        def lane(number: int) -> Step:
            def step(count: int) -> int:
                self._decode(number + count * lanes)
                return 1

            return step

        return measure([lane(number) for number in range(lanes)], seconds)

    def apart(self, setting: Setting, seconds: float) -> Measurement:
        """Measure lanes that each decode a batch and run it."""

        def lane(number: int) -> Step:
            session = self._session(setting.threads, setting.spinning, number % setting.sessions)

            def step(count: int) -> int:
                first = (number + count * setting.lanes) * setting.batch
                rows = [self._decode(first + row) for row in range(setting.batch)]
                return len(_run(session, np.stack(rows)))

            return step

        return measure([lane(number) for number in range(setting.lanes)], seconds)

    def in_turns(self, setting: Setting, seconds: float) -> Measurement:
        """Measure one lane that decodes a batch on all of a session's cores and runs it on them."""
        session = self._session(setting.threads, setting.spinning, 0)
        with ThreadPoolExecutor(setting.threads) as pool:

            def step(count: int) -> int:
                first = count * setting.batch
                rows = list(pool.map(self._decode, range(first, first + setting.batch)))
                return len(_run(session, np.stack(rows)))

            return measure([step], seconds)

    def _decode(self, number: int) -> np.ndarray:
        return self._recipe.decode(self._pictures[number % len(self._pictures)])

    def _session(self, threads: int, spinning: bool, number: int) -> ort.InferenceSession:
        key = (threads, spinning, number)
        if key not in self._sessions:
            options = ort.SessionOptions()
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
            options.log_severity_level = 3
            options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
            session = ort.InferenceSession(self._model, options, providers=["CPUExecutionProvider"])
            _run(session, self._pixels[:1])
            self._sessions[key] = session
        return self._sessions[key]


def measure(lanes: Sequence[Step], seconds: float) -> Measurement:
    """Let every lane take steps for a time, all at once, and say how many rows came of it.

    A lane ends with the step that passes the time; its rate is its own rows over its own time.
    """
    barrier = threading.Barrier(len(lanes) + 1)
    rates: list[float] = []
    times: list[float] = []

    def serve(step: Step) -> None:
        barrier.wait()
        started = now = time.perf_counter()
        rows = count = 0
        while count < MIN_STEPS or now < started + seconds:
            rows += step(count)
            count += 1
            before, now = now, time.perf_counter()
            times.append(now - before)
        rates.append(rows / (now - started))
        totals.append(rows)

    totals: list[int] = []
    threads = [threading.Thread(target=serve, args=(step,), daemon=True) for step in lanes]
    for thread in threads:
        thread.start()
    loaded = (time.perf_counter(), time.process_time(), busy_seconds())
    barrier.wait()
    for thread in threads:
        thread.join()
    wall, cpu, busy = (
        after - before
        for before, after in zip(
            loaded, (time.perf_counter(), time.process_time(), busy_seconds()), strict=True
        )
    )
    if len(totals) < len(lanes):
        raise RuntimeError("a lane failed; its traceback is above")
    # CPU is counted over all the rows, the rate over the time in which every lane was at work.
    rows = sum(totals)
    rated = rows / sum(rates)
    return Measurement(
        seconds=rated,
        rows=rows,
        cpu_s=cpu,
        generator_s=0.0,
        others_s=max(0.0, busy - cpu) * rated / wall,
        p50_ms=1e3 * quantile(times, 0.5),
        p99_ms=1e3 * quantile(times, 0.99),
    )


def merged(manifest: Manifest, registry: Registry) -> bytes:
    """Return a version's logits as one model, as a server joins it."""
    nodes = [
        Node(each.name, registry.blob(each.digest), {port: str(wire) for port, wire in each.inputs.items()})
        for each in manifest.segments
    ]
    return merge(nodes, {LOGITS: str(manifest.outputs[LOGITS])})


def _several(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _run(session: ort.InferenceSession, pixels: np.ndarray) -> np.ndarray:
    (logits,) = session.run([LOGITS], {"pixels": pixels})
    return np.asarray(logits)


def _batches(pixels: np.ndarray, size: int) -> list[np.ndarray]:
    return [pixels[start : start + size] for start in range(0, len(pixels) - size + 1, size)]
