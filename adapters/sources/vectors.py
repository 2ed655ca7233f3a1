"""``vectors:`` word vectors in word2vec's text and binary formats (https://code.google.com/archive/p/word2vec)."""

import json
import re
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from adapters.sources.pooling import Pooling
from adapters.sources.reference import Reference
from adapters.sources.source import Source, SourceProvider
from adapters.sources.stages import Stages
from adapters.sources.vectors_reference import VectorsReference
from registry.errors import SourceUnavailable, UnknownSource
from registry.quoting import quoted
from registry.recipe import TextRecipe

MAX_WORDS = 2_000_000
MAX_DIMENSION = 4096
MAX_BYTES = 16 << 30
"""Most bytes of the vectors as float32."""

MAX_WORD_BYTES = 1024

TOKENS = 512
"""Most words of a text that are used; there are no positions, so the limit only bounds the cost."""

FORM = "vectors:PATH[@mean|max][+l2]"

_HEADER = re.compile(rb"([0-9]{1,9}) ([0-9]{1,9})\s*")
_MAX_HEADER = 64
_PEEK = 1 << 16
_UNKNOWN = "[UNK]"


@dataclass(frozen=True, slots=True)
class Vectors:
    """A vocabulary and its vectors.

    Attributes:
        words: each once, in the file's order, most frequent first as a rule.
        values: float32 [words, dimension], finite.
    """

    words: tuple[str, ...] = field(repr=False)
    values: np.ndarray = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> "Vectors":
        """Read a file of vectors; whether it is text or binary is seen from its beginning.

        Raises:
            SourceUnavailable: there is no such file.
            UnknownSource: it is compressed, or breaks the format; the message names the word.
        """
        try:
            stream = path.open("rb")
        except OSError as error:
            raise SourceUnavailable(f"expected word vectors in {path}: {error.strerror}") from error
        with stream:
            count, dimension = _header(stream, path)
            size = path.stat().st_size
            binary = _is_binary(stream, dimension)
            least = count * (1 + (4 * dimension if binary else 2 * dimension))
            if size - stream.tell() < least:
                raise UnknownSource(
                    f"{path.name} declares {count:,} words of {dimension} numbers, at least {least:,} bytes; "
                    f"it has {size - stream.tell():,}: fetch it again"
                )
            values = np.empty((count, dimension), np.float32)
            entries = _binary(stream, path, values) if binary else _text(stream, path, values)
            words: dict[str, None] = {}
            for number, word in enumerate(entries, start=1):
                if word in words:
                    raise UnknownSource(
                        f"{path.name} has the word {quoted(word, 60)} twice, the second time as word {number:,}"
                    )
                words[word] = None
            if stream.read(_MAX_HEADER).strip():
                raise UnknownSource(f"{path.name} continues after the {count:,} words that it declares")
        finite = np.isfinite(values).all(1)
        if not finite.all():
            number = int(np.argmin(finite))
            raise UnknownSource(f"{path.name} has a number that is not finite, at word {number + 1:,}")
        return cls(tuple(words), values)


def _header(stream: BinaryIO, path: Path) -> tuple[int, int]:
    line = stream.readline(_MAX_HEADER)
    found = _HEADER.fullmatch(line)
    if found is None:
        compressed = line.startswith((b"\x1f\x8b", b"PK", b"BZh", b"\xfd7zXZ"))
        hint = "it is compressed: unpack it first" if compressed else "it begins with something else"
        raise UnknownSource(
            f"expected two numbers, of words and dimensions, in the first line of {path.name}; {hint}"
        )
    count, dimension = int(found[1]), int(found[2])
    if (
        not 1 <= count <= MAX_WORDS
        or not 1 <= dimension <= MAX_DIMENSION
        or 4 * count * dimension > MAX_BYTES
    ):
        raise UnknownSource(
            f"expected 1 to {MAX_WORDS:,} words of 1 to {MAX_DIMENSION:,} dimensions in {path.name}, "
            f"its first line says {count:,} of {dimension:,}; keep the most frequent words"
        )
    return count, dimension


def _is_binary(stream: BinaryIO, dimension: int) -> bool:
    """Say whether the first word's numbers are something else than decimal ones; the stream stays where it is."""
    start = stream.tell()
    first = stream.read(max(_PEEK, 32 * dimension))
    stream.seek(start)
    line, newline, _ = first.partition(b"\n")
    numbers = line.split(b" ")[1:]
    return (
        not newline
        or len([number for number in numbers if number]) != dimension
        or not all(map(_is_decimal, numbers))
    )


def _is_decimal(number: bytes) -> bool:
    return not number.strip(b"0123456789+-.eE\rnaifNAIF")


def _text(stream: BinaryIO, path: Path, values: np.ndarray) -> Iterator[str]:
    """Yield the words of the text format, a line each, and fill in their vectors."""
    count, dimension = values.shape
    most = MAX_WORD_BYTES + 32 * dimension
    for index in range(count):
        line = stream.readline(most)
        word, _, rest = line.rstrip(b"\r\n ").partition(b" ")
        numbers = rest.split()
        try:
            if len(numbers) != dimension:
                raise ValueError(f"{len(numbers)} numbers")
            with np.errstate(over="ignore"):
                values[index] = [float(number) for number in numbers]
        except ValueError as error:
            raise UnknownSource(
                f"expected a word and {dimension} numbers in line {index + 2:,} of {path.name}, got {error}"
            ) from error
        yield _word(word, path, f"line {index + 2:,}")


