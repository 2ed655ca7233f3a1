"""Published weights, read from files that are already on this machine."""

import hashlib
import re
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from registry.errors import SourceUnavailable

_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors from a ``.safetensors`` file.

    Raises:
        SourceUnavailable: the file cannot be read, or holds something else.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise SourceUnavailable(
            f"expected {path} to be a whole safetensors file: {error}; fetch it again"
        ) from error


def read_checkpoint(path: Path, origin: str) -> dict[str, Tensor]:
    """Read a state dictionary from torch's hub cache, without running what a pickle may hold.

    Args:
        path: the file, whose name holds the first digits of its sha256, as torch's hub has it.
        origin: address that the file is published under, for the message.

    Raises:
        SourceUnavailable: the file is not there, or holds something else.
    """
    if not path.is_file():
        raise SourceUnavailable(
            f"expected the weights {path.name} in {path.parent}, they are not there and nothing is downloaded; "
            f"fetch {origin} where there is a network and put it into that folder (TORCH_HOME moves it)"
        )
    expected = _HASH_IN_NAME.search(path.name)
    if expected is not None:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if not found.startswith(expected[1]):
            raise SourceUnavailable(
                f"expected {path} to have the sha256 {expected[1]}… that its name says, it has {found[:12]}…; "
                f"delete it and fetch {origin} again"
            )
    try:
        return cast(dict[str, Tensor], torch.load(path, map_location="cpu", weights_only=True))
    # What a broken file raises is up to zipfile, pickle and torch between them.
    except Exception as error:
        raise SourceUnavailable(
            f"expected {path} to hold named tensors and nothing else, it does not; delete it and fetch {origin} again"
        ) from error
