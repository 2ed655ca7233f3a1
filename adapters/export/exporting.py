"""Export of stages: the network is exported once as a whole and then cut into segments."""

import contextlib
import copy
import inspect
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from adapters.export.cutting import cut
from adapters.export.heads import linear_head
from adapters.readout import MASK, readout
from adapters.sources.stages import CARRIED, EXAMPLE_LENGTH, Stages
from adapters.sources.weights import head_weights_digest, stage_weights_digest
from registry.digests import Digest
from registry.errors import InvalidSegment
from registry.progress import SILENT, Progress
from registry.segments import Detached, canonical, to_bytes
from registry.segments.encoding import INLINE_BYTES
from registry.segments.graph import OPSET

_M = TypeVar("_M", bound=nn.Module)

ENTRY = CARRIED
EXIT = "h_out"
FEATURES = "features"
LOGITS = "logits"


@dataclass(frozen=True, slots=True)
class Exported:
    """One exported segment.

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


def export(stages: Stages, first: int = 0, progress: Progress = SILENT) -> list[Exported]:
    """Export the stages from one of them on, one segment each.

    Exported together in one go, with every carried tensor as an output, and cut there: the
    segments are the same as those of any other export that includes them. Carried tensors are
    made contiguous, as a segment's input is; a network that permutes (ConvNeXt, Swin) would
    otherwise be exported with strides that its next stage alone never sees.

    Args:
        stages: the network; exported in eval mode, and left in the modes that it was in.
        first: the first stage to export; those below were exported before.
        progress: shows the progress.

    Returns:
        For each stage a segment: the first of the network takes its first field, the others ``h``,
        and each its sides; the last leaves ``features``, the others ``h_out``.

    Raises:
        InvalidSegment: a stage cannot be written as a segment.
    """
    if not 0 <= first < len(stages):
        raise InvalidSegment(f"{stages.architecture} has the stages 0 to {len(stages) - 1}, got {first}")
    names = stages.names[first:]
    taps = [f"tap:{name}" for name in names]
    sides = list(dict.fromkeys(name for names in stages.sides[first:] for name in names))
    with progress.step("tracing the network"), _evaluating(stages) as network:
        example = _example(network, first)
        entry = entry_port(stages, first)
        model = to_onnx(
            _Taps(network, first, sides),
            [example[name] for name in (entry, *sides)],
            [entry, *sides],
            taps,
            [entry, *sides] if _varying(network, first) else sides,
        )
    exits = [exit_port(stages, k) for k in range(first, len(stages))]
    models = cut(model, taps, ENTRY, exits, sides)
    exported = []
    with progress.step("cutting segments", len(names)) as step:
        for k, (name, data, exit_) in enumerate(zip(names, models, exits, strict=True), start=first):
            exported.append(Exported(name, data, stage_weights_digest(stages, k), wires(stages, k), (exit_,)))
            step.advance()
    return exported


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
            example = _example(below, after)[ENTRY]
            model = canonical(
                to_onnx(module, [example], [port], [LOGITS], [port] if _varying(below, after) else [])
            )
    weights = head_weights_digest(head, stages.architecture)
    wire = f"{stages.names[after - 1]}:{FEATURES if on_features else EXIT}"
    return Exported(name, model, weights, {port: wire}, (LOGITS,))


def export_readout(stages: Stages, boundaries: Sequence[int], name: str = "readout") -> Exported:
    """Export the segment that makes features of what the stages below some boundaries leave.

    Args:
        stages: what it stands on.
        boundaries: 1 to ``len(stages)``, ascending.
        name: the segment's name.
    """
    module = readout(stages, boundaries).eval()
    ports = [f"{ENTRY}{number}" for number in range(len(boundaries))]
    with _evaluating(stages) as below:
        carried = [_example(below, boundary)[ENTRY] for boundary in boundaries]
    fields = stages.example()
    masks = [MASK] if module.masked else []
    varying = [port for port, boundary in zip(ports, boundaries, strict=True) if _varying(stages, boundary)]
    examples = [*carried, *(fields[mask] for mask in masks)]
    model = to_onnx(module, examples, [*ports, *masks], [FEATURES], [*varying, *masks])
    feeds = {
        port: f"{stages.names[boundary - 1]}:{exit_port(stages, boundary - 1)}"
        for port, boundary in zip(ports, boundaries, strict=True)
    }
    feeds |= {mask: f"recipe:{mask}" for mask in masks}
    weights = Digest.of_json(
        {"architecture": stages.architecture, "readout": [pool.layout for pool in module.pools]}
    )
    return Exported(name, canonical(model), weights, feeds, (FEATURES,))


class _Taps(nn.Module):
    """Returns what every stage leaves, from one of them on."""

    def __init__(self, stages: Stages, first: int, sides: Sequence[str]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(list(stages.stages)[first:])
        self._places = [[sides.index(name) for name in names] for names in stages.sides[first:]]

    def forward(self, value: Tensor, *sides: Tensor) -> tuple[Tensor, ...]:
        taps = []
        for stage, places in zip(self.stages, self._places, strict=True):
            value = stage(value, *(sides[place] for place in places)).contiguous()
            taps.append(value)
        return tuple(taps)


def to_onnx(
    module: nn.Module,
    example: Sequence[Tensor],
    entries: Sequence[str],
    outputs: Sequence[str],
    varying: Collection[str] = (),
) -> Detached:
    """Return what torch's exporter makes of a module in eval mode, optimised, as views of its weights.

    Args:
        module: takes tensors one after another; set to eval mode.
        example: what it takes, batch first, two rows or more.
        entries: the inputs' names.
        outputs: the outputs' names.
        varying: the inputs whose second dimension, that of a text's tokens, varies too.
    """
    # Two seconds of imports, sympy's among them, that a trunk already in the store does without.
    import onnx_ir

    batch, length = torch.export.Dim("batch"), torch.export.Dim("seq")
    shapes = tuple({0: batch, 1: length} if name in varying else {0: batch} for name in entries)
    with warnings.catch_warnings():
        # Inputs that have a dimension in common give it one name, as they are meant to.
        warnings.filterwarnings("ignore", "# The axis name: ", UserWarning)
        program = torch.onnx.export(
            module.eval(),
            tuple(example),
            dynamo=True,
            optimize=True,
            opset_version=OPSET,
            input_names=list(entries),
            output_names=list(outputs),
            dynamic_shapes=_shapes(module, shapes),
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
    main = {ENTRY: f"{stages.names[k - 1]}:{EXIT}"} if k else {stages.entry: f"recipe:{stages.entry}"}
    return main | {name: f"recipe:{name}" for name in stages.sides[k]}


def entry_port(stages: Stages, k: int) -> str:
    """Return the port by which the carried tensor, or the network's first field, enters stage ``k``."""
    return ENTRY if k else stages.entry


