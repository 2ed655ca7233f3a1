from pathlib import Path

import numpy as np
import pytest
import torch

from adapters.sources.providers import find
from adapters.sources.source import Source
from adapters.sources.vectors import MAX_DIMENSION, MAX_WORDS, Vectors
from adapters.sources.weights import stage_weights_digest
from registry.errors import SourceUnavailable, UnknownSource
from tests.contracts.source import SourceContract

WORDS = ("the", "cat", "sat", ",", "été")
DIMENSION = 6


def values() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(len(WORDS), DIMENSION)).astype(np.float32)


def text(words: tuple[str, ...] = WORDS, numbers: np.ndarray | None = None) -> bytes:
    rows = values() if numbers is None else numbers
    lines = [f"{len(words)} {rows.shape[1]}"]
    lines += [
        f"{word} {' '.join(repr(float(x)) for x in row)} " for word, row in zip(words, rows, strict=True)
    ]
    return "\n".join(lines).encode() + b"\n"


def binary(end: bytes = b"\n") -> bytes:
    rows = (f"{word} ".encode() + row.tobytes() + end for word, row in zip(WORDS, values(), strict=True))
    return f"{len(WORDS)} {DIMENSION}\n".encode() + b"".join(rows)


def put(folder: Path, data: bytes) -> Path:
    file = folder / "words.vec"
    file.write_bytes(data)
    return file


def features(source: Source, *texts: str) -> torch.Tensor:
    batch = source.recipe.collate([source.recipe.prepare(each) for each in texts])
    with torch.no_grad():
        found: torch.Tensor = source.load()({name: torch.from_numpy(array) for name, array in batch.items()})
    return found


class TestVectorsSource(SourceContract):
    @pytest.fixture(params=["", "@max+l2"])
    def source(self, request: pytest.FixtureRequest, tmp_path: Path) -> Source:
        return find(f"vectors:{put(tmp_path, text())}{request.param}")


@pytest.mark.parametrize(
    "data", [text(), binary(), binary(b"")], ids=["text", "binary", "binary, no newlines"]
)
def test_both_formats_hold_the_same_vectors(data: bytes, tmp_path: Path) -> None:
    found = Vectors.read(put(tmp_path, data))
    assert found.words == WORDS
    np.testing.assert_array_equal(found.values, values())


def test_a_text_is_the_mean_of_the_words_that_are_known(tmp_path: Path) -> None:
    source = find(f"vectors:{put(tmp_path, binary())}")
    found = features(source, "The cat, unheard of, sat", "nothing known", "ÉTÉ")
    np.testing.assert_allclose(found[0], values()[[0, 1, 3, 3, 2]].mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[1], np.zeros(DIMENSION))
    np.testing.assert_allclose(found[2], values()[4], rtol=1e-6)


def test_capitals_count_where_the_vocabulary_has_some(tmp_path: Path) -> None:
    words = ("The", *WORDS[1:])
    source = find(f"vectors:{put(tmp_path, text(words))}@max")
    np.testing.assert_array_equal(features(source, "the The")[0], values()[0])


def test_the_same_vectors_are_the_same_stages_and_recipe_in_either_format(tmp_path: Path) -> None:
    one, other = (find(f"vectors:{put(tmp_path, data)}") for data in (text(), binary()))
    assert one.recipe.digest == other.recipe.digest
    assert [stage_weights_digest(one.load(), k) for k in range(2)] == [
        stage_weights_digest(other.load(), k) for k in range(2)
    ]


def test_the_task_is_for_you_to_say(tmp_path: Path) -> None:
    assert find(f"vectors:{put(tmp_path, text())}").task is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "first line"),
        (b"\x1f\x8b\x08rest", "unpack"),
        (b"the 0.1 0.2\n", "first line"),
        (f"{MAX_WORDS + 1} 3\n".encode(), "most frequent"),
        (f"1 {MAX_DIMENSION + 1}\n".encode(), "dimensions"),
        (b"0 3\n", "1 to"),
        (b"1000000 300\nthe 0.1", "at least"),
        (text()[:-30], r"line 6 of words.vec, got \d numbers"),
        (text().replace(b"sat ", b"sat x"), "line 4"),
        (binary()[:-8], "declares|ends within word 5"),
        (binary()[:-1] + b" more", "continues after"),
        (text() + b"more 1 2 3", "continues after"),
        (text(("a", "b", "a", "c", "d")), "twice, the second time as word 3"),
        (text().replace(b"cat", b"\xff\xfe"), "UTF-8 at line 3"),
        (text(numbers=np.full((5, 6), np.nan)), "not finite, at word 1"),
        (text(numbers=np.full((5, 6), 1e300)), "not finite"),
        (text(("x" * 2000, *WORDS[1:])), "line 2"),
    ],
)
def test_a_file_that_breaks_the_format_is_refused_with_the_place(
    data: bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UnknownSource, match=message):
        Vectors.read(put(tmp_path, data))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match=r"nowhere\.vec"):
        find(f"vectors:{tmp_path / 'nowhere.vec'}")


@pytest.mark.parametrize("spec", ["vectors:", "vectors:@mean", "vectors:words.vec@cls"])
def test_a_spec_without_a_file_or_with_a_first_word_is_refused(spec: str) -> None:
    with pytest.raises(UnknownSource, match="expected vectors:PATH"):
        find(spec)
