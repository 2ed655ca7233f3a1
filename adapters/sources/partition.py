"""Turns a network into stages by tracing it down to its cut points, and no deeper.

Modules without a cut point stay intact, so code in them that depends on ``training`` (dropout, stochastic
depth, batch norm) still works in every stage.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import fx, nn

from adapters.sources.normalisation import Normalisation, Normalise
from adapters.sources.stages import Stages
from registry.errors import InvalidValue

POOL = "pool"
"""Name of a last stage whose pooling is a function, so that it has no module path."""


def stage(
    network: nn.Module,
    cuts: Sequence[str],
    head: str,
    *,
    architecture: str,
    features_dim: int,
    input_size: tuple[int, ...],
    normalisation: Normalisation | None,
) -> Stages:
    """Cut a network that takes float32 [N, C, H, W] and returns logits into stages.

    Args:
        network: the network; its parameters are shared, not copied, and it ends in eval mode.
        cuts: module paths in order, each of which ends a stage, then the last stage's name: a
            module path inside it, or ``pool``. The last stage ends where the head begins.
        head: module path of the output layer. Where what it takes is a map [N, C, H, W] (a
            convolutional classifier), ``cuts[-2]`` has to end there; the head is then all that
            follows, and the last stage is a global average pool of that map, made here.
        architecture: name of the network's design.
        features_dim: length of a feature vector.
        input_size: (height, width) in pixels that the weights were made for.
        normalisation: put before the network: the first stage takes uint8 [N, H, W, C].

    Raises:
        InvalidValue: a path is missing, is used more than once, does not carry the network's
            one live tensor, or the code between two cuts depends on the training mode.
    """
    if normalisation is None:
        raise InvalidValue(f"{architecture}: pictures are normalised; say how")
    graph = _trace(network, [*cuts, head])
    head_node = _call_of(graph, head)
    boundaries = [_call_of(graph, cut) for cut in cuts[:-1]]
    into_head = head_node.all_input_nodes[0]
    if boundaries and into_head is boundaries[-1]:
        inner, pool = boundaries, _MapPool()
    else:
        inner, pool = [*boundaries, into_head], None
    _check_last(network, cuts[-1], inner, graph)
    _check_dominance(graph, inner)
    _protect(inner)

    stages: OrderedDict[str, nn.Module] = OrderedDict()
    start = _input(graph)
    for name, end in zip(cuts, inner, strict=False):
        stages[name] = _between(network, graph, start, end)
        start = end
    if pool is not None:
        stages[cuts[-1]] = pool
    _begin_with(cast(fx.GraphModule, stages[cuts[0]]), Normalise(normalisation))
    output = next(node for node in reversed(graph.nodes) if node.op == "output")
    last = output.all_input_nodes[0]
    whole = last is head_node
    staged = Stages(
        architecture,
        stages,
        features_dim=features_dim,
        input_size=input_size,
        normalisation=normalisation,
        head=network.get_submodule(head) if whole else _between(network, graph, start, last),
        head_after=len(inner),
    )
    staged.eval()
    return staged


class Paths(fx.Tracer):
    """Traces into modules that a test lets through, and keeps all others whole.

    Attributes:
        path_of: the module that each node was recorded in, by its dotted path.
    """

    def __init__(self, enters: Callable[[nn.Module, str], bool]) -> None:
        super().__init__()
        self._enters = enters
        self._path = ""
        self.path_of: dict[fx.Node, str] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Keep a module whole unless the test lets the trace into it."""
        return not self._enters(m, module_qualified_name)

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        """Leave a network's options at their defaults, so that what is traced takes its input alone."""
        function, args = super().create_args_for_root(root_fn, is_module, concrete_args)
        for position, arg in enumerate(args):
            if isinstance(arg, fx.Proxy) and arg.node.args:
                (args[position],) = arg.node.args
                self.graph.erase_node(arg.node)
        return function, args

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Remember which module is being traced."""
        outer, self._path = self._path, self.path_of_module(m)
        try:
            return super().call_module(m, forward, args, kwargs)
        finally:
            self._path = outer

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """Remember where a node was recorded."""
        node = super().create_node(*args, **kwargs)
        self.path_of[node] = self._path
        return node


class _MapPool(nn.Module):
    """Averages a map [N, C, H, W] into a vector [N, C]."""

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return value.mean((2, 3))


def _trace(network: nn.Module, paths: Iterable[str]) -> fx.Graph:
    """Record the calls that a network makes on the way to the modules at some paths."""
    holders = {path[:end] for path in paths for end, letter in enumerate(path) if letter == "."}

    def trace(training: bool) -> fx.Graph:
        network.train(training)
        return Paths(lambda _, path: path in holders).trace(network)

    learning, graph = trace(True), trace(False)
    # A branch on ``self.training`` between two cuts would be frozen into the recorded code.
    if str(learning) != str(graph):
        raise InvalidValue(
            f"{type(network).__name__} runs other code in training than in eval mode between its cut points; "
            "cut it around the module that does, so that the module stays whole"
        )
    return graph


def _call_of(graph: fx.Graph, path: str) -> fx.Node:
    calls: list[fx.Node] = [n for n in graph.nodes if n.op == "call_module" and n.target == path]
    if len(calls) != 1:
        raise InvalidValue(
            f"expected a module {path!r} that the network calls once, it is called {len(calls)} times"
        )
    return calls[0]


def _input(graph: fx.Graph) -> fx.Node:
    inputs: list[fx.Node] = [node for node in graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise InvalidValue(f"expected a network of one input, this one takes {len(inputs)}")
    return inputs[0]


def _check_last(network: nn.Module, name: str, inner: Sequence[fx.Node], graph: fx.Graph) -> None:
    """Refuse a last name that is neither ``pool`` nor the path of a module in the last stage."""
    if name == POOL:
        return
    nodes = list(graph.nodes)
    after = nodes.index(inner[-2]) if len(inner) > 1 else 0
    if not any(node.target == name for node in nodes[after + 1 : nodes.index(inner[-1]) + 1]):
        raise InvalidValue(
            f"the last cut of {type(network).__name__} is a module after the one before it and below the head, "
            f"or {POOL!r}; got {name!r}"
        )


def _check_dominance(graph: fx.Graph, boundaries: Sequence[fx.Node]) -> None:
    """Refuse boundaries around which anything else than parameters passes."""
    order = {node: position for position, node in enumerate(graph.nodes)}
    for boundary in boundaries:
        crossing = [
            node
            for node in graph.nodes
            if node.op != "get_attr"
            and node is not boundary
            and order[node] < order[boundary]
            and any(order[user] > order[boundary] for user in node.users)
        ]
        if crossing:
            raise InvalidValue(
                f"a cut carries one tensor, but {', '.join(map(str, crossing))} pass around {boundary.target}; "
                "cut where no skip connection crosses"
            )


def _protect(boundaries: Sequence[fx.Node]) -> None:
    """Keep functions from writing into a carried tensor, which may be cached or another stage's result."""
    for boundary in boundaries:
        for user in list(boundary.users):
            if user.op == "call_function" and user.kwargs.get("inplace"):
                user.update_kwarg("inplace", False)


