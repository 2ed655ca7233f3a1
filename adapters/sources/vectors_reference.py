"""A file of word vectors, read and looked up a second time, in the plainest way."""

import string
import unicodedata
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from adapters.sources.reference import Given, Reference


class VectorsReference(Reference):
    """Words of a text, split at spaces and punctuation, their vectors pooled.

    No program belongs to word2vec's format, so this is its description (Mikolov et al. 2013, ``distance.c``)
    followed once more: a line of two numbers, then words, each with its numbers.

    Args:
        path: the file.
        pooling: ``mean`` or ``max``.
        l2: whether features are scaled to length 1.
        most: words of a text that count.
    """

    def __init__(self, path: Path, pooling: str, *, l2: bool, most: int) -> None:
        self.libraries = {"numpy": version("numpy")}
        self._path = path
        self._pooling = pooling
        self._l2 = l2
        self._most = most
        self._read: tuple[dict[str, int], np.ndarray] | None = None

    def files(self) -> Sequence[Path]:
        """Return the file."""
        return (self._path,)

    def prepare(self, given: Given) -> Mapping[str, np.ndarray]:
        """Look the words of a text up, without those that have no vector; see :meth:`Reference.prepare`."""
        places, _ = self._vectors()
        lowered = all(word == word.lower() for word in places)
        texts = given if isinstance(given, tuple) else (given,)
        found = [
            [places[word] for word in _words(str(text), lowered=lowered) if word in places] for text in texts
        ]
        # Of a pair the longer text gives way first.
        while sum(map(len, found)) > self._most:
            max(reversed(found), key=len).pop()
        ids = np.array([place for part in found for place in part], np.int64)
        return {"input_ids": ids, "attention_mask": np.ones(len(ids), np.int64)}

    def run(self, given: Sequence[Given]) -> Mapping[str, np.ndarray]:
        """Pool the vectors of texts; see :meth:`Reference.run`."""
        _, values = self._vectors()
        rows = np.zeros((len(given), values.shape[1]), np.float32)
        for row, each in zip(rows, given, strict=True):
            chosen = values[self.prepare(each)["input_ids"]]
            if len(chosen):
                row[:] = chosen.mean(axis=0) if self._pooling == "mean" else chosen.max(axis=0)
        if self._l2:
            lengths = np.linalg.norm(rows, axis=1, keepdims=True)
            rows /= np.where(lengths > 0, lengths, 1)
        return {"features": rows}

    def _vectors(self) -> tuple[dict[str, int], np.ndarray]:
        if self._read is None:
            self._read = _read(self._path)
        return self._read


def _words(text: str, *, lowered: bool) -> list[str]:
    """Split a text at white space, and around every character that is punctuation."""
    apart = "".join(
        f" {letter} " if letter in string.punctuation or unicodedata.category(letter)[0] == "P" else letter
        for letter in text
    )
    return ["".join(letter.lower() for letter in word) if lowered else word for word in apart.split()]


def _read(path: Path) -> tuple[dict[str, int], np.ndarray]:
    """Return words with their places, and vectors, float32 [words, dimension]."""
    with path.open("rb") as stream:
        count, dimension = map(int, stream.readline().split())
        start = stream.tell()
        numbers = stream.readline().split()[1:]
        stream.seek(start)
        places: dict[str, int] = {}
        values = np.empty((count, dimension), np.float32)
        for row in values:
            if len(numbers) == dimension and all(map(_is_number, numbers)):
                word, *rest = stream.readline().rstrip().split(b" ")
                row[:] = [float(number) for number in rest if number]
            else:
                word = b"".join(iter(lambda: stream.read(1), b" ")).lstrip(b"\n")
                row[:] = np.frombuffer(stream.read(4 * dimension), "<f4")
            places[word.decode()] = len(places)
    return places, values


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
