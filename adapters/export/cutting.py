"""Cuts an exported network at the tensors between its stages."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from onnx import ModelProto, TensorProto

from registry.errors import InvalidSegment
from registry.segments import Detached, to_bytes
from registry.segments.graph import Graph, Port, Result, Type, Value, Weight, attribute, inputs_of, walk


def cut(
    model: ModelProto | Detached,
    taps: Sequence[str],
    entry: str,
    exits: Sequence[str],
    sides: Sequence[str] = (),
) -> Iterator[bytes]:
    """Yield the canonical segments that end at a network's taps.

    Args:
        model: the network; every tap is an output of it.
        taps: names of the outputs in order.
        entry: what the input of every segment but the first is called; the first takes what the
            network takes.
        exits: for each tap what the output of its segment is called.
        sides: inputs of the network that may pass around a tap: a segment that needs one takes it too.

    Raises:
        InvalidSegment: data passes around a tap.
    """
    graph = Graph()
    outputs = graph.read(model)
    ends = [outputs[tap] for tap in taps]
    yield to_bytes(graph.write({exits[0]: _first(graph, ends[0], sides)}))
    for (start, end), exit_ in zip(pairwise(ends), exits[1:], strict=True):
        yield to_bytes(graph.write({exit_: rebase(graph, end, start, entry, sides)}))


def _first(graph: Graph, end: Value, sides: Sequence[str]) -> Value:
    """Return what computes ``end``, with no shape taken from a side where the network's own input has it.

    An exporter asks any input for a dimension that several have, also one that the first stage does
    not take.
    """
    ports = [value for value in walk([end], inputs_of) if isinstance(value, Port)]
    start = next((port for port in ports if port.name not in sides), None)
    if start is None or len(ports) == 1:
        return end
    return rebase(graph, end, start, start.name, sides)


def rebase(graph: Graph, end: Value, start: Value, entry: str, sides: Sequence[str] = ()) -> Value:
    """Return what computes ``end`` from a port that takes the place of ``start``.

    Shapes look further back than data does: an exporter asks the network's first tensors for the
    batch size. ``Shape`` of a tensor before ``start`` becomes numbers, and ``Shape`` of the port
    where a dimension varies.

    Raises:
        InvalidSegment: something else than shapes is needed from before ``start``.
    """
    port = start if isinstance(start, Port) else Port(entry)
    graph.types[port] = graph.types[start]
    above = {start}
    for value in walk([end], inputs_of):
        if not above.isdisjoint(inputs_of(value)):
            above.add(value)

    def needs(value: Value) -> tuple[Value, ...]:
        return () if value is start or _looks_back(value, above) else inputs_of(value)

    rebased: dict[Value, Value] = {start: port}
    for value in walk([end], needs):
        if value is start:
            continue
        if isinstance(value, Port) and value.name in sides:
            rebased[value] = value
        elif isinstance(value, Port):
            raise InvalidSegment(
                f"{value.name!r} passes around a cut; cut where one tensor carries everything"
            )
        elif isinstance(value, Weight):
            rebased[value] = value
        elif _looks_back(value, above):
            rebased[value] = _shape_from(graph, value, port)
        else:
            rebased[value] = _with_inputs(graph, value, rebased)
    return rebased[end]


def _looks_back(value: Value, above: set[Value]) -> bool:
    """Say whether a value is the shape of something that does not depend on the cut's tensor."""
    return isinstance(value, Result) and value.call.operator == "Shape" and above.isdisjoint(inputs_of(value))


def _with_inputs(graph: Graph, result: Result, rebased: dict[Value, Value]) -> Value:
    call = result.call
    inputs = [None if value is None else rebased[value] for value in call.inputs]
    moved = graph.call(call.operator, inputs, call.attributes, call.domain, call.outputs)[result.index]
    if result in graph.types:
        graph.types.setdefault(moved, graph.types[result])
    return moved


def _shape_from(graph: Graph, value: Result, port: Port) -> Value:
    """Compute a ``Shape`` of an earlier tensor from the port and what is known about both."""
    call = value.call
    (source,) = inputs_of(value)
    known = graph.types.get(source)
    if known is None:
        raise InvalidSegment("the shape of a tensor before a cut is needed behind it, and it is not known")
    first, last = call.attribute("start", 0), call.attribute("end", len(known.shape))
    axes = {size: axis for axis, size in enumerate(graph.types[port].shape) if isinstance(size, str)}
    sizes = known.shape[first:last]
    if unknown := [size for size in sizes if isinstance(size, str) and size not in axes]:
        raise InvalidSegment(
            f"{unknown[0]!r} varies before a cut and is no dimension of what the cut carries"
        )
    if all(isinstance(size, int) for size in sizes):
        return graph.integers([size for size in sizes if isinstance(size, int)])
    parts = [
        graph.integers([size])
        if isinstance(size, int)
        else _vector(graph, "Shape", [port], 1, end=axes[size] + 1, start=axes[size])
        for size in sizes
    ]
    return parts[0] if len(parts) == 1 else _vector(graph, "Concat", parts, len(parts), axis=0)


def _vector(graph: Graph, operator: str, inputs: Sequence[Value], length: int, **attributes: int) -> Result:
    """Call an operator that returns an int64 vector of known length."""
    (result,) = graph.call(
        operator, inputs, [attribute(name, attributes[name]) for name in sorted(attributes)]
    )
    graph.types.setdefault(result, Type(TensorProto.INT64, (length,)))
    return result
