"""The runs of the plan with open sessions, of which the engine's routes consist.

Equal runs share their sessions. Sessions are released when no route uses them any more.
"""

from collections.abc import Callable
from typing import TypeAlias
from weakref import WeakValueDictionary

import numpy as np

from registry.digests import Digest
from registry.manifest import RECIPE
from registry.runtime import CUDA, OnDevice, Tensor, on_host, usable_providers
from registry.segments import Linear, Node, merge_detached, read_linear
from registry.signature import TensorSpec
from services.deployment.pinned_memory import PinnedBuffers
from services.deployment.plan import PlannedPath, PlannedRun, PlannedSegment
from services.deployment.session_pool import open_pool
from services.engine import Route, batch_sizes
from services.engine.route import Tensors

Read: TypeAlias = Callable[[Digest], bytes]
"""Returns the bytes of a segment, checked against its digest."""


class RunStep:
    """A run of the plan with its open sessions.

    Args:
        run: the run.
        read: reads segments.
        threads: cores of a run beside others.
        cores: cores of a run that is alone.
        largest: rows of the largest batch; 0 if batches have few sizes.
        stays: inputs of further runs stay on the device, and batches are padded to their size.

    Raises:
        InvalidSegment: the segments do not fit together.
        RuntimeFailure: ONNX Runtime refuses them.
    """

    __slots__ = (
        "__weakref__", "_names", "_ports", "_staging", "_stays", "_variants", "depth", "gives", "key",
        "providers", "takes",
    )  # fmt: skip

    def __init__(
        self, run: PlannedRun, read: Read, *, threads: int, cores: int, largest: int, stays: bool
    ) -> None:
        self.key = run.key
        self.takes = run.takes
        self.gives = run.gives
        self.depth = run.depth
        self._ports = {wire: _port(wire, number) for number, wire in enumerate(run.takes)}
        nodes = [
            Node(
                place.key,
                read(place.segment.digest),
                {
                    port: f"{RECIPE}:{self._ports[wire]}" if wire in self._ports else wire
                    for port, wire in place.feeds.items()
                },
            )
            for place in run.places
        ]
        self._names = [f"y{number}" for number in range(len(run.gives))]
        merged = merge_detached(nodes, dict(zip(self._names, run.gives, strict=True)))
        name = f"segment {run.places[0].segment.digest.short}"
        self._variants = open_pool(merged, name, threads=threads, cores=cores, largest=largest)
        self._stays = stays
        self._staging = PinnedBuffers()
        self.providers = self._variants.providers

    @property
    def wide(self) -> bool:
        """Whether there is a session for all cores."""
        return self._variants.wide

    @property
    def sizes(self) -> tuple[int, ...]:
        """Batch sizes that need their own warm-up."""
        return self._variants.sizes

    def run(self, values: Tensors, *, alone: bool = False, onward: bool = False) -> Tensors:
        """Compute its outputs, in runs of the batch sizes.

        Outputs that no other run takes go directly to host memory: to bind them on the device and fetch them
        separately took 1.12 to 1.26 times as long (ResNet-50, one NVIDIA H200).

        Args:
            values: the rows of each input wire; other wires may be present.
            alone: nothing else runs, so all cores are free.
            onward: another run takes its outputs.

        Raises:
            RuntimeFailure: the runtime cannot run these rows.
        """
        rows = len(values[self.takes[0]])
        if self._stays and rows <= batch_sizes.LARGEST and (onward or self._lies_there(values)):
            return self._run_on_device(values, rows)
        arrays = {port: on_host(values[wire]) for wire, port in self._ports.items()}
        if batch_sizes.whole(rows):
            session = self._variants.pick(rows, alone=alone)
            return dict(zip(self.gives, session.run_in_order(arrays, self._names), strict=True))
        parts = []
        for start, stop, size in batch_sizes.cover(rows, fill=self._stays):
            part = {port: batch_sizes.padded(array[start:stop], size) for port, array in arrays.items()}
            given = self._variants.pick(size, alone=alone).run_in_order(part, self._names)
            parts.append([array[: stop - start] for array in given])
        whole = parts[0] if len(parts) == 1 else [np.concatenate(each) for each in zip(*parts, strict=True)]
        return dict(zip(self.gives, whole, strict=True))

    def _lies_there(self, values: Tensors) -> bool:
        return any(isinstance(values[wire], OnDevice) for wire in self.takes)

    def _run_on_device(self, values: Tensors, rows: int) -> Tensors:
        """Run once, padded. Tensors that another session left on the device are padded already.

        Rows that fill a batch size are passed as they are: CUDA's own copy through page-locked memory is faster.
        """
        size = batch_sizes.ceiling(rows)
        filled: dict[str, Tensor] = {}
        for wire, port in self._ports.items():
            tensor = values[wire]
            if isinstance(tensor, np.ndarray) and len(tensor) < size:
                tensor = self._staging.stage(port, tensor, size)
            filled[port] = tensor
        given = self._variants.pick(size, alone=False).run_on_device(filled, rows)
        return {wire: given[name] for wire, name in zip(self.gives, self._names, strict=True)}