def _between(network: nn.Module, graph: fx.Graph, start: fx.Node, end: fx.Node) -> fx.GraphModule:
    """Return the part of a graph that leads from one node's value to another's."""
    part = fx.Graph()
    copies = {start: part.placeholder("h")}
    for node in _ancestors(start, end):
        copies[node] = part.node_copy(node, copies.__getitem__)
    part.output(copies[end])
    part.lint()
    return fx.GraphModule(network, part, class_name=f"{type(network).__name__}Stage")


def _ancestors(start: fx.Node, end: fx.Node) -> list[fx.Node]:
    """List in graph order what ``end`` is computed from, back to ``start`` (not included)."""
    wanted, pending = set[fx.Node](), [end]
    while pending:
        node = pending.pop()
        if node is not start and node not in wanted:
            wanted.add(node)
            pending.extend(node.all_input_nodes)
    return [node for node in end.graph.nodes if node in wanted]


def _begin_with(first: fx.GraphModule, normalise: nn.Module) -> None:
    """Let a stage normalise its input; its parameters keep their paths."""
    first.add_submodule("normalise", normalise)
    pixels = next(iter(first.graph.nodes))
    with first.graph.inserting_after(pixels):
        normalised = first.graph.call_module("normalise", (pixels,))
    pixels.replace_all_uses_with(normalised, delete_user_cb=lambda user: user is not normalised)
    first.recompile()
