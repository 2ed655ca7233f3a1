"""A checkpoint's tokenizer as a recipe."""

import json
from typing import Any

from tokenizers import Tokenizer

from adapters.sources.hf.checkpoint import quiet
from adapters.sources.hf.folder import ModelFolder
from adapters.sources.hf.sentence import Sentence
from registry.errors import UnknownSource
from registry.quoting import quoted, shortened
from registry.recipe import TextRecipe
from registry.recipe.text import MAX_TOKENS, SIDES

TOKENIZER = "tokenizer.json"
VOCABULARIES = ("vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model")
"""Older tokenizers' files that transformers converts; without one it would make up an empty vocabulary."""

TYPES = "token_type_ids"


def text_recipe(
    folder: ModelFolder, config: Any, sentence: Sentence | None, *, reserved: int, types: bool
) -> TextRecipe:
    """Return the recipe of a text encoder.

    Rows are as long as sentence-transformers says, else the tokenizer, and never longer than
    there are positions.

    Args:
        folder: the checkpoint.
        config: its configuration.
        sentence: what sentence-transformers says of it, where its way is to be followed.
        reserved: positions that no token takes.
        types: whether the encoder tells the two texts of a pair apart; its tokenizer has to as well.

    Raises:
        UnknownSource: there is no tokenizer, it is none of the ``tokenizers`` library, transformers cannot
            open it, or it has tokens for which the encoder has no vector.
        InvalidRecipe: the library refuses it.
    """
    tokenizer = _opened(folder)
    lengths = [
        config.max_position_embeddings - reserved,
        MAX_TOKENS,
        (sentence and sentence.max_length) or int(tokenizer.model_max_length),
    ]
    max_length = min(length for length in lengths if length > 0)
    _check_vocabulary(folder, tokenizer, config.vocab_size)
    side = tokenizer.truncation_side
    if side not in SIDES:
        raise UnknownSource(
            f"{folder.name} cuts long texts off on the side {quoted(side)}; choose another model"
        )
    return TextRecipe(
        tokenizer=_lowered(_text(folder, tokenizer), lowered=sentence is not None and sentence.lowered),
        max_length=max_length,
        buckets=TextRecipe.buckets_for(max_length),
        pad_id=config.pad_token_id or 0,
        token_types=types and TYPES in tokenizer.model_input_names,
        truncation=side,
        prompt="" if sentence is None else sentence.prompt,
    )


def _opened(folder: ModelFolder) -> Any:
    """Open a tokenizer as transformers does, whose own settings add to the file of the library."""
    if not any(folder.path.joinpath(name).is_file() for name in (TOKENIZER, *VOCABULARIES)):
        raise UnknownSource(f"expected {TOKENIZER} or {VOCABULARIES[0]} in {folder.path}, neither is there")
    # transformers is slow to import.
    from transformers import AutoTokenizer

    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(
                folder.path, local_files_only=True, trust_remote_code=False, use_fast=True
            )
        tokenizer.backend_tokenizer.to_str()
    # What a folder without a usable tokenizer raises is up to transformers.
    except Exception as error:
        raise UnknownSource(
            f"expected a tokenizer that transformers can open in {folder.path}: {shortened(error)}"
        ) from error
    return tokenizer


def _text(folder: ModelFolder, tokenizer: Any) -> str:
    """Return the tokenizer in the library's format: the folder's own file where both mean the same."""
    opened = tokenizer.backend_tokenizer.to_str()
    text = folder.text(TOKENIZER)
    return text if text is not None and _meaning(text) == _meaning(opened) else str(opened)


def _meaning(text: str) -> object:
    """Return what a tokenizer's file says, but for truncation and padding, which a recipe has its own of."""
    try:
        value = json.loads(Tokenizer.from_str(text).to_str())
    # The library raises bare Exceptions.
    except Exception as error:
        raise UnknownSource(f"expected a tokenizer of the tokenizers library: {shortened(error)}") from error
    return value | {"truncation": None, "padding": None}


def _lowered(text: str, *, lowered: bool) -> str:
    if not lowered:
        return text
    # sentence-transformers lowers such texts itself, before its tokenizer sees them.
    value = json.loads(text)
    steps = [{"type": "Lowercase"}, *([value["normalizer"]] if value.get("normalizer") else [])]
    return json.dumps(value | {"normalizer": {"type": "Sequence", "normalizers": steps}})


def _check_vocabulary(folder: ModelFolder, tokenizer: Any, rows: int) -> None:
    """Refuse a tokenizer that gives ids for which there is no vector."""
    beyond = {number: word for word, number in tokenizer.get_vocab().items() if number >= rows}
    if beyond:
        first = min(beyond)
        raise UnknownSource(
            f"the tokenizer of {folder.name} has {len(beyond):,} tokens without a vector, the first {first:,} "
            f"({quoted(beyond[first], 60)}) where there are {rows:,} vectors: its vocabulary was extended, its "
            "embedding was not; resize the embedding and train it, or take the tokenizer that belongs to it"
        )
