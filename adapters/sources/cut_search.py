"""Proposes where to cut a network; the proposal is then pinned as data of its source.

Balancing is not a stable rule (a changed penalty moves cuts), so this is only run by hand: a source uses its
pinned list.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import ceil, inf
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from adapters.sources.partition import POOL, Paths
from registry.errors import InvalidValue

LEAST_SHARE = 0.05
"""Part of a network's weights and work that is worth a stage of its own."""

_POOLING_FUNCTIONS = {"adaptive_avg_pool2d", "avg_pool2d", "mean", "getitem"}


@dataclass(frozen=True, slots=True)
class CutProposal:
    """What a source pins about a network.

    Attributes:
        cuts: module paths, each of which ends a stage, and the last stage's name.
        head: module path of the output layer.
        dimension: length of a feature vector.
    """

    cuts: tuple[str, ...]
    head: str
    dimension: int


@dataclass(frozen=True, slots=True)
class _Point:
    """A single tensor that everything passes through, at which modules end.

    Attributes:
        position: of its node in the graph.
        ended: paths of the modules that end here, the innermost first.
    """

    position: int
    ended: tuple[str, ...]

    @property
    def level(self) -> int:
        """How deep the largest of them is nested."""
        return self.ended[-1].count(".")


def propose_cuts(network: nn.Module, example: Tensor, count: int = 4) -> CutProposal:
    """Propose cuts at dominators that end a container or a pool, balanced in weights and work.

    Args:
        network: takes ``example`` and returns logits; may live on the meta device.
        example: float32 [N, C, H, W], N above 1.
        count: stages wanted below pooling; fewer where a network has fewer places.

    Raises:
        InvalidValue: the network has no output layer with weights, or no place to cut.
    """
    network.eval()
    tracer = _Deep()
    graph = tracer.trace(network)
    ShapeProp(fx.GraphModule(network, graph)).propagate(example)
    nodes: list[fx.Node] = list(graph.nodes)
    data = _data(nodes)
    points = list(_dominators(nodes, data, tracer))

    end = _find_head(network, nodes, data, tracer)
    places = [point for point in points if point.position < end.pooling]
    if not places:
        raise InvalidValue(f"{type(network).__name__} has no single tensor between modules to cut at")
    chosen = _choose(places, _costs(network, nodes)[: end.pooling], count)
    cuts = [_outermost(point, chosen, end.head) for point in chosen]
    hidden = sum(_weights(network, node) for node in nodes[end.pooling + 1 : end.position])
    above = [tracer.path_of[node] for node in nodes[end.pooling : end.position] if node.op == "call_module"]
    if hidden > 4 * end.dimension:  # more than a norm: layers that are worth retraining by themselves
        cuts += [above[0], above[-1]]
    else:
        pools_by_module = end.pooling < end.position and nodes[end.pooling].op == "call_module"
        cuts.append(above[0] if pools_by_module else POOL)
    return CutProposal(tuple(cuts), end.head, end.dimension)


@dataclass(frozen=True, slots=True)
class _End:
    """Where a network stops being a trunk.

    Attributes:
        head: module path of the output layer.
        position: of the node that calls it.
        pooling: position of the node that turns a map into a vector; that of the head itself
            where a convolution classifies the map.
        dimension: length of a feature vector.
    """

    head: str
    position: int
    pooling: int
    dimension: int


def _find_head(network: nn.Module, nodes: Sequence[fx.Node], data: set[fx.Node], tracer: Paths) -> _End:
    last = max(i for i, node in enumerate(nodes) if _weights(network, node) and node in data)
    path = str(nodes[last].target)
    layer = network.get_submodule(path)
    if isinstance(layer, nn.Linear):
        pooling = max(
            (i for i in range(last) if nodes[i] in data and _pools(network, nodes[i])), default=last
        )
        return _End(path, last, pooling, layer.in_features)
    container = path.split(".")[0]
    start = min(i for i, node in enumerate(nodes) if tracer.path_of[node].startswith(container))
    return _End(container, start, start, _shape(nodes[start - 1])[1])


