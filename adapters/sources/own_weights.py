"""Weights from a user's file: named tensors, matched to a network."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from adapters.sources.checkpoints import read_own
from registry.errors import SourceUnavailable
from registry.quoting import quoted, several

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Names that training scripts save a network's state under, beside its optimiser's."""

AVERAGED = ("state_dict_ema", "model_ema")
"""Names of averaged weights; taken where a file has none of :data:`WRAPPERS`."""

PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.")
"""What wrappers put before every name: data parallelism, compilation, Lightning, detectors; also one within another."""

DEEPEST = 4
"""Most prefixes, one within another."""

Rename = Callable[[str], str | None]
"""From a name in a file to the network's; None drops what only training uses."""


@dataclass(frozen=True, slots=True)
class OwnWeights:
    """A network that a file's tensors have been put into.

    Attributes:
        network: the network, filled; its output layer is of the file's size, or is not to be used.
        outputs: rows of the file's output layer; None where it has none that fits.
        remarks: what was taken, left out and stripped, a sentence each.
    """

    network: nn.Module
    outputs: int | None
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Misfit:
    """How a file's tensors differ from those that a network needs, below its output layer.

    Attributes:
        missing: names that the file lacks.
        unexpected: names that the network lacks.
        shapes: what differs in shape or type, a phrase each.
        present: how many of the names that the network needs the file has.
        needed: how many there are.
    """

    missing: Sequence[str]
    unexpected: Sequence[str]
    shapes: Sequence[str]
    present: int
    needed: int

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.shapes)

    def __str__(self) -> str:
        causes = []
        if not self.present:
            causes.append(f"none of its names is one of the {self.needed} that are needed")
        if self.shapes:
            causes.append(f"shapes differ: {several(self.shapes)}")
        if self.missing:
            causes.append(f"missing: {several(self.missing)}")
        if self.unexpected:
            causes.append(f"unexpected: {several(self.unexpected)}")
        return "; ".join(causes)


class MisfitError(SourceUnavailable):
    """A file's tensors are not those of the network.

    Attributes:
        tensors: the file's tensors, prefixes stripped as far as they matched.
        misfit: how they differ.
    """

    def __init__(self, message: str, tensors: dict[str, Tensor], misfit: Misfit) -> None:
        super().__init__(message)
        self.tensors = tensors
        self.misfit = misfit


def fill_own(path: Path, network: nn.Module, head: str, *, design: str, rename: Rename) -> OwnWeights:
    """Put a file's tensors into a network, its output layer of whatever size included.

    Below the output layer the file must have every tensor that the network needs, of its shape, and no other;
    counters of batches (``num_batches_tracked``), which older files lack, may be missing.

    Args:
        path: the file.
        network: the network, whatever its weights; it is filled in place.
        head: module path of its output layer.
        design: name of the network, for messages.
        rename: brings older names up to date.

    Raises:
        MisfitError: the tensors are another network's; the message says which names or shapes differ.
        SourceUnavailable: the file cannot be read, or its weights are ambiguous or not finite.
    """
    tensors, remarks = _unwrapped(path, read_own(path))
    prefix, tensors, outside = _stripped(path, tensors, network, head, design, rename)
    if prefix:
        remarks.append(f"stripped the prefix {prefix!r}")
    if outside:
        remarks.append(f"left out {several(outside)}, which lack that prefix")
    own = {name: tensors.pop(name) for name in list(tensors) if name.startswith(f"{head}.")}
    outputs = _fit_head(network, head, own)
    if outputs is not None:
        remarks.append(f"the output layer {head!r} has {outputs} rows")
        tensors |= own
    elif own:
        remarks.append(f"left out {several(own)}: no output layer that this network can have")
    else:
        remarks.append("there is no output layer")
    state = OrderedDict(tensors)
    # Names and shapes are those of today, so nothing is converted from an older version.
    state._metadata = network.state_dict()._metadata  # type: ignore[attr-defined]  # torch's own attribute
    network.load_state_dict(state, strict=False)
    _check_finite(path, network, tensors)
    return OwnWeights(network, outputs, tuple(f"{path.name}: {remark}" for remark in remarks))


