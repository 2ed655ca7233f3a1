"""Text preprocessing: from a text or a pair of texts to token ids.

The steps, always in this order: prepend the recipe's prompt to the text, or to the first text of a pair; run
the tokenizer (normalise, split, look up, add special tokens); drop unknown tokens if the recipe says
``skip``; truncate, the longer text of a pair first; pad to the smallest bucket that fits the longest row of
the batch. The tokenizer is the ``tokenizers`` library's JSON. It is stored completely in the recipe, so
casing, normaliser and special tokens are part of the recipe's digest. The JSON's own settings for truncation
and padding are removed: the recipe's settings apply.
"""

import functools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
from tokenizers import Encoding, Tokenizer
from tokenizers.normalizers import Normalizer

from registry.digests import canonical_json
from registry.errors import InputTooLarge, InvalidRecipe, UndecodableInput, WrongModality
from registry.quoting import quoted, shortened
from registry.recipe.recipe import Prepared, Raw, Recipe, content
from registry.recipe.tokenizer import MAX_GROWTH, check_tokenizer
from registry.signature import TensorSpec

MAX_TEXT_CHARACTERS = 1_000_000
"""Most characters of one text, or of both texts of a pair, checked before tokenization."""

MAX_TOKENS = 8192
PAIRS = ("longest_first",)
KEEP = "keep"
SKIP = "skip"
UNKNOWN = (KEEP, SKIP)
RIGHT = "right"
LEFT = "left"
SIDES = (RIGHT, LEFT)
MAX_PROMPT_CHARACTERS = 10_000

