"""Files of weights, read without running any code in them."""

import argparse
import hashlib
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from registry.errors import SourceUnavailable, UnknownSource
from registry.quoting import quoted, shortened

SAFETENSORS = ".safetensors"
PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".tar")
"""What ``torch.save`` writes; ``.tar`` as in ``model_best.pth.tar``."""

MAX_BYTES = 64 << 30
"""Largest file of weights, checked before it is read: about eight times the largest image network in use."""

_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")


def names_file(text: str) -> bool:
    """Say whether what stands behind ``@`` in a spec names a file: it has a slash or a suffix.

    No name of published weights has either.
    """
    return "/" in text or "\\" in text or "." in text


def check_file(name: str, form: str) -> Path:
    """Return the path of a file of weights, by its name; ``~`` is the home folder.

    Args:
        name: what stands behind ``@`` in a spec.
        form: what the spec looks like, for the message.

    Raises:
        UnknownSource: its suffix is of no format that is read.
    """
    path = Path(name).expanduser()
    if path.suffix.lower() not in (SAFETENSORS, *PICKLES):
        raise UnknownSource(
            f"expected {form} with a file of weights ({', '.join((SAFETENSORS, *PICKLES))}), got {quoted(name, 200)}"
        )
    return path


def read_own(path: Path) -> Mapping[object, object]:
    """Read a file that somebody has saved: named tensors, and whatever plain values stand beside them.

    A ``.safetensors`` file holds named tensors alone. Of what ``torch.save`` wrote, tensors, numbers, texts,
    lists and mappings are read, and the settings of a command line (``argparse.Namespace``, which
    training scripts keep there). Anything else would be code. Tensors may lie in the file until they are used.

    Raises:
        SourceUnavailable: there is no such file, it is too large, damaged, or holds something else.
    """
    if not path.is_file():
        raise SourceUnavailable(f"expected a file of weights at {path}, there is no such file")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise SourceUnavailable(f"{path} has {size:,} bytes; a file of weights has at most {MAX_BYTES:,}")
    if path.suffix.lower() == SAFETENSORS:
        return cast(Mapping[object, object], read_safetensors(path))
    try:
        archive = zipfile.is_zipfile(path)
        if archive:
            _check_archive(path, size)
        with torch.serialization.safe_globals([argparse.Namespace]):
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except SourceUnavailable:
        raise
    # What a broken file raises is up to zipfile, pickle and torch between them.
    except Exception as error:
        raise SourceUnavailable(f"{path}: {_cause(error)}") from error
    if not isinstance(found, Mapping):
        raise SourceUnavailable(
            f"{path} holds one {type(found).__name__}; expected named tensors, as state_dict() gives them"
        )
    return found


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors from a ``.safetensors`` file.

    Raises:
        SourceUnavailable: the file cannot be read, or holds something else.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise SourceUnavailable(
            f"expected {path} to be a whole safetensors file: {shortened(error)}; fetch it again"
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


def _check_archive(path: Path, size: int) -> None:
    """Refuse an archive whose entries are compressed or overlap: torch writes neither, and both hide their size."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise SourceUnavailable(f"{path} is compressed, which torch.save never does; save state_dict() again")
    if sum(entry.file_size for entry in entries) > size:
        raise SourceUnavailable(f"{path} declares more bytes than it has; save state_dict() again")


def _cause(error: Exception) -> str:
    """Say what is wrong with a file that torch could not read."""
    if found := _GLOBAL.search(str(error)):
        return (
            f"it holds an object of {shortened(found[1], 100)}, which would have to be run; "
            "save model.state_dict() alone, or as .safetensors"
        )
    if "TorchScript" in str(error):
        return "it is a TorchScript program, which would have to be run; save model.state_dict() alone"
    return "it is no whole file of torch.save; expected named tensors and nothing else; save model.state_dict() again"
