"""Evidence has one stored form; anything else is refused."""

import json
from typing import Any

import numpy as np
import pytest

from adapters.evaluation.evidence import MAX_BYTES, Evidence, FeatureMap, Mistake
from adapters.evaluation.mistakes import thumbnail
from adapters.evaluation.projection import feature_map
from registry.digests import Digest, canonical_json
from registry.errors import InvalidValue

ITEMS = tuple(Digest.of(bytes([number])) for number in range(12))


def evidence() -> Evidence:
    random = np.random.default_rng(0)
    points = FeatureMap(ITEMS, random.normal(size=(12, 2)).astype(np.float32))
    picture = thumbnail(random.integers(0, 256, (120, 60, 3), dtype=np.uint8))
    return Evidence(
        ({"number": 1, "loss": 0.5},),
        points,
        (
            Mistake(ITEMS[0], ("a",), ("b",), 0.9, picture),
            Mistake(ITEMS[1], (), ("a", "b"), 0.5, None, "a <b>text</b>"),
        ),
        {"raw": {"learnt_from": 5, "right": [1, 2]}},
    )


def test_it_is_read_back_as_it_was() -> None:
    stored = evidence().to_bytes()
    read, drawn = Evidence.parse(stored), evidence().map
    assert read.to_bytes() == stored == evidence().to_bytes()
    assert read.mistakes == evidence().mistakes and read.history == evidence().history
    assert read.map is not None and drawn is not None
    assert np.array_equal(read.map.points, drawn.points)
    assert Evidence.parse(Evidence().to_bytes()).map is None


def changed(path: str, value: Any) -> bytes:
    document = json.loads(evidence().to_bytes())
    place = document
    *way, last = path.split(".")
    for step in way:
        place = place[int(step) if step.isdigit() else step]
    place[int(last) if last.isdigit() else last] = value
    return canonical_json(document)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("format", 2, "format"),
        ("more", 1, "keys"),
        ("history", {}, "list"),
        ("history.0.loss", "low", "finite"),
        ("map.items", [], "points"),
        ("map.items.0", "sha256:x", "sha256"),
        ("map.points", "AAAA!", "base64"),
        ("map.points", "AAAAAA==", "coordinates"),
        ("mistakes.0.confidence", 1.5, "0 to 1"),
        ("mistakes.0.confidence", "sure", "number"),
        ("mistakes.0.thumbnail", "PHN2Zz4=", "PNG"),
        ("mistakes.0.right", "a", "list"),
        ("mistakes.0.right.0", 1, "text"),
        ("mistakes.1.excerpt", "x" * 301, "300"),
        ("yardsticks", [], "object"),
    ],
)
def test_anything_else_is_refused(path: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        Evidence.parse(changed(path, value))


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_bytes_of_another_kind_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidValue):
        Evidence.parse(data)


def test_the_same_in_another_form_and_too_much_are_refused() -> None:
    with pytest.raises(InvalidValue, match="canonical"):
        Evidence.parse(json.dumps(json.loads(evidence().to_bytes()), indent=1).encode())
    with pytest.raises(InvalidValue, match="at most"):
        Evidence.parse(b" " * (MAX_BYTES + 1))


def test_a_map_lays_like_beside_like_and_is_the_same_every_time() -> None:
    random = np.random.default_rng(0)
    groups = np.repeat([0.0, 20.0], 15)
    features = (random.normal(size=(30, 6)) + groups[:, None]).astype(np.float32)
    digests = tuple(Digest.of(bytes([number])) for number in range(30))
    found = feature_map(features, digests)
    assert found is not None and found.items == digests
    first, second = found.points[:15], found.points[15:]
    spread = np.linalg.norm(first - first.mean(axis=0), axis=1).max()
    assert np.linalg.norm(first.mean(axis=0) - second.mean(axis=0)) > spread
    again = feature_map(features, digests)
    assert again is not None and np.array_equal(again.points, found.points)


@pytest.mark.parametrize("shape", [(4, 3), (9, 3)])
def test_too_few_items_and_features_all_alike_have_no_map(shape: tuple[int, int]) -> None:
    digests = tuple(Digest.of(bytes([number])) for number in range(shape[0]))
    assert feature_map(np.ones(shape, np.float32), digests) is None


def test_features_of_one_dimension_have_a_map() -> None:
    found = feature_map(np.arange(12, dtype=np.float32)[:, None], ITEMS)
    assert found is not None and found.points.shape == (12, 2)
