"""Runs one batch through the steps that its requests need.

Usually all rows have the same route and follow it together. Where routes differ, each step runs once, on the rows
whose routes contain it: all rows at the root, fewer after each branch. Rows of one route are contiguous, so that a
branch takes a slice where possible.
"""

from collections.abc import Sequence
from time import perf_counter
from typing import TypeAlias

import numpy as np

from registry.errors import RuntimeFailure
from registry.runtime import Tensor, on_host
from services.engine.request import Piece
from services.engine.route import Arrays, Route, RouteStep

Members: TypeAlias = tuple[int, ...]
"""Numbers of groups, ascending."""


class Batch:
    """Rows that share a root.

    Args:
        pieces: the rows, one piece or more, all of one root and one shape.

    Attributes:
        pieces: the same.
        rows: number of rows.
        heads_s: seconds that the linear heads took, after ``run``.
    """

    __slots__ = ("_route", "heads_s", "pieces", "rows")

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.pieces = pieces
        self.rows = 0
        self.heads_s = 0.0
        self._route: Route | None = pieces[0].request.route
        for piece in pieces:
            self.rows += piece.rows
            if piece.request.route is not self._route:
                self._route = None

    def run(self, *, alone: bool) -> list[Arrays]:
        """Compute the outputs of every piece, in order.

        Raises:
            RuntimeFailure: the runtime cannot run these rows.
        """
        if self._route is None:
            forked = Forked(self.pieces)
            outputs = forked.run(alone=alone)
            self.heads_s = forked.heads_s
            return outputs
        whole, self.heads_s = _follow(self._route, _joined(self.pieces), self.rows, alone=alone)
        return _shared_out(whole, self.pieces)


class Forked:
    """Rows that share a root but not a route, in groups of one route each.

    Args:
        pieces: the rows.

    Attributes:
        heads_s: seconds that the linear heads took, after ``run``.
    """

    __slots__ = ("_bounds", "_groups", "_pieces", "_routes", "_values", "heads_s")

    def __init__(self, pieces: Sequence[Piece]) -> None:
        by_route: dict[Route, list[Piece]] = {}
        for piece in pieces:
            by_route.setdefault(piece.request.route, []).append(piece)
        self._pieces = pieces
        self._routes = tuple(by_route)
        self._groups = tuple(by_route.values())
        self._bounds: list[tuple[int, int]] = []
        start = 0
        for group in self._groups:
            stop = start + sum(piece.rows for piece in group)
            self._bounds.append((start, stop))
            start = stop
        self._values: dict[str, tuple[Tensor, Members]] = {}
        self.heads_s = 0.0

    def run(self, *, alone: bool) -> list[Arrays]:
        """Compute the outputs of every piece, in order; raises as ``Batch.run`` does."""
        everyone = tuple(range(len(self._routes)))
        fields = _joined([piece for group in self._groups for piece in group])
        for name, wire in self._routes[0].fields.items():
            self._values[wire] = fields[name], everyone
        steps = self._steps(everyone)
        taken = {wire for step, _ in steps for wire in step.takes}
        for step, members in steps:
            values = {wire: self._select(wire, members) for wire in step.takes}
            given = step.run(values, alone=alone, onward=not taken.isdisjoint(step.gives))
            rows = sum(stop - start for start, stop in map(self._bounds.__getitem__, members))
            for wire in step.gives:
                self._values[wire] = _checked(given[wire], rows), members
        found: dict[Piece, Arrays] = {}
        for number, (route, group) in enumerate(zip(self._routes, self._groups, strict=True)):
            found |= zip(group, _shared_out(self._group(number, route), group), strict=True)
        return [found[piece] for piece in self._pieces]

    def _steps(self, everyone: Members) -> list[tuple[RouteStep, Members]]:
        """Return the steps of all routes in topological order, each with the groups that need it."""
        members: dict[str, list[int]] = {}
        steps: dict[str, RouteStep] = {}
        for number, route in enumerate(self._routes):
            for step in route.steps:
                steps[step.key] = step
                members.setdefault(step.key, []).append(number)
        order = sorted(steps, key=lambda key: steps[key].depth)
        return [(steps[key], tuple(members[key])) for key in order]

    def _select(self, wire: str, members: Members) -> Tensor:
        """Return a wire's rows of some groups; if these are all its groups, the tensor itself, perhaps on a device."""
        tensor, carried = self._values[wire]
        return tensor if carried == members else self._rows_of(wire, members)

    def _rows_of(self, wire: str, members: Members) -> np.ndarray:
        """Return a wire's rows of some groups, on the host."""
        tensor, carried = self._values[wire]
        array = on_host(tensor)
        if array is not tensor:
            self._values[wire] = array, carried
        if carried == members:
            return array
        wanted, start = set(members), 0
        slices: list[slice] = []
        for number in carried:
            first, last = self._bounds[number]
            stop = start + last - first
            if number in wanted:
                if slices and slices[-1].stop == start:
                    slices[-1] = slice(slices[-1].start, stop)
                else:
                    slices.append(slice(start, stop))
            start = stop
        if len(slices) == 1:
            return array[slices[0]]
        return np.concatenate([array[each] for each in slices])

    def _group(self, number: int, route: Route) -> dict[str, np.ndarray]:
        """Return the outputs of one route's rows."""
        heads: dict[str, np.ndarray] = {}
        if route.stacks:
            began = perf_counter()
            for stack in route.stacks:
                heads |= stack.run(self._rows_of(stack.takes, (number,)))
            self.heads_s += perf_counter() - began
        return {
            name: heads[wire] if wire in heads else self._rows_of(wire, (number,))
            for name, wire in route.outputs.items()
        }


def compute(route: Route, fields: Arrays, *, alone: bool = True) -> dict[str, np.ndarray]:
    """Run rows through a route in the calling thread.

    Args:
        route: the route.
        fields: an array for every field; the first dimension is the rows.
        alone: use all cores.
    """
    rows = len(next(iter(fields.values())))
    return _follow(route, fields, rows, alone=alone)[0]


def _follow(route: Route, fields: Arrays, rows: int, *, alone: bool) -> tuple[dict[str, np.ndarray], float]:
    """Run rows through one route; return its outputs, and the seconds of its heads."""
    values: dict[str, Tensor] = {wire: fields[name] for name, wire in route.fields.items()}
    for step, onward in zip(route.steps, route.onward, strict=True):
        given = step.run(values, alone=alone, onward=onward)
        for wire in step.gives:
            values[wire] = _checked(given[wire], rows)
    began = perf_counter()
    for stack in route.stacks:
        features = values[stack.takes] = on_host(values[stack.takes])
        values |= stack.run(features)
    heads_s = perf_counter() - began
    return {name: on_host(values[wire]) for name, wire in route.outputs.items()}, heads_s


def _joined(pieces: Sequence[Piece]) -> Arrays:
    """Return the rows of all pieces, by field."""
    parts = [piece.fields for piece in pieces]
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _checked(tensor: Tensor, rows: int) -> Tensor:
    if len(tensor) != rows:
        raise RuntimeFailure(f"a run has one row for each of {rows}, got {len(tensor)}")
    return tensor


def _shared_out(outputs: Arrays, pieces: Sequence[Piece]) -> list[Arrays]:
    """Split the outputs of a batch into each piece's rows."""
    if len(pieces) == 1:
        return [outputs]
    shares: list[Arrays] = []
    start = 0
    for piece in pieces:
        stop = start + piece.rows
        shares.append({name: array[start:stop] for name, array in outputs.items()})
        start = stop
    return shares