def _unwrapped(path: Path, found: Mapping[object, object]) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors by name out of what may stand around them, and remarks on what was left out."""
    remarks = []
    for _ in range(DEEPEST):
        held = {name for name, value in found.items() if isinstance(name, str) and isinstance(value, Mapping)}
        wrappers = [name for name in WRAPPERS if name in held] or [name for name in AVERAGED if name in held]
        if len(wrappers) > 1:
            raise SourceUnavailable(
                f"{path} holds weights under {' and '.join(map(repr, wrappers))}; save only the one to use"
            )
        if not wrappers:
            break
        left = [name for name in found if name != wrappers[0]]
        remarks.append(f"took {wrappers[0]!r}" + (f", left out {several(map(str, left), 6)}" if left else ""))
        found = found[wrappers[0]]  # type: ignore[assignment]  # ``held`` is of mappings
    tensors = {
        name: each for name, each in found.items() if isinstance(name, str) and isinstance(each, Tensor)
    }
    if not tensors:
        raise SourceUnavailable(
            f"{path} holds no named tensors, but {several(map(str, found), 6) or 'nothing'}; "
            f"expected them at the top or under {', '.join((*WRAPPERS, *AVERAGED))}"
        )
    if other := [str(name) for name in found if name not in tensors]:
        remarks.append(f"left out {several(other)}, which are no tensors")
    return tensors, remarks


def _stripped(
    path: Path, tensors: Mapping[str, Tensor], network: nn.Module, head: str, design: str, rename: Rename
) -> tuple[str, dict[str, Tensor], list[str]]:
    """Find the prefix under which the names are the network's; return it, the tensors, and names without it."""
    expected = network.state_dict()
    found = []
    for prefix in _prefixes(tensors):
        inside = _renamed(tensors, prefix, rename)
        found.append((prefix, inside, misfit(inside, expected, head)))
    whole = [each for each in found if not each[2].missing]
    if len(whole) > 1:
        raise SourceUnavailable(
            f"{path} holds the weights of {design} more than once, under the prefixes "
            f"{' and '.join(repr(prefix) for prefix, *_ in whole)}; save only the ones to use"
        )
    prefix, inside, differs = whole[0] if whole else max(found, key=lambda each: each[2].present)
    if differs:
        raise MisfitError(
            f"{differs}; in {path}, as the weights of {design}{_elsewhere(tensors, expected, differs)}",
            inside,
            differs,
        )
    return prefix, inside, [name for name in tensors if not name.startswith(prefix)]


def _prefixes(names: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield every chain of prefixes that a name begins with, the empty one first."""
    chains = [""]
    for depth in range(DEEPEST + 1):
        yield from chains
        if depth < DEEPEST:
            chains = [
                chain + prefix
                for chain in chains
                for prefix in PREFIXES
                if any(name.startswith(chain + prefix) for name in names)
            ]


def _renamed(tensors: Mapping[str, Tensor], prefix: str, rename: Rename) -> dict[str, Tensor]:
    inside = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix) and (ours := rename(name.removeprefix(prefix))) is not None:
            inside[ours] = tensor
    return inside


def misfit(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], head: str) -> Misfit:
    """Compare a file's tensors with a network's state, below the output layer ``head``."""
    below = {name: each for name, each in expected.items() if not name.startswith(f"{head}.")}
    needed = [name for name in below if not name.endswith("num_batches_tracked")]
    return Misfit(
        missing=[name for name in needed if name not in tensors],
        unexpected=[name for name in tensors if name not in below and not name.startswith(f"{head}.")],
        shapes=[
            f"{name} is {_form(tensors[name])} and has to be {_form(each)}"
            for name, each in below.items()
            if name in tensors and not _alike(tensors[name], each)
        ],
        present=sum(name in tensors for name in needed),
        needed=len(needed),
    )


def _alike(tensor: Tensor, expected: Tensor) -> bool:
    return (
        tensor.shape == expected.shape
        and tensor.is_floating_point() == expected.is_floating_point()
        and tensor.layout == expected.layout
        and not tensor.is_meta
    )


def _form(tensor: Tensor) -> str:
    form = f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
    return f"{form} without values" if tensor.is_meta else form


def _elsewhere(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], differs: Misfit) -> str:
    """Name the prefix of another kind under which the names would be the network's, where there is one."""
    first = differs.missing[0] if differs.missing else None
    for name in tensors:
        if first is not None and name.endswith(f".{first}"):
            prefix = name.removesuffix(first)
            if all(f"{prefix}{each}" in tensors for each in differs.missing):
                return f"; they are there under the prefix {quoted(prefix)}: save them without it"
    return ""


def _fit_head(network: nn.Module, head: str, own: Mapping[str, Tensor]) -> int | None:
    """Give a network an output layer of the file's size; return its rows, or None where none can be made."""
    # SqueezeNet's is a convolution among modules without weights.
    layers = [
        name
        for name, each in network.get_submodule(head).named_modules()
        if [*each.parameters(recurse=False)]
    ]
    place = f"{head}.{layers[0]}".rstrip(".") if len(layers) == 1 else head
    weight, bias = own.get(f"{place}.weight"), own.get(f"{place}.bias")
    layer = network.get_submodule(place)
    if weight is None or len(own) > 1 + (bias is not None) or not weight.is_floating_point():
        return None
    rows = len(weight) if weight.ndim else 0
    if not rows or (bias is not None and bias.shape != (rows,)):
        return None
    made: nn.Module
    with torch.device("meta"):
        if (
            isinstance(layer, nn.Conv2d)
            and layer.kernel_size == (1, 1)
            and weight.shape[1:] == layer.weight.shape[1:]
        ):
            made = nn.Conv2d(layer.in_channels, rows, 1, bias=bias is not None)
        elif isinstance(layer, nn.Linear) and weight.shape[1:] == layer.weight.shape[1:]:
            made = nn.Linear(layer.in_features, rows, bias=bias is not None)
        elif isinstance(layer, nn.Identity) and weight.ndim == 2:
            made = nn.Linear(weight.shape[1], rows, bias=bias is not None)
        else:
            return None
    network.set_submodule(place, made.to_empty(device="cpu"))
    return rows


def _check_finite(path: Path, network: nn.Module, names: Mapping[str, Tensor]) -> None:
    state = network.state_dict()
    broken = [name for name in names if not bool(torch.isfinite(state[name]).all())]
    if broken:
        raise SourceUnavailable(
            f"{several(broken)} in {path} have values that are not finite in float32; "
            "the training that wrote them diverged: take an earlier checkpoint"
        )