def exit_port(stages: Stages, k: int) -> str:
    """Return the output port of stage ``k``."""
    return FEATURES if k == len(stages) - 1 else EXIT


def _example(stages: Stages, k: int, length: int = EXAMPLE_LENGTH) -> dict[str, Tensor]:
    """Return fields, and as ``h`` a tensor like those that enter stage ``k``, contiguous."""
    fields = stages.example(length)
    with torch.no_grad():
        return fields | {ENTRY: stages.run(fields[stages.entry], stop=k, sides=fields).contiguous()}


def _varying(stages: Stages, k: int) -> bool:
    """Say whether what enters stage ``k`` is as long as its text."""
    if all(isinstance(size, int) for spec in stages.inputs for size in spec.shape[1:]):
        return False
    short, long = (
        _example(stages, k, length)[ENTRY].shape for length in (EXAMPLE_LENGTH, 2 * EXAMPLE_LENGTH)
    )
    return short != long


def _shapes(module: nn.Module, shapes: tuple[Mapping[int, object], ...]) -> tuple[object, ...]:
    """Return the shapes as torch's exporter wants them: those of ``*arguments`` in a tuple of their own."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    single = [each for each in parameters if each.kind is not each.VAR_POSITIONAL]
    if len(single) == len(parameters) or len(shapes) <= len(single):
        return shapes
    return (*shapes[: len(single)], tuple(shapes[len(single) :]))


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