def _binary(stream: BinaryIO, path: Path, values: np.ndarray) -> Iterator[str]:
    """Yield the words of the binary format, up to a space each, and fill in the float32 behind them."""
    count, dimension = values.shape
    pending = b""
    for index in range(count):
        # The original writes a newline behind every vector, other writers do not.
        while b" " not in pending.lstrip(b"\n") and len(pending) <= MAX_WORD_BYTES:
            more = stream.read(4 * dimension)
            if not more:
                break
            pending += more
        word, space, pending = pending.lstrip(b"\n").partition(b" ")
        need = 4 * dimension - len(pending)
        if need > 0:
            pending += stream.read(need)
        if not space or len(pending) < 4 * dimension:
            raise UnknownSource(f"{path.name} ends within word {index + 1:,} of {count:,}; fetch it again")
        values[index] = np.frombuffer(pending, "<f4", dimension)
        pending = pending[4 * dimension :]
        yield _word(word, path, f"word {index + 1:,}")
    if pending.strip():
        raise UnknownSource(f"{path.name} continues after the {count:,} words that it declares")


def _word(word: bytes, path: Path, place: str) -> str:
    if not word or len(word) > MAX_WORD_BYTES:
        raise UnknownSource(
            f"expected a word of 1 to {MAX_WORD_BYTES} bytes at {place} of {path.name}, got {len(word)}"
        )
    try:
        return word.decode()
    except UnicodeDecodeError as error:
        raise UnknownSource(f"expected UTF-8 at {place} of {path.name}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class VectorsSource(Source):
    """Word vectors, looked up and pooled.

    Attributes:
        file: where they are.
        vectors: the vocabulary and its vectors.
        pooled: how words become features.
    """

    file: Path
    vectors: Vectors = field(repr=False)
    pooled: Pooling

    def weights_at_hand(self) -> bool:
        """Say yes: the vocabulary, without which there is no recipe, is in the same file."""
        return True

    def reference(self) -> Reference:
        """Return the file, read a second time."""
        return VectorsReference(self.file, self.pooled.kind, l2=self.pooled.l2, most=TOKENS)

    def load(self, seed: int | None = None) -> Stages:
        """Return the network in stages; see :meth:`Source.load`."""
        values = torch.from_numpy(self.vectors.values)
        if seed is not None:
            values = torch.randn(values.shape, generator=torch.Generator().manual_seed(seed)) * values.std()
        pools = list(self.pooled.stages())
        return Stages(
            self.architecture,
            OrderedDict([("embeddings", _Lookup(values)), *((name, stage) for name, stage, _ in pools)]),
            features_dim=self.dimension,
            inputs=self.recipe.fields,
            sides=[(), *(sides for _, _, sides in pools)],
        ).eval()


class _Lookup(nn.Module):
    """Looks up words; behind the last of them is the vector of padding, zeros."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.cat([values, values.new_zeros(1, values.shape[1])]))

    def forward(self, input_ids: Tensor) -> Tensor:
        return nn.functional.embedding(input_ids, self.weight)


class VectorsProvider(SourceProvider):
    """``vectors:PATH``, the mean of a text's words; ``@max`` for their largest values, ``+l2`` for length 1."""

    scheme = "vectors"

    def specs(self) -> list[str]:
        """Return nothing: vectors are where you put them."""
        return []

    def source(self, spec: str) -> VectorsSource:
        """Return the source that a spec names.

        Raises:
            SourceUnavailable: there is no such file.
            UnknownSource: it is no file of vectors, or the pooling is none for words.
        """
        name, given = Pooling.divide(spec.partition(":")[2])
        pooled = given or Pooling()
        if not name or pooled.kind == "cls":
            raise UnknownSource(f"expected {FORM}, got {quoted(spec, 200)}")
        vectors = Vectors.read(Path(name).expanduser())
        return VectorsSource(
            spec=f"{self.scheme}:{name}" + (f"@{pooled}" if given else ""),
            architecture=self.scheme,
            task=None,
            labels=(),
            recipe=word_recipe(vectors.words),
            cuts=("embeddings", *pooled.names),
            dimension=vectors.values.shape[1],
            pooling=pooled.kind,
            norm=pooled.norm,
            file=Path(name).expanduser(),
            vectors=vectors,
            pooled=pooled,
        )


def word_recipe(words: tuple[str, ...]) -> TextRecipe:
    """Return the recipe that looks words up, and skips those that the vocabulary has not.

    Texts are split at spaces and around punctuation, and lowered if every word is in small
    letters. A word of the vocabulary that holds spaces or punctuation itself, such as ``U.S.``, is
    never met.
    """
    lowered = all(word == word.lower() for word in words)
    vocabulary = {word: index for index, word in enumerate(words)}
    unknown = next(
        name for name in (_UNKNOWN, *(f"[UNK{n}]" for n in range(len(words) + 1))) if name not in vocabulary
    )
    tokenizer: dict[str, object] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Lowercase"} if lowered else None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Punctuation", "behavior": "Isolated"}],
        },
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary | {unknown: len(words)}, "unk_token": unknown},
    }
    return TextRecipe(
        tokenizer=json.dumps(tokenizer, ensure_ascii=False),
        max_length=TOKENS,
        buckets=TextRecipe.buckets_for(TOKENS),
        pad_id=len(words),
        unknown="skip",
        unknown_id=len(words),
    )
