"""Exports stages: once, as a whole, and then cut, so that every segment is what the exporter sees in it."""

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import onnx_ir
import torch
from torch import Tensor, nn

from adapters.export.cutting import cut
from adapters.export.heads import linear_head
from adapters.sources.stages import Stages
from adapters.sources.weights import head_weights_digest, stage_weights_digest
from registry.digests import Digest
from registry.errors import InvalidSegment
from registry.segments import Detached, canonical, to_bytes
from registry.segments.encoding import INLINE_BYTES
from registry.segments.graph import OPSET

_M = TypeVar("_M", bound=nn.Module)

PIXELS = "pixels"
ENTRY = "h"
EXIT = "h_out"
FEATURES = "features"
LOGITS = "logits"

EXAMPLE_BATCH = 2
"""Rows of the traced example. One row would be taken for a constant."""


@dataclass(frozen=True, slots=True)
class Exported:
    """One segment of a version in the making.

    Attributes:
        name: the stage's name, or the head's.
        model: canonical bytes.
        weights: digest of what the stage holds, whatever exporter wrote it.
        inputs: for each input port its wire, ``recipe:FIELD`` or ``SEGMENT:OUTPUT``.
        outputs: the output ports.
    """

    name: str
    model: bytes = field(repr=False)
    weights: Digest
    inputs: Mapping[str, str]
    outputs: tuple[str, ...]

    @property
    def digest(self) -> Digest:
        """The digest of the bytes."""
        return Digest.of(self.model)


def export(stages: Stages, first: int = 0) -> list[Exported]:
    """Export the stages from one of them on, one segment each.

    Exported together in one go, with every carried tensor as an output, and cut there: the
    segments are the same as those of any other export that includes them. Carried tensors are
    made contiguous, as a segment's input is; a network that permutes (ConvNeXt, Swin) would
    otherwise be exported with strides that its next stage alone never sees.

    Args:
        stages: the network; exported in eval mode, and left in the modes that it was in.
        first: the first stage to export; those below were exported before.

    Returns:
        For each stage a segment: the first of the network takes ``pixels``, the others ``h``;
        the last leaves ``features``, the others ``h_out``.

    Raises:
        InvalidSegment: a stage cannot be written as a segment.
    """
    if not 0 <= first < len(stages):
        raise InvalidSegment(f"{stages.architecture} has the stages 0 to {len(stages) - 1}, got {first}")
    names = stages.names[first:]
    taps = [f"tap:{name}" for name in names]
    with _evaluating(stages) as network:
        example = _example(network, first)
        model = to_onnx(_Taps(list(network.stages)[first:]), example, ENTRY if first else PIXELS, taps)
    exits = [exit_port(stages, k) for k in range(first, len(stages))]
    models = cut(model, taps, ENTRY, exits)
    return [
        Exported(name, data, stage_weights_digest(stages, k), wires(stages, k), (exit_,))
        for k, (name, data, exit_) in enumerate(zip(names, models, exits, strict=True), start=first)
    ]


def export_head(stages: Stages, head: nn.Module, name: str = "head", after: int | None = None) -> Exported:
    """Export a head.

    A linear layer is written as one Gemm, without the exporter.

    Args:
        stages: what it stands on.
        head: takes what stage ``after - 1`` leaves and returns logits [N, C].
        name: the segment's name.
        after: number of stages below it; None for a head on features.
    """
    after = len(stages) if after is None else after
    on_features = after == len(stages)
    port = FEATURES if on_features else ENTRY
    if on_features and isinstance(head, nn.Linear):
        bias = head.bias if head.bias is not None else torch.zeros(head.out_features)
        model = linear_head(_array(head.weight), _array(bias))
    else:
        with _evaluating(stages) as below, _evaluating(head) as module:
            model = canonical(to_onnx(module, _example(below, after), port, [LOGITS]))
    weights = head_weights_digest(head, stages.architecture)
    wire = f"{stages.names[after - 1]}:{FEATURES if on_features else EXIT}"
    return Exported(name, model, weights, {port: wire}, (LOGITS,))


class _Taps(nn.Module):
    """Returns what every stage leaves."""

    def __init__(self, stages: Sequence[nn.Module]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(self, value: Tensor) -> tuple[Tensor, ...]:
        taps = []
        for stage in self.stages:
            value = stage(value).contiguous()
            taps.append(value)
        return tuple(taps)


def to_onnx(module: nn.Module, example: Tensor, entry: str, outputs: Sequence[str]) -> Detached:
    """Return what torch's exporter makes of a module in eval mode, optimised, as views of its weights.

    Args:
        module: takes one tensor; set to eval mode.
        example: what it takes, batch first, two rows or more.
        entry: the input's name.
        outputs: the outputs' names.
    """
    program = torch.onnx.export(
        module.eval(),
        (example,),
        dynamo=True,
        optimize=True,
        opset_version=OPSET,
        input_names=[entry],
        output_names=list(outputs),
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    assert program is not None
    weights: dict[str, np.ndarray] = {}
    for name, value in program.model.graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and tensor.nbytes > INLINE_BYTES:
            weights[name] = tensor.numpy()
            value.const_value = onnx_ir.ExternalTensor(
                name, None, None, tensor.dtype, shape=onnx_ir.Shape(weights[name].shape), name=name
            )
    return Detached(to_bytes(onnx_ir.to_proto(program.model)), weights)


def wires(stages: Stages, k: int) -> dict[str, str]:
    """Return the input ports of stage ``k`` and the wire that feeds each."""
    return {PIXELS: f"recipe:{PIXELS}"} if k == 0 else {ENTRY: f"{stages.names[k - 1]}:{EXIT}"}


def exit_port(stages: Stages, k: int) -> str:
    """Return the output port of stage ``k``."""
    return FEATURES if k == len(stages) - 1 else EXIT


def _example(stages: Stages, k: int) -> Tensor:
    """Return a tensor like those that enter stage ``k``, contiguous."""
    shape = (EXAMPLE_BATCH, *stages.input_size, stages.normalisation.channels)
    with torch.no_grad():
        return stages.run(torch.zeros(shape, dtype=torch.uint8), stop=k).contiguous()


def _array(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().cpu().float().numpy()
    return array


@contextlib.contextmanager
def _evaluating(module: _M) -> Iterator[_M]:
    """Give a module on the CPU in eval mode for a while: training mode exports random answers.

    A module that lives elsewhere is copied, so that what is exported depends on no device.
    """
    if any(tensor.device.type != "cpu" for tensor in (*module.parameters(), *module.buffers())):
        yield copy.deepcopy(module).cpu().eval()
        return
    modes = [(inner, inner.training) for inner in module.modules()]
    module.eval()
    try:
        yield module
    finally:
        for inner, training in modes:
            inner.training = training