class HeadWeights:
    """A linear head; several on one wire are computed as one product.

    Attributes:
        key: identifies what it computes.
        takes: the wire of the features.
        gives: the wire of the logits.
        weight: float32 [D, C].
        bias: float32 [C].
    """

    __slots__ = ("__weakref__", "bias", "gives", "key", "takes", "weight")

    def __init__(self, run: PlannedRun, linear: Linear) -> None:
        self.key = run.key
        self.takes = run.takes[0]
        self.gives = run.gives[0]
        self.weight = linear.weight
        self.bias = linear.bias


class Sessions:
    """The open runs of one process.

    Args:
        threads: cores of a run beside others.
        cores: cores of a run that is alone.
        largest: rows of the largest batch, if batches have every size; 0 if they have few sizes.
        stays: tensors between runs stay on the device; None means only on a GPU.
    """

    def __init__(self, *, threads: int, cores: int, largest: int = 0, stays: bool | None = None) -> None:
        self._threads = threads
        self._cores = cores
        self._largest = largest
        self._stays = usable_providers()[0] == CUDA if stays is None else stays
        self._open: WeakValueDictionary[Digest, RunStep | HeadWeights] = WeakValueDictionary()

    def open(self, run: PlannedRun, read: Read) -> RunStep | HeadWeights:
        """Open a run; returns the same object for as long as anything uses it.

        Raises:
            InvalidSegment: the segments do not fit together.
            RuntimeFailure: ONNX Runtime refuses them.
        """
        found = self._open.get(run.key)
        if found is None:
            linear = _linear(run, read)
            if linear is not None:
                found = HeadWeights(run, linear)
            else:
                found = RunStep(
                    run,
                    read,
                    threads=self._threads,
                    cores=self._cores,
                    largest=self._largest,
                    stays=self._stays,
                )
            self._open[run.key] = found
        return found

    def route(self, path: PlannedPath, inputs: tuple[TensorSpec, ...], read: Read) -> Route:
        """Open all runs of a version's path; raises as ``open`` does.

        Args:
            path: the path.
            inputs: the fields of the version's recipe.
            read: reads segments.
        """
        loaded = [self.open(run, read) for run in path.runs]
        return Route(
            path.runs[0].places[0].segment.digest.short,
            inputs,
            [each for each in loaded if isinstance(each, RunStep)],
            [each for each in loaded if isinstance(each, HeadWeights)],
            path.outputs,
        )


def _linear(run: PlannedRun, read: Read) -> Linear | None:
    """Return a run as a linear layer if it consists only of a linear head, else None."""
    place: PlannedSegment = run.places[0]
    if len(run.places) > 1 or place.segment.role != "head" or run.from_recipe:
        return None
    return read_linear(read(place.segment.digest))


def _port(wire: str, number: int) -> str:
    """Return the name of a merged session's input: that of the field, or a number for an inner wire."""
    prefix = f"{RECIPE}:"
    return wire.removeprefix(prefix) if wire.startswith(prefix) else f"x{number}"
