"""A checkpoint's tokenizer as a recipe."""

import json
from typing import Any

from adapters.sources.hf.folder import Folder
from registry.errors import UnknownSource
from registry.recipe import TextRecipe
from registry.recipe.text import MAX_TOKENS

TOKENIZER = "tokenizer.json"
VOCABULARIES = ("vocab.txt", "vocab.json")
"""Older tokenizers' files that transformers converts; without one it would make up an empty vocabulary."""


def text_recipe(folder: Folder, config: Any, *, reserved: int, token_types: bool) -> TextRecipe:
    """Return the recipe of a text encoder.

    Rows are as long as sentence-transformers says, else the tokenizer, and never longer than
    there are positions.

    Args:
        folder: the checkpoint.
        config: its configuration.
        reserved: positions that no token takes.
        token_types: whether the encoder takes ``token_type_ids``.

    Raises:
        UnknownSource: there is no tokenizer, or it is none of the ``tokenizers`` library.
        InvalidRecipe: the library refuses it.
    """
    sentence = folder.json("sentence_bert_config.json")
    lengths = [
        config.max_position_embeddings - reserved,
        MAX_TOKENS,
        sentence.get("max_seq_length") or folder.json("tokenizer_config.json").get("model_max_length"),
    ]
    max_length = min(int(length) for length in lengths if isinstance(length, int | float) and length > 0)
    return TextRecipe(
        tokenizer=_tokenizer(folder, lowered=sentence.get("do_lower_case") is True),
        max_length=max_length,
        buckets=TextRecipe.buckets_for(max_length),
        pad_id=config.pad_token_id or 0,
        token_types=token_types,
    )


def _tokenizer(folder: Folder, *, lowered: bool) -> str:
    text = folder.text(TOKENIZER) or _converted(folder)
    if not lowered:
        return text
    # sentence-transformers lowers such texts itself, before its tokenizer sees them.
    value = json.loads(text)
    steps = [{"type": "Lowercase"}, *([value["normalizer"]] if value.get("normalizer") else [])]
    return json.dumps(value | {"normalizer": {"type": "Sequence", "normalizers": steps}})


def _converted(folder: Folder) -> str:
    """Return an older tokenizer, such as a lone ``vocab.txt``, in the library's format."""
    if not any(folder.path.joinpath(name).is_file() for name in VOCABULARIES):
        raise UnknownSource(f"expected {TOKENIZER} or {VOCABULARIES[0]} in {folder.path}, neither is there")
    # transformers is slow to import.
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False, use_fast=True
        )
        text: str = tokenizer.backend_tokenizer.to_str()
    # What a folder without a usable tokenizer raises is up to transformers.
    except Exception as error:
        raise UnknownSource(
            f"expected a vocabulary that transformers can convert to {TOKENIZER} in {folder.path}: {error!s:.200}"
        ) from error
    return text
