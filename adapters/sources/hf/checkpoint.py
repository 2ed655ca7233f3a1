"""Loads a checkpoint into transformers' own network, with nothing missing and nothing run."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig
from transformers.utils import logging

from adapters.sources.hf.folder import CONFIG, ModelFolder
from registry.digests import PREFIX, Digest
from registry.errors import SourceUnavailable, UnknownSource
from registry.quoting import quoted, several, shortened

_NEVER_USED = "mask_token"
"""Part of the name of a weight that only training uses."""

_COUNTED = (".position_ids", ".token_type_ids")
"""Ends of the names of buffers that older versions saved: numbers that are counted up."""

_OTHER_HEADS = (
    "classifier",
    "cls",
    "cls_classifier",
    "decoder",
    "discriminator_predictions",
    "distillation_classifier",
    "generator_lm_head",
    "generator_predictions",
    "head",
    "lm_head",
    "pooler",
    "pre_classifier",
    "qa_outputs",
    "score",
    "vocab_layer_norm",
    "vocab_projector",
    "vocab_transform",
)
"""What transformers calls the layers above its encoders, which an encoder can do without."""

_BRINGING_CODE = (CONFIG, "tokenizer_config.json", "preprocessor_config.json", "processor_config.json")

_SINGLE_LABEL = (None, "single_label_classification")


def read_config(folder: ModelFolder) -> Any:
    """Return a checkpoint's configuration.

    Raises:
        UnknownSource: transformers cannot read it; or the model has code of its own, is a decoder, an adapter
            or quantized, or places its tokens in a way that its network no longer knows.
    """
    given = folder.json(CONFIG)
    if not isinstance(given.get("model_type"), str):
        raise UnknownSource(f"expected a model_type in {folder.path / CONFIG}, there is none")
    for reason in _reasons_against(folder, given):
        raise UnknownSource(f"{folder.name} {reason}")
    try:
        return AutoConfig.from_pretrained(folder.path, local_files_only=True, trust_remote_code=False)
    # What a wrong configuration raises is up to transformers.
    except Exception as error:
        raise UnknownSource(
            f"expected a configuration in {folder.path / CONFIG}: {shortened(error)}"
        ) from error


def _reasons_against(folder: ModelFolder, given: Mapping[str, Any]) -> Iterator[str]:
    """Yield why a checkpoint is refused by what its files say, before anything is loaded."""
    for name in _BRINGING_CODE:
        if folder.json(name).get("auto_map"):
            yield (
                f"brings code of its own (auto_map in {name}); models that bring code are refused, choose one of "
                "transformers' own classes"
            )
    if "auto_map" in given and given["auto_map"] is None:
        yield f"has an auto_map of null in {CONFIG}, which transformers cannot read; take it out"
    for name in ("is_decoder", "add_cross_attention", "is_encoder_decoder"):
        if given.get(name):
            yield f"is a decoder ({name} in {CONFIG}), which does not look ahead; choose an encoder"
    kind = given.get("position_embedding_type") or "absolute"
    if kind != "absolute":
        yield (
            f"places its tokens by {quoted(kind)} (position_embedding_type in {CONFIG}), for which transformers "
            "has no network any more; choose a model with absolute positions"
        )
    if folder.json("adapter_config.json"):
        yield "is an adapter (adapter_config.json); merge it into its model and save that"
    if given.get("quantization_config"):
        yield f"is quantized (quantization_config in {CONFIG}); choose its weights in float32 or float16"


def labels_of(config: Any) -> tuple[str, ...]:
    """Return a classifier's labels; none where it does not choose one of at least two."""
    if config.problem_type not in _SINGLE_LABEL or config.num_labels < 2:
        return ()
    return tuple(config.id2label[index] for index in sorted(config.id2label))


def architecture_of(config: Any, names: Sequence[str]) -> str:
    """Name a design: what weights do not tell, such as the number of heads, is part of it.

    Args:
        config: transformers' configuration.
        names: of the values in it that say what the network computes.
    """
    values = {name: getattr(config, name) for name in names}
    return f"hf/{config.model_type}/{Digest.of_json(values).removeprefix(PREFIX)[:12]}"


def load_checkpoint(
    auto: Any, folder: ModelFolder, config: Any, seed: int | None, spare: Sequence[str] = ()
) -> nn.Module:
    """Return transformers' network, float32, with the checkpoint's weights or random ones.

    Args:
        auto: transformers' class that chooses the network.
        folder: the checkpoint.
        config: its configuration.
        seed: None for the checkpoint's weights.
        spare: parts of the names of weights that may be missing, because no stage uses them.

    Raises:
        SourceUnavailable: there are no weights in the safetensors format, they are broken, some that the
            network needs are missing, or there are more than the network has a use for.
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
                # Not loaded, but reported: transformers' own error names none of them.
                ignore_mismatched_sizes=True,
            )
    # What broken weights raise is up to transformers and safetensors between them.
    except Exception as error:
        raise SourceUnavailable(
            f"expected the weights of {folder.name} in {folder.path}: {shortened(error)}"
        ) from error
    if shapes := [
        f"{name} is {list(theirs)} and has to be {list(ours)}"
        for name, theirs, ours in found["mismatched_keys"]
    ]:
        raise SourceUnavailable(
            f"weights of another shape than {CONFIG} says, in {folder.path}: {several(sorted(shapes))}; fetch it again"
        )
    missing = [key for key in found["missing_keys"] if not any(part in key for part in (*spare, _NEVER_USED))]
    if missing:
        raise SourceUnavailable(
            f"expected all weights of {folder.name} in {folder.path}, {len(missing)} are missing: "
            f"{several(sorted(missing))}; fetch it again"
        )
    prefix = f"{network.base_model_prefix}."
    unexpected = [
        key
        for key in found["unexpected_keys"]
        if key.removeprefix(prefix).partition(".")[0] not in _OTHER_HEADS and not key.endswith(_COUNTED)
    ]
    if unexpected:
        raise SourceUnavailable(
            f"{folder.name} has {len(unexpected)} weights for which {type(network).__name__} has no use, "
            f"{', '.join(sorted(unexpected)[:3])}: it was trained with another network; choose another model"
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
