"""A stage's identity by what it holds, which no exporter's bytes enter."""

import hashlib

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from adapters.sources.stages import Stages
from registry.digests import PREFIX, Digest, canonical_json
from registry.errors import InvalidValue


def stage_weights_digest(stages: Stages, k: int) -> Digest:
    """Return the digest of stage ``k``: what makes it the same stage, whatever exporter writes it.

    Taken over the architecture, the stage's name, the input size, the normalisation where the
    stage begins with it, and name, dtype, shape and bytes of every parameter and buffer, sorted
    by name. A trunk that was exported before is found by it, and spaces are built of it.
    """
    state = hashlib.sha256()
    normalisation = stages.normalisation if k == 0 else None
    header = {
        "architecture": stages.architecture,
        "stage": stages.names[k],
        "input_size": list(stages.input_size),
        "mean": list(normalisation.mean) if normalisation else None,
        "std": list(normalisation.std) if normalisation else None,
    }
    state.update(canonical_json(header))
    _update(state, stages.stages[k])
    return Digest(PREFIX + state.hexdigest())


def head_weights_digest(head: torch.nn.Module, architecture: str) -> Digest:
    """Return the digest of a head: its architecture's name, and its parameters and buffers as above."""
    state = hashlib.sha256(canonical_json({"architecture": architecture}))
    _update(state, head)
    return Digest(PREFIX + state.hexdigest())


def holds_weights(stages: Stages, k: int) -> bool:
    """Say whether stage ``k`` has any parameters or buffers: pooling has none."""
    return bool(_tensors(stages.stages[k]))


def state_bytes(stages: Stages, k: int) -> bytes:
    """Return the parameters and buffers of stage ``k`` by name, as a safetensors file; equal ones as equal bytes."""
    tensors = _tensors(stages.stages[k])
    return save({name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)})


def fill_state(stages: Stages, k: int, data: bytes) -> None:
    """Put stored parameters and buffers into stage ``k``.

    Raises:
        InvalidValue: the bytes hold others than the stage has.
    """
    tensors = _tensors(stages.stages[k])
    try:
        stored = load(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise InvalidValue(f"expected the stored state of the stage {stages.names[k]!r}; {error}") from error
    if {name: tensor.shape for name, tensor in stored.items()} != {
        name: each.shape for name, each in tensors.items()
    }:
        raise InvalidValue(f"expected the stored state of the stage {stages.names[k]!r}, got that of another")
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(stored[name])


def _tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict(module.named_parameters()) | dict(module.named_buffers())


def _update(state: "hashlib._Hash", module: torch.nn.Module) -> None:
    """Hash a module's parameters and buffers, each after a header of its own."""
    tensors = _tensors(module)
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        header = {"name": name, "dtype": str(tensor.dtype), "shape": list(tensor.shape)}
        state.update(canonical_json(header))
        state.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
