"""Loads a checkpoint into transformers' own network, with nothing missing and nothing run."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig
from transformers.utils import logging

from adapters.sources.hf.folder import CONFIG, Folder
from registry.digests import PREFIX, Digest
from registry.errors import SourceUnavailable, UnknownSource

_SPARE = ("pooler.", "mask_token")
"""Weights that no stage uses."""


def read_config(folder: Folder) -> Any:
    """Return a checkpoint's configuration.

    Raises:
        UnknownSource: transformers cannot read it, or it is of a model with code of its own.
    """
    kind = folder.json(CONFIG).get("model_type")
    if not isinstance(kind, str):
        raise UnknownSource(f"expected a model_type in {folder.path / CONFIG}, there is none")
    try:
        return AutoConfig.from_pretrained(folder.path, local_files_only=True, trust_remote_code=False)
    # What a wrong configuration raises is up to transformers.
    except Exception as error:
        raise UnknownSource(f"expected a configuration in {folder.path / CONFIG}: {error!s:.300}") from error


def architecture_of(config: Any, names: Sequence[str]) -> str:
    """Name a design: what weights do not tell, such as the number of heads, is part of it.

    Args:
        config: transformers' configuration.
        names: of the values in it that say what the network computes.
    """
    values = {name: getattr(config, name) for name in names}
    return f"hf/{config.model_type}/{Digest.of_json(values).removeprefix(PREFIX)[:12]}"


def load_checkpoint(auto: Any, folder: Folder, config: Any, seed: int | None) -> nn.Module:
    """Return transformers' network, float32, with the checkpoint's weights or random ones.

    Args:
        auto: transformers' class that chooses the network.
        folder: the checkpoint.
        config: its configuration.
        seed: None for the checkpoint's weights.

    Raises:
        SourceUnavailable: there are no weights in the safetensors format, they are broken, or some
            that the network needs are missing.
    """
    if seed is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network: nn.Module = auto.from_config(config, dtype=torch.float32, trust_remote_code=False)
        return network.eval()
    folder.check_weights()
    try:
        with quiet():
            network, found = auto.from_pretrained(
                folder.path,
                config=config,
                dtype=torch.float32,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    # What broken weights raise is up to transformers and safetensors between them.
    except Exception as error:
        raise SourceUnavailable(
            f"expected the weights of {folder.name} in {folder.path}: {error!s:.300}"
        ) from error
    missing = [key for key in found["missing_keys"] if not any(part in key for part in _SPARE)]
    if missing or found["mismatched_keys"]:
        raise SourceUnavailable(
            f"expected all weights of {folder.name} in {folder.path}, {len(missing) or 'some'} are missing or of "
            f"another shape: {', '.join(sorted(missing)[:3])}; fetch it again"
        )
    return network.eval()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from drawing a progress bar, and from reporting on weights that are not used."""
    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # theirs has no types
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # theirs has no types
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]  # theirs has no types