_BUCKETS = (16, 32, 64, 128, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
_MAX_BUCKETS = 64
_MAX_ID = (1 << 31) - 1
_WARM_TOKENS = 512
"""Longer buckets are not warmed up: attention over 8192 tokens takes gigabytes, and such texts are rare."""

_MAX_NORMALISED = 2 * MAX_TEXT_CHARACTERS
"""Most characters of a text after the tokenizer's normaliser. One character may become eighteen (U+FDFA), and
the library uses about a hundred bytes of memory per byte.
"""
_PIECE = 4096
"""Characters that are normalised at once to measure their expansion."""

_CHARACTERS_PER_TOKEN = 16
"""Characters tokenized at first per token of the limit; four times as many if they give too few tokens."""
_SPARE_TOKENS = 128
"""Tokens above the limit that a text's prefix must give: its last word may be cut in two, and WordPiece knows
no word of more than 100 letters.
"""

# The caller's threads tokenize the rows; the library's own thread pool would only add threads, and warn at
# every fork.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@dataclass(frozen=True, slots=True)
class TextRecipe(Recipe):
    """A recipe for texts and pairs of texts.

    Attributes:
        tokenizer: the ``tokenizers`` library's JSON (``Tokenizer.to_str()``, ``tokenizer.json``), in
            canonical form, without truncation and padding.
        max_length: most tokens of one row, including special tokens, 2 to 8192; the rest is cut off at the
            end, or as ``truncation`` says.
        buckets: ascending lengths to which batches are padded, the last one ``max_length``; ``buckets_for``
            proposes some.
        pad_id: id of the padding token; padding is on the right.
        token_types: whether ``token_type_ids`` is a field; it distinguishes the two texts of a pair.
        pairs: how a pair is truncated: ``longest_first`` removes tokens from the longer text until both are
            equally long, then from both, like the library's strategy of this name. If both texts are far too
            long, the tokenized prefixes decide which one keeps an odd token.
        unknown: ``keep`` the unknown token for a word without a token, or ``skip`` it, as for word vectors.
        unknown_id: the unknown token's id; None if ``unknown`` is ``keep``.
        truncation: the side, ``right`` or ``left``, at which a long text is cut off. The JSON form omits
            ``right``, so that older recipes keep their digests.
        prompt: text prepended to every text, at most 10 000 characters; the JSON form omits an empty one.
    """

    tokenizer: str = field(repr=False)
    max_length: int
    buckets: tuple[int, ...]
    pad_id: int = 0
    token_types: bool = False
    pairs: str = PAIRS[0]
    unknown: str = KEEP
    unknown_id: int | None = None
    truncation: str = RIGHT
    prompt: str = ""
    _library: Tokenizer = field(init=False, repr=False, compare=False)

    modality: ClassVar[str] = "text"

    def __post_init__(self) -> None:
        if not 2 <= self.max_length <= MAX_TOKENS:
            raise InvalidRecipe(f"max_length is 2 to {MAX_TOKENS} tokens, got {self.max_length}")
        ascending = all(low < high for low, high in zip((0, *self.buckets), self.buckets, strict=False))
        if not ascending or self.buckets[-1:] != (self.max_length,) or len(self.buckets) > _MAX_BUCKETS:
            raise InvalidRecipe(
                f"buckets are at most {_MAX_BUCKETS} ascending lengths, the last one max_length "
                f"({self.max_length}), got {shortened(list(self.buckets))}"
            )
        if self.pairs not in PAIRS:
            raise InvalidRecipe(f"pairs is {', '.join(PAIRS)}, got {quoted(self.pairs)}")
        if self.unknown not in UNKNOWN or (self.unknown == SKIP) != (self.unknown_id is not None):
            raise InvalidRecipe(
                "unknown is 'keep' without an unknown_id or 'skip' with one, "
                f"got {quoted(self.unknown)} and {self.unknown_id}"
            )
        if self.truncation not in SIDES:
            raise InvalidRecipe(f"truncation is {' or '.join(SIDES)}, got {quoted(self.truncation)}")
        if len(self.prompt) > MAX_PROMPT_CHARACTERS:
            raise InvalidRecipe(
                f"a prompt has at most {MAX_PROMPT_CHARACTERS:,} characters, got {len(self.prompt):,}"
            )
        for name, token in (("pad_id", self.pad_id), ("unknown_id", self.unknown_id)):
            if token is not None and not 0 <= token <= _MAX_ID:
                raise InvalidRecipe(f"{name} is 0 to {_MAX_ID}, got {token}")
        text, library = _open(self.tokenizer)
        specials = max(library.num_special_tokens_to_add(pair) for pair in (False, True))
        if specials >= self.max_length:
            raise InvalidRecipe(
                f"max_length must exceed the tokenizer's {specials} special tokens, got {self.max_length}"
            )
        object.__setattr__(self, "tokenizer", text)
        object.__setattr__(self, "_library", library)

    @staticmethod
    def buckets_for(max_length: int) -> tuple[int, ...]:
        """Propose buckets: 16, 32, 64, 128, 256, 384, 512 and so on, up to ``max_length``."""
        return (*(length for length in _BUCKETS if length < max_length), max_length)

    @property
    def fields(self) -> tuple[TensorSpec, ...]:
        """``input_ids``, ``attention_mask`` and optionally ``token_type_ids``, each int64 [batch, seq]."""
        return tuple(TensorSpec(name, "int64", ("batch", "seq")) for name in self._names)

    def to_json(self) -> dict[str, object]:
        """Return the recipe as plain JSON values."""
        return {
            "modality": self.modality,
            "tokenizer": self.tokenizer,
            "max_length": self.max_length,
            "buckets": list(self.buckets),
            "pad_id": self.pad_id,
            "token_types": self.token_types,
            "pairs": self.pairs,
            "unknown": self.unknown,
            "unknown_id": self.unknown_id,
            **({} if self.truncation == RIGHT else {"truncation": self.truncation}),
            **({"prompt": self.prompt} if self.prompt else {}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Self:
        """Read the JSON form.

        Raises:
            InvalidRecipe: a key is missing, unknown, of another type or out of range, or the library rejects
                the tokenizer.
        """
        match value:
            case {
                "modality": "text",
                "tokenizer": str(tokenizer),
                "max_length": int(max_length),
                "buckets": list(buckets),
                "pad_id": int(pad_id),
                "token_types": bool(token_types),
                "pairs": str(pairs),
                "unknown": str(unknown),
                "unknown_id": int() | None as unknown_id,
                **rest,
            } if _are_optional(rest) and all(
                isinstance(number, int) and not isinstance(number, bool)
                for number in (max_length, *buckets, pad_id, unknown_id or 0)
            ):
                return cls(
                    tokenizer,
                    max_length,
                    tuple(buckets),
                    pad_id,
                    token_types,
                    pairs,
                    unknown,
                    unknown_id,
                    str(rest.get("truncation", RIGHT)),
                    str(rest.get("prompt", "")),
                )
        raise InvalidRecipe(
            "a text recipe has nine fields and, unless they have their defaults, truncation and prompt; "
            f"got {str(value)[:300]}"
        )

    def prepare(self, item: Raw) -> Prepared:
        """Tokenize a text or a pair: each field int64 [tokens], 1 to ``max_length`` tokens, without padding.

        A text without tokens becomes one masked padding token.

        Raises:
            WrongModality: the item is a picture.
            UndecodableInput: the text has a lone surrogate, or the tokenizer fails on it.
            InputTooLarge: the text has over a million characters, or over two million after normalisation.
        """
        return self.encode(item)

    def collate(self, rows: Sequence[Prepared]) -> dict[str, np.ndarray]:
        """Stack prepared inputs: each field int64 [batch, seq], where seq is the smallest sufficient bucket."""
        longest = max(len(row["input_ids"]) for row in rows)
        length = next(bucket for bucket in self.buckets if bucket >= longest)
        batch = {name: np.zeros((len(rows), length), np.int64) for name in self._names}
        batch["input_ids"].fill(self.pad_id)
        for name, array in batch.items():
            for index, row in enumerate(rows):
                array[index, : len(row[name])] = row[name]
        return batch

    def blanks(self) -> tuple[Prepared, ...]:
        """Unmasked padding tokens, for the smallest bucket and the largest one up to 512."""
        smallest = self.buckets[0]
        largest = max([smallest, *(length for length in self.buckets if length <= _WARM_TOKENS)])
        return tuple(
            self._row(np.full(length, self.pad_id, np.int64), np.zeros(length, np.int64))
            for length in sorted({smallest, largest})
        )

    def encode(self, item: Raw, max_characters: int = MAX_TEXT_CHARACTERS) -> Prepared:
        """Tokenize like ``prepare``, with another limit on characters.

        Of a long text only the side that is kept is tokenized, if that gives enough tokens.
        """
        texts = self._texts(item, max_characters)
        window = _CHARACTERS_PER_TOKEN * (self.max_length + _SPARE_TOKENS)
        while True:
            seen = [self._cut(text, window) for text in texts]
            self._check_normalised(seen)
            encoding = self._tokenize(seen)
            kept = self._kept(encoding, [len(text) <= window for text in texts])
            if kept is not None:
                break
            window *= 4
        ids, types = kept
        if not len(ids):
            return self._row(np.array([self.pad_id], np.int64), np.zeros(1, np.int64), mask=0)
        return self._row(ids, types)

    def _kept(self, encoding: Encoding, whole: Sequence[bool]) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the ids and type ids of a truncated row; None if more of a cut text has to be tokenized."""
        ids, types = np.array(encoding.ids, np.int64), np.array(encoding.type_ids, np.int64)
        if self.unknown == KEEP and len(ids) <= self.max_length and all(whole):
            return ids, types
        sides = np.array([-1 if side is None else side for side in encoding.sequence_ids], np.int64)
        special = sides < 0
        wanted = special | (ids != self.unknown_id) if self.unknown == SKIP else np.ones(len(ids), np.bool_)
        places = [np.flatnonzero(wanted & (sides == side)) for side in range(len(whole))]
        enough = self.max_length + _SPARE_TOKENS
        if not all(done or len(found) >= enough for done, found in zip(whole, places, strict=True)):
            return None
        available = max(0, self.max_length - int(np.count_nonzero(special)))
        for found, share in zip(places, _shares([len(found) for found in places], available), strict=True):
            wanted[found[share:] if self.truncation == RIGHT else found[: len(found) - share]] = False
        # A post-processor may add more special tokens than it declares.
        return ids[wanted][: self.max_length], types[wanted][: self.max_length]

    @property
    def _names(self) -> tuple[str, ...]:
        return ("input_ids", "attention_mask", *(("token_type_ids",) if self.token_types else ()))

    def _row(self, ids: np.ndarray, types: np.ndarray, mask: int = 1) -> Prepared:
        values = (ids, np.full(len(ids), mask, np.int64), types)
        return dict(zip(self._names, values, strict=False))

    def _texts(self, item: Raw, max_characters: int) -> tuple[str, ...]:
        if isinstance(item, bytes):
            raise WrongModality("this model takes texts, got a picture")
        texts = (item,) if isinstance(item, str) else item
        if (characters := sum(map(len, texts))) > max_characters:
            raise InputTooLarge(
                f"a text may have {max_characters:,} characters, this one has {characters:,}; send less of it"
            )
        content(item)
        return (self.prompt + texts[0], *texts[1:])

    def _cut(self, text: str, window: int) -> str:
        """Return a number of characters from the side of a text that is kept."""
        return text[:window] if self.truncation == RIGHT else text[-window:]

    def _check_normalised(self, texts: Sequence[str]) -> None:
        """Check the length of texts after the tokenizer's normaliser, piece by piece.

        Raises:
            InputTooLarge: they are too long.
            UndecodableInput: the normaliser fails.
        """
        normaliser, left = self._library.normalizer, _MAX_NORMALISED
        if normaliser is None or sum(map(len, texts)) * MAX_GROWTH <= left:
            return
        for text in texts:
            for start in range(0, len(text), _PIECE):
                piece = text[start : start + _PIECE]
                left -= len(_normalised(normaliser, piece))
                if left < 0:
                    raise InputTooLarge(
                        f"a text may come to {_MAX_NORMALISED:,} characters once it is normalised, this one comes to "
                        "more; send less of it"
                    )

    def _tokenize(self, texts: list[str]) -> Encoding:
        try:
            # The batch call releases the interpreter lock, the single call does not.
            return self._library.encode_batch_fast([texts[0] if len(texts) == 1 else tuple(texts)])[0]
        except (KeyboardInterrupt, SystemExit):
            raise
        # The library raises bare Exceptions; Rust panics derive only from BaseException.
        except BaseException as error:
            raise _unreadable(error) from error


def _normalised(normaliser: Normalizer, text: str) -> str:
    try:
        return normaliser.normalize_str(text)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise _unreadable(error) from error


def _unreadable(error: BaseException) -> UndecodableInput:
    return UndecodableInput(f"the tokenizer cannot read this text: {str(error)[:200]}")


def _are_optional(rest: Mapping[str, object]) -> bool:
    """Tell whether these are optional fields of a recipe, each with a value other than its default."""
    return rest.keys() <= {"truncation", "prompt"} and all(
        isinstance(value, str) and value and (name, value) != ("truncation", RIGHT)
        for name, value in rest.items()
    )


def _shares(counts: Sequence[int], available: int) -> tuple[int, ...]:
    """Return the number of tokens kept of one or two texts; the longer one is cut first, as the library does."""
    if len(counts) == 1 or sum(counts) <= available:
        return tuple(min(count, available) for count in counts)
    half = available // 2
    short = min(counts) if min(counts) <= half else half
    return (short, available - short) if counts[0] <= counts[1] else (available - short, short)


@functools.lru_cache(maxsize=8)
def _open(text: str) -> tuple[str, Tokenizer]:
    """Return a tokenizer's canonical JSON and the tokenizer, which is shared by all recipes with the same JSON.

    Raises:
        InvalidRecipe: the library rejects it.
    """
    try:
        value = json.loads(text)
        if not isinstance(value, dict):
            raise InvalidRecipe(f"a tokenizer is a JSON object, got {type(value).__name__}")
        check_tokenizer(value)
        canonical = canonical_json(value | {"truncation": None, "padding": None}).decode()
        return canonical, Tokenizer.from_str(canonical)
    except (InvalidRecipe, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise InvalidRecipe(
            f"expected a tokenizer of the tokenizers library as JSON; {str(error)[:300]}"
        ) from error
