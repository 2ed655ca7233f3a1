"""Cut points of a timm network, derived from timm's own description.

timm lists over a thousand networks, and describes each by the modules at which its resolution or
its depth moves on (``feature_info``). They are named, ordered, the same everywhere, and nearly
always single tensors, so they need no balancing. The result is pinned like any other.
"""

from collections.abc import Sequence
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from adapters.sources.normalisation import Normalisation
from adapters.sources.partition import POOL, Paths, stage
from adapters.sources.pinned import Pinned
from registry.errors import InvalidValue

MOST_MARKS = 6
"""Marks that are all kept; of more, which is one for each block of a transformer, four are."""

STEM = 4
"""Reduction of the resolution below which a mark is part of the stem."""

SIDES = (32, 64, 128)
"""Sides in pixels that are tried as the smallest input, before that of the weights."""


def landmarks(network: nn.Module, cfg: Any) -> Pinned:
    """Return what to pin about a timm network.

    Stages end at the marks of ``feature_info`` that are past the stem; of more than six, at the
    end of each quarter. What holds layers between the last mark and the pooling is a stage more,
    and so is what holds layers above the pooling; without such, the last one is ``pool``.

    Args:
        network: a timm network with its classifier, on the meta device.
        cfg: its ``PretrainedCfg``.

    Raises:
        InvalidValue: torch's tracer cannot follow it, a mark does not carry the one live
            tensor, or it has no single output layer.
    """
    head = cfg.classifier
    if not isinstance(head, str) or not getattr(network, "feature_info", None):
        raise InvalidValue(f"{cfg.architecture} has no single output layer, or does not list its stages")
    try:
        cuts = _cuts(network, head)
        staged = stage(
            network,
            cuts,
            head,
            architecture=cfg.architecture,
            features_dim=0,
            input_size=cfg.input_size[1:],
            normalisation=Normalisation.of(cfg.mean, cfg.std),
        ).to("meta")
        features = _features(staged.stages, cfg.input_size)
    except InvalidValue:
        raise
    # A network that cannot be traced fails in any way that Python code can.
    except Exception as error:
        raise InvalidValue(f"{cfg.architecture} cannot be traced down to its stages: {error}") from error
    return Pinned(tuple(cuts), head, features.shape[1], _smallest(staged.stages, cfg))


def _cuts(network: nn.Module, head: str) -> list[str]:
    marks = _thin(_marks(network))
    holders = {path[:end] for path in (*marks, head) for end, letter in enumerate(path) if letter == "."}
    graph = Paths(lambda _, path: path in holders).trace(network.eval())
    calls = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    for path in (marks[-1], head):
        if path not in calls:
            raise InvalidValue(f"expected {type(network).__name__} to call {path!r}, it does not")
    above = calls[calls.index(marks[-1]) + 1 : calls.index(head)]
    if isinstance(network.get_submodule(head), nn.Conv2d):
        # A convolution of a pooled map classifies: it keeps that map, and other heads get its mean.
        return [*marks, above[-1], POOL]
    layered = [path for path in above if _has_layers(network, path)]
    pool = next((path for path in above if _is_pool(network, path)), None)
    if not layered:
        return [*marks, POOL]
    if pool is None or pool in layered:
        return [*marks, layered[-1]]
    below = above[: above.index(pool)]
    if any(path in layered for path in below):
        marks.append(below[-1])
    if layered[-1] in below:
        return [*marks, POOL]
    return [*marks, pool, layered[-1]]


def _marks(network: nn.Module) -> list[str]:
    info: Any = network.feature_info
    return [mark["module"] for mark in info if mark["reduction"] >= STEM] or [mark["module"] for mark in info]


def _thin(marks: list[str]) -> list[str]:
    if len(marks) <= MOST_MARKS:
        return marks
    return [marks[ceil(len(marks) * quarter / 4) - 1] for quarter in (1, 2, 3, 4)]


def _has_layers(network: nn.Module, path: str) -> bool:
    return any(isinstance(module, nn.Linear | nn.Conv2d) for module in network.get_submodule(path).modules())


def _is_pool(network: nn.Module, path: str) -> bool:
    return "Pool" in type(network.get_submodule(path)).__name__


def _features(stages: Sequence[nn.Module] | nn.ModuleList, size: tuple[int, int, int]) -> Tensor:
    """Run the stages without numbers, and return features; each has to leave one tensor."""
    value = torch.empty(2, size[1], size[2], size[0], dtype=torch.uint8, device="meta")
    for each in stages:
        value = each(value)
        if not isinstance(value, Tensor):
            raise InvalidValue("a stage leaves more than one tensor")
    if value.ndim != 2 or value.shape[0] != 2:
        raise InvalidValue(f"expected features [N, D], got {list(value.shape)}")
    return value


def _smallest(stages: Sequence[nn.Module] | nn.ModuleList, cfg: Any) -> int:
    """Find the smallest input that goes through; that of the weights where their size is fixed."""
    own: int = min(cfg.input_size[1:])
    if not cfg.fixed_input_size:
        for side in SIDES:
            if side < own:
                try:
                    _features(stages, (cfg.input_size[0], side, side))
                except Exception:
                    continue
                return side
    return own
