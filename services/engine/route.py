"""Routes of rows: steps from the recipe's fields to some outputs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeAlias

import numpy as np

from registry.digests import Digest
from registry.runtime import Tensor
from registry.signature import TensorSpec

Arrays: TypeAlias = Mapping[str, np.ndarray]
Tensors: TypeAlias = Mapping[str, Tensor]


class RouteStep(Protocol):
    """A unit that the engine runs: one session, shared by every route that contains it.

    Attributes:
        key: identifies what it computes; equal keys compute the same.
        takes: its input wires.
        gives: its output wires.
        depth: greater than that of every step that feeds it.
        providers: its execution providers, the preferred one first.
    """

    key: Digest
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    depth: int
    providers: tuple[str, ...]

    @property
    def wide(self) -> bool:
        """Whether it can use all cores for one run."""
        ...

    @property
    def sizes(self) -> tuple[int, ...]:
        """Batch sizes that need their own warm-up."""
        ...

    def run(self, values: Tensors, *, alone: bool = False, onward: bool = False) -> Tensors:
        """Compute its outputs; rows are independent of one another.

        Args:
            values: the rows of each input wire, possibly on a device; other wires may be present.
            alone: nothing else runs, so all cores are free.
            onward: another step takes its outputs, so they may stay on a device.
        """
        ...


class GemmHead(Protocol):
    """A linear layer on features, given as arrays so that several can be computed as one product.

    Attributes:
        takes: the wire of the features.
        gives: the wire of the logits.
        weight: float32 [D, C].
        bias: float32 [C].
    """

    takes: str
    gives: str
    weight: np.ndarray
    bias: np.ndarray


class Stack:
    """The heads on one wire, computed as one product.

    Attributes:
        takes: the wire of the features.
    """

    __slots__ = ("_bias", "_columns", "_weight", "takes")

    def __init__(self, heads: Sequence[GemmHead]) -> None:
        self.takes = heads[0].takes
        self._columns: list[tuple[str, int, int]] = []
        start = 0
        for head in heads:
            stop = start + len(head.bias)
            self._columns.append((head.gives, start, stop))
            start = stop
        one = len(heads) == 1
        self._weight = heads[0].weight if one else np.concatenate([head.weight for head in heads], axis=1)
        self._bias = heads[0].bias if one else np.concatenate([head.bias for head in heads])

    def run(self, features: np.ndarray) -> dict[str, np.ndarray]:
        """Return every head's logits, float32 [rows, C], by wire."""
        logits = features.dot(self._weight)  # few rows cost a third of what `@` takes
        logits += self._bias
        if len(self._columns) == 1:
            return {self._columns[0][0]: logits}
        return {wire: logits[:, start:stop] for wire, start, stop in self._columns}


class Route:
    """A route from the recipe's fields to some outputs; immutable.

    Args:
        root: a short name of the first step, for queues and metrics.
        inputs: the recipe's fields that it takes; every first dimension is the batch.
        steps: the steps, in any order.
        heads: linear heads at its end.
        outputs: the wire of each output.

    Attributes:
        root: a short name for queues and metrics.
        inputs: the recipe's fields.
        shapes: the shape of a row of each field; None where one varies from row to row.
        fields: the wire of each field, by name.
        steps: the steps in topological order; rows that share the first one form batches.
        onward: for each step, whether another one takes its outputs.
        heads: the linear heads.
        stacks: the linear heads, grouped by wire into one product each.
        outputs: the wire of each output.
        pivot: the output from which heads alone compute all others, or None.
    """

    __slots__ = (
        "__weakref__", "_parts", "fields", "heads", "inputs", "onward", "outputs", "pivot", "root", "shapes",
        "stacks", "steps",
    )  # fmt: skip

    def __init__(
        self,
        root: str,
        inputs: tuple[TensorSpec, ...],
        steps: Iterable[RouteStep],
        heads: Iterable[GemmHead],
        outputs: Mapping[str, str],
    ) -> None:
        self.root = root
        self.inputs = inputs
        self.shapes = _row_shapes(inputs)
        self.fields = {spec.name: f"recipe:{spec.name}" for spec in inputs}
        self.steps = tuple(sorted(steps, key=lambda step: step.depth))
        taken = {wire for step in self.steps for wire in step.takes}
        self.onward = tuple(not taken.isdisjoint(step.gives) for step in self.steps)
        self.outputs = dict(outputs)
        self.heads = tuple(heads)
        by_wire: dict[str, list[GemmHead]] = {}
        for head in self.heads:
            by_wire.setdefault(head.takes, []).append(head)
        self.stacks = tuple(Stack(group) for group in by_wire.values())
        self.pivot = self._pivot()
        self._parts: dict[tuple[str, ...], Route] = {}

    @property
    def wide(self) -> bool:
        """Whether its first step can use all cores for one run."""
        return self.steps[0].wide

    @property
    def sizes(self) -> tuple[int, ...]:
        """Batch sizes for which some step needs its own warm-up, ascending."""
        return tuple(sorted({size for step in self.steps for size in step.sizes}))

    @property
    def providers(self) -> tuple[str, ...]:
        """Execution providers of its first step, the preferred one first."""
        return self.steps[0].providers

    def towards(self, *names: str) -> "Route":
        """Return the sub-route to some of its outputs; the same object for the same names."""
        part = self._parts.get(names)
        if part is None:
            outputs = {name: self.outputs[name] for name in names}
            wanted = set(outputs.values())
            heads = [head for head in self.heads if head.gives in wanted]
            wanted.update(head.takes for head in heads)
            steps = []
            for step in reversed(self.steps):
                if wanted & set(step.gives):
                    steps.append(step)
                    wanted.update(step.takes)
            part = self._parts[names] = Route(self.root, self.inputs, steps, heads, outputs)
        return part

    def after(self, features: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the outputs from the pivot's features, float32 [rows, D].

        Raises:
            ValueError: there is no pivot.
        """
        if self.pivot is None:
            raise ValueError("not all outputs come from one output by heads alone")
        values = {self.outputs[self.pivot]: features}
        for stack in self.stacks:
            values |= stack.run(features)
        return {name: values[wire] for name, wire in self.outputs.items()}

    @classmethod
    def together(cls, routes: Mapping[str, "Route"]) -> "Route":
        """Return one route to the outputs of several routes from one root, as ``NAME/OUTPUT``."""
        first = next(iter(routes.values()))
        return cls(
            first.root,
            first.inputs,
            {step.key: step for route in routes.values() for step in route.steps}.values(),
            {head.gives: head for route in routes.values() for head in route.heads}.values(),
            {
                f"{name}/{output}": wire
                for name, route in routes.items()
                for output, wire in route.outputs.items()
            },
        )

    def _pivot(self) -> str | None:
        from_heads = {head.gives for head in self.heads}
        sources = {stack.takes for stack in self.stacks} | (set(self.outputs.values()) - from_heads)
        if len(sources) != 1:
            return None
        return next((name for name, wire in self.outputs.items() if wire in sources), None)


def _row_shapes(inputs: Iterable[TensorSpec]) -> tuple[tuple[int, ...], ...] | None:
    shapes = [spec.shape[1:] for spec in inputs]
    fixed = [tuple(size for size in shape if isinstance(size, int)) for shape in shapes]
    return tuple(fixed) if fixed == shapes else None
