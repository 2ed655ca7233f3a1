"""Word vectors that are counted from texts."""

from pathlib import Path

import numpy as np
import pytest

from adapters.sources.providers import find
from benchmarks.word_vectors import learnt, write

TEXTS = [
    f"the {animal} {does} in the {place}"
    for animal in ("cat", "dog", "horse")
    for does in ("sleeps", "eats")
    for place in ("house", "garden")
] + [
    f"{metal} melts at {number} degrees"
    for metal in ("iron", "lead", "tin")
    for number in ("many", "few", "some")
]


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_words_that_stand_in_like_places_have_like_vectors() -> None:
    words, values = learnt(TEXTS, dimension=6, fewest=2)
    of = dict(zip(words, values, strict=True))
    assert cosine(of["cat"], of["dog"]) > 0.9 > cosine(of["cat"], of["iron"])


def test_rare_words_are_left_out_and_frequent_ones_come_first() -> None:
    words, values = learnt([*TEXTS, "a hapax"], dimension=6, fewest=2)
    assert words[0] == "the" and "hapax" not in words
    assert values.shape == (len(words), 6) and values.dtype == np.float32


def test_the_same_texts_give_the_same_vectors() -> None:
    assert np.array_equal(learnt(TEXTS, 6, 2)[1], learnt(TEXTS, 6, 2)[1])


def test_what_is_written_is_a_source(tmp_path: Path) -> None:
    words, values = learnt(TEXTS, dimension=6, fewest=2)
    write(tmp_path / "words.txt", words, values)
    source = find(f"vectors:{tmp_path / 'words.txt'}")
    assert source.dimension == 6
    fields = source.recipe.collate([source.recipe.prepare("the cat eats")])
    assert fields["input_ids"][0, :3].tolist() == [words.index(each) for each in ("the", "cat", "eats")]
    weights = next(iter(source.load().parameters())).detach().numpy()
    assert weights[: len(words)] == pytest.approx(values, rel=1e-4)
