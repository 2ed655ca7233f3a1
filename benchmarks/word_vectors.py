"""Word vectors that are counted from texts, nothing downloaded: what the source ``vectors:`` is measured on.

Positive pointwise mutual information of words that stand near each other, and the first dimensions of its singular
value decomposition: about as good as word2vec (Levy, Goldberg and Dagan, "Improving Distributional Similarity with
Lessons Learned from Word Embeddings", 2015; the smoothing and the root of the singular values are theirs).
"""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.linalg import svds

DIMENSION = 100
FEWEST = 5
"""Times that a word is seen at least."""

WINDOW = 5
SMOOTHING = 0.75

_WORD = re.compile(r"\w+")


def learnt(
    texts: Iterable[str], dimension: int = DIMENSION, fewest: int = FEWEST
) -> tuple[list[str], np.ndarray]:
    """Return words in small letters, most frequent first, and their vectors, float32 [words, dimension].

    Args:
        texts: to count in.
        dimension: below the number of words that are seen often enough.
        fewest: times that a word is seen at least.
    """
    split = [_WORD.findall(text.lower()) for text in texts]
    seen = Counter(word for words in split for word in words)
    words = sorted(
        (word for word, times in seen.items() if times >= fewest), key=lambda word: (-seen[word], word)
    )
    places = {word: at for at, word in enumerate(words)}
    near = _near(
        [np.array([places[word] for word in text if word in places], np.int64) for text in split], len(words)
    )
    start = np.random.default_rng(0).standard_normal(len(words))
    left, strengths, _ = svds(_information(near), k=dimension, v0=start)
    return words, (left * np.sqrt(strengths)).astype(np.float32)


def write(path: Path, words: Iterable[str], values: np.ndarray) -> None:
    """Write vectors in word2vec's text format."""
    with path.open("w", encoding="utf-8") as stream:
        stream.write(f"{len(values)} {values.shape[1]}\n")
        for word, row in zip(words, values, strict=True):
            stream.write(f"{word} {' '.join(f'{value:.5g}' for value in row)}\n")


def _near(texts: Iterable[np.ndarray], count: int) -> csr_array:
    """Count how often two words are within a window, nearer ones more: 1, 4/5, 3/5 … as word2vec draws them."""
    texts = list(texts)
    whole = csr_array((count, count), dtype=np.float64)
    for distance in range(1, WINDOW + 1):
        first = np.concatenate([text[:-distance] for text in texts])
        second = np.concatenate([text[distance:] for text in texts])
        weight = np.full(len(first), 1 - (distance - 1) / WINDOW)
        whole = whole + coo_array((weight, (first, second)), shape=(count, count)).tocsr()
    return csr_array(whole + whole.T)


def _information(near: csr_array) -> csr_array:
    """Return positive pointwise mutual information, contexts' frequencies smoothed."""
    pairs = near.tocoo()
    frequency = near.sum(axis=1)
    context = frequency**SMOOTHING
    shared = pairs.data * context.sum() / (frequency[pairs.row] * context[pairs.col])
    kept = np.log(np.maximum(shared, 1.0))
    return coo_array((kept, (pairs.row, pairs.col)), shape=near.shape).tocsr()
