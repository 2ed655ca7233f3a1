"""Texts: from a text or a pair of texts to token ids.

The steps, always in this order: put the recipe's prompt before the text (of a pair before the first);
the tokenizer's own (normalise, split, look up, add special tokens); leave unknown tokens out where the
vocabulary asks for it; truncate, the longer text of a pair first; pad to the smallest bucket that
holds the longest row of the batch. The tokenizer is the ``tokenizers`` library's JSON, kept whole in
the recipe, so that casing, normaliser and special tokens are hashed with it. What that JSON says
about truncation and padding is dropped: the recipe's own numbers hold.
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
"""Characters of one text, or of both texts of a pair, refused before anything is tokenized."""

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
"""Longer buckets are not warmed up: attention over 8192 tokens takes gigabytes, and few texts need it."""

_MAX_NORMALISED = 2 * MAX_TEXT_CHARACTERS
"""Characters of what is tokenized of a text after the tokenizer's normaliser: one may become eighteen (U+FDFA), and the
library takes some hundred bytes of memory for each byte."""
_PIECE = 4096
"""Characters that are normalised at once to see how much they come to."""

_CHARACTERS_PER_TOKEN = 16
"""Characters looked at for each token that is kept, at first; four times as many where they do not suffice."""
_SPARE_TOKENS = 128
"""Tokens over the limit that a cut text's beginning must give: the word at its end may be cut in two, and
WordPiece knows no word of over 100 letters."""

# Rows are tokenized in the threads of whoever prepares them; the library's own pool would only add to these,
# and warn at every fork.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@dataclass(frozen=True, slots=True)
class TextRecipe(Recipe):
    """How a text, or a pair of texts, becomes token ids.

    Attributes:
        tokenizer: the ``tokenizers`` library's JSON (``Tokenizer.to_str()``, ``tokenizer.json``),
            brought into canonical form, truncation and padding taken out.
        max_length: tokens of one row, special ones included, 2 to 8192; more are cut off, at the end
            unless ``truncation`` says otherwise.
        buckets: ascending lengths that batches are padded to, the last one ``max_length``;
            ``buckets_for`` proposes some.
        pad_id: token id that rows are filled up with, on the right.
        token_types: whether ``token_type_ids`` is a field, which tells the two texts of a pair apart.
        pairs: how a pair is truncated: ``longest_first`` takes from the longer text until both are equally
            long, then from both, as the library's strategy of this name does. Of two texts that are both
            far too long, what is looked at decides which one keeps an odd token.
        unknown: ``keep`` the unknown token where a word has no token, or ``skip`` it, as vocabularies
            of word vectors do.
        unknown_id: the unknown token's id; None where ``unknown`` is ``keep``.
        truncation: the side, ``right`` or ``left``, at which a text that is too long is cut off. Left out of
            the JSON form where it is ``right``, so that recipes older than it keep their digests.
        prompt: what is put before every text, at most 10 000 characters; left out of the JSON form where it
            is empty.
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
                f"max_length leaves room for a text beside the tokenizer's {specials} special tokens, "
                f"got {self.max_length}"
            )
        object.__setattr__(self, "tokenizer", text)
        object.__setattr__(self, "_library", library)

    @staticmethod
    def buckets_for(max_length: int) -> tuple[int, ...]:
        """Propose buckets: 16, 32, 64, 128, 256, 384, 512 and so on, up to ``max_length``."""
        return (*(length for length in _BUCKETS if length < max_length), max_length)

    @property
    def fields(self) -> tuple[TensorSpec, ...]:
        """``input_ids``, ``attention_mask`` and perhaps ``token_type_ids``, each int64 [batch, seq]."""
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
            InvalidRecipe: a key is missing, unknown, of another type or out of range, or the library
                refuses the tokenizer.
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
            "a text's recipe has its nine fields and, where they say anything, truncation and prompt; "
            f"got {str(value)[:300]}"
        )

    def prepare(self, item: Raw) -> Prepared:
        """Tokenize a text or a pair: each field int64 [tokens], 1 to ``max_length`` of them, not padded.

        A text without any token becomes one padding token, masked out.

        Raises:
            WrongModality: the item is a picture.
            UndecodableInput: a lone surrogate, or a text that the tokenizer has no answer to.
            InputTooLarge: over a million characters, or over two million once it is normalised.
        """
        return self.encode(item)

    def collate(self, rows: Sequence[Prepared]) -> dict[str, np.ndarray]:
        """Stack prepared items: each field int64 [batch, seq], seq the smallest bucket that holds them all."""
        longest = max(len(row["input_ids"]) for row in rows)
        length = next(bucket for bucket in self.buckets if bucket >= longest)
        batch = {name: np.zeros((len(rows), length), np.int64) for name in self._names}
        batch["input_ids"].fill(self.pad_id)
        for name, array in batch.items():
            for index, row in enumerate(rows):
                array[index, : len(row[name])] = row[name]
        return batch

    def blanks(self) -> tuple[Prepared, ...]:
        """Padding tokens, unmasked: as many as the smallest bucket takes, and the largest up to 512."""
        smallest = self.buckets[0]
        largest = max([smallest, *(length for length in self.buckets if length <= _WARM_TOKENS)])
        return tuple(
            self._row(np.full(length, self.pad_id, np.int64), np.zeros(length, np.int64))
            for length in sorted({smallest, largest})
        )

    def encode(self, item: Raw, max_characters: int = MAX_TEXT_CHARACTERS) -> Prepared:
        """Tokenize as ``prepare`` does, under another limit on characters.

        Of a long text only the side that is kept is tokenized, as long as that gives more tokens than are kept.
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
        """Return the ids and type ids that are left of a row; None where more of a cut text must be seen."""
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
        room = max(0, self.max_length - int(np.count_nonzero(special)))
        for found, share in zip(places, _shares([len(found) for found in places], room), strict=True):
            wanted[found[share:] if self.truncation == RIGHT else found[: len(found) - share]] = False
        # A post-processor may add more special tokens than it announces.
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
        """Return what is tokenized of a text: so many characters of the side that is kept."""
        return text[:window] if self.truncation == RIGHT else text[-window:]

    def _check_normalised(self, texts: Sequence[str]) -> None:
        """Check how much a tokenizer's normaliser makes of texts, a piece after another.

        Raises:
            InputTooLarge: it is too much.
            UndecodableInput: the normaliser has no answer to it.
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
            # The batch call gives up the interpreter's lock, the single one does not.
            return self._library.encode_batch_fast([texts[0] if len(texts) == 1 else tuple(texts)])[0]
        except (KeyboardInterrupt, SystemExit):
            raise
        # The library raises bare Exceptions; where its Rust panics, they derive from BaseException alone.
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
    """Say whether these are fields that a recipe may leave out, each saying something."""
    return rest.keys() <= {"truncation", "prompt"} and all(
        isinstance(value, str) and value and (name, value) != ("truncation", RIGHT)
        for name, value in rest.items()
    )


def _shares(counts: Sequence[int], room: int) -> tuple[int, ...]:
    """Return how many tokens of one text or two fit, the longer one cut first, as the library counts."""
    if len(counts) == 1 or sum(counts) <= room:
        return tuple(min(count, room) for count in counts)
    half = room // 2
    short = min(counts) if min(counts) <= half else half
    return (short, room - short) if counts[0] <= counts[1] else (room - short, short)


@functools.lru_cache(maxsize=8)
def _open(text: str) -> tuple[str, Tokenizer]:
    """Return a tokenizer's canonical JSON and the tokenizer; shared by all recipes that hold the same one.

    Raises:
        InvalidRecipe: the library refuses it.
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