class _Deep(Paths):
    """Traces down to torch's own layers and remembers every module that was called."""

    def __init__(self) -> None:
        super().__init__(lambda module, _: isinstance(module, nn.Sequential) or not _is_torch(module))
        self.called: set[str] = set()

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Remember the module, and trace into it or not."""
        self.called.add(self.path_of_module(m))
        return super().call_module(m, forward, args, kwargs)


def _is_torch(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.nn")


def _data(nodes: Sequence[fx.Node]) -> set[fx.Node]:
    """Return the nodes whose value is a tensor that depends on what the input holds, not on its size."""
    data = set[fx.Node]()
    for node in nodes:
        # ShapeProp leaves "tensor_meta" on whatever gave tensors, alone or in a tuple.
        tensors = "tensor_meta" in node.meta
        if node.op == "placeholder" or (tensors and any(source in data for source in node.all_input_nodes)):
            data.add(node)
    return data


def _dominators(nodes: Sequence[fx.Node], data: set[fx.Node], tracer: _Deep) -> Iterator[_Point]:
    order = {node: i for i, node in enumerate(nodes)}
    final: dict[str, int] = {}
    for i, node in enumerate(nodes):
        if node in data and node.op != "output":
            for path in _prefixes(tracer.path_of[node]):
                final[path] = i
    live = set[fx.Node]()
    for i, node in enumerate(nodes):
        if node not in data:
            continue
        live.add(node)
        live = {
            n
            for n in live
            if any((order[user] > i and user in data) or user.op == "output" for user in n.users)
        }
        ended = tuple(p for p in _prefixes(tracer.path_of[node]) if final.get(p) == i and p in tracer.called)
        module = tracer.root.get_submodule(ended[0]) if ended else None
        container = len(ended) > 1 or (module is not None and not _is_torch(module))
        if live == {node} and module is not None and (container or "Pool" in type(module).__name__):
            yield _Point(i, ended)


def _prefixes(path: str) -> list[str]:
    """List a path and the paths of the modules that hold it, the innermost first, without the root."""
    parts = path.split(".") if path else []
    return [".".join(parts[:n]) for n in range(len(parts), 0, -1)]


def _weights(network: nn.Module, node: fx.Node) -> int:
    """Count the parameters that a node reads."""
    if node.op == "call_module":
        return sum(parameter.numel() for parameter in network.get_submodule(str(node.target)).parameters())
    if node.op == "get_attr":
        holder, _, name = str(node.target).rpartition(".")
        value = getattr(network.get_submodule(holder), name)
        return value.numel() if isinstance(value, nn.Parameter) else 0
    return 0


def _pools(network: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return "Pool" in type(network.get_submodule(str(node.target))).__name__
    name = getattr(node.target, "__name__", str(node.target))
    return name in _POOLING_FUNCTIONS


def _shape(node: fx.Node) -> torch.Size:
    shape: torch.Size = node.meta["tensor_meta"].shape
    return shape


def _costs(network: nn.Module, nodes: Sequence[fx.Node]) -> list[float]:
    """Return each node's share of the weights plus its share of the multiplications."""
    weights = [_weights(network, node) for node in nodes]
    work = [0.0] * len(nodes)
    for i, node in enumerate(nodes):
        if weights[i] and node.op == "call_module" and hasattr(node.meta.get("tensor_meta"), "shape"):
            shape = _shape(node)
            channels_last = len(shape) < 4 or isinstance(network.get_submodule(str(node.target)), nn.Linear)
            places = shape.numel() / shape[-1 if channels_last else 1]
            work[i] = places * weights[i]
    return [w / max(1, sum(weights)) + f / max(1.0, sum(work)) for w, f in zip(weights, work, strict=True)]


def _choose(points: Sequence[_Point], costs: Sequence[float], count: int) -> list[_Point]:
    """Choose about ``count`` points, shallow ones first; the last point is always one of them.

    Takes the fewest levels of nesting that offer enough points, balances over those, and then
    divides every stage that costs more than half of the whole at points inside it.
    """
    sums = [0.0, *accumulate(costs)]

    def cost(after: int, to: int) -> float:
        return (sums[to + 1] - sums[after + 1]) / sums[-1]

    level = sorted(point.level for point in points)[min(count, len(points)) - 1]
    chosen = []
    start = -1
    for point in _balance([p for p in points if p.level <= level or p is points[-1]], cost, start, count):
        inside = [p for p in points if start < p.position <= point.position]
        parts = ceil(2 * cost(start, point.position))
        chosen += _balance(inside, cost, start, parts)
        start = point.position
    return chosen


def _balance(
    points: Sequence[_Point], cost: Callable[[int, int], float], start: int, count: int
) -> list[_Point]:
    """Choose ``count`` points, the last one included, whose stages are as even as they can be.

    The sum of squared costs is made least, a stage below ``LEAST_SHARE`` counting as a whole
    network. Dynamic programming: ``best[j]`` is the (sum, chosen points) of the stages up to j.
    """

    def price(after: int, to: int) -> float:
        share = cost(after, to)
        return 1.0 if share < LEAST_SHARE else share**2

    best = [(price(start, point.position), [point]) for point in points]
    for _ in range(min(count, len(points)) - 1):
        best = [
            min(
                (
                    (best[i][0] + price(points[i].position, points[j].position), [*best[i][1], points[j]])
                    for i in range(j)
                ),
                key=lambda option: option[0],
                default=(inf, [points[j]]),
            )
            for j in range(len(points))
        ]
    return best[-1][1]


def _outermost(point: _Point, chosen: Sequence[_Point], head: str) -> str:
    """Name a point by the largest module that ends there and holds neither another cut nor the head."""
    inside = {
        p for other in chosen if other is not point for path in other.ended[:1] for p in _prefixes(path)
    }
    inside |= set(_prefixes(head))
    return next(path for path in reversed(point.ended) if path not in inside)
