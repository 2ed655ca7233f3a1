"""Evidence: a report's data in addition to the manifest and the predictions.

It is stored as canonical JSON, with thumbnails and coordinates in base64: equal evidence has equal bytes.
"""

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self, TypeAlias, cast

import numpy as np

from registry.digests import Digest, canonical_json
from registry.errors import InvalidValue
from registry.manifest import Json
from registry.quoting import quoted, shortened

FORMAT = 1
MAX_BYTES = 64 << 20
MAX_MISTAKES = 24
MAX_MAPPED = 1000
MAX_EXCERPT = 300
"""Characters of a text."""
MAX_THUMBNAIL_BYTES = 64 << 10

_PNG = b"\x89PNG\r\n\x1a\n"

_Object: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Mistake:
    """A wrong prediction.

    Attributes:
        item: the item's digest.
        right: its labels; one, or any number where the version is multilabel.
        answered: the labels that it was given, in the same form.
        confidence: probability of the answer, 0 to 1; for multilabel of the surest wrong decision.
        thumbnail: the picture as a PNG of at most 96 x 96, or None.
        excerpt: the beginning of the text, or None.
    """

    item: Digest
    right: tuple[str, ...]
    answered: tuple[str, ...]
    confidence: float
    thumbnail: bytes | None = None
    excerpt: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.confidence <= 1:
            raise InvalidValue(f"a confidence is 0 to 1, got {self.confidence}")
        if self.thumbnail is not None and (
            len(self.thumbnail) > MAX_THUMBNAIL_BYTES or not self.thumbnail.startswith(_PNG)
        ):
            raise InvalidValue(f"a thumbnail is a PNG of at most {MAX_THUMBNAIL_BYTES:,} bytes")
        if self.excerpt is not None and len(self.excerpt) > MAX_EXCERPT:
            raise InvalidValue(f"an excerpt has at most {MAX_EXCERPT} characters, got {len(self.excerpt):,}")


@dataclass(frozen=True, slots=True, eq=False)
class FeatureMap:
    """Test examples laid out on a plane by the similarity of their features.

    Attributes:
        items: their digests, each once.
        points: float32 [N, 2], finite; the axes mean nothing.
    """

    items: tuple[Digest, ...]
    points: np.ndarray

    def __post_init__(self) -> None:
        if self.points.dtype != np.float32 or self.points.shape != (len(self.items), 2):
            raise InvalidValue(
                f"expected points float32 [{len(self.items)}, 2], got {self.points.dtype} {list(self.points.shape)}"
            )
        if len(self.items) > MAX_MAPPED or len(set(self.items)) != len(self.items):
            raise InvalidValue(f"a map has at most {MAX_MAPPED:,} items, each once")
        if not np.isfinite(self.points).all():
            raise InvalidValue("a map has finite points, these are not")


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """A report's data.

    Attributes:
        history: metrics of each epoch or search step, in order.
        map: held-out items by their features, or None.
        mistakes: the surest wrong answers, the surest first.
        baselines: of each baseline ``learnt_from`` (items), ``right`` (of each label, in order), and
            ``method`` where it is not logistic regression.
    """

    history: tuple[Mapping[str, float], ...] = ()
    map: FeatureMap | None = None
    mistakes: tuple[Mistake, ...] = ()
    baselines: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.mistakes) > MAX_MISTAKES:
            raise InvalidValue(f"expected at most {MAX_MISTAKES} mistakes, got {len(self.mistakes)}")
        figures = [value for step in self.history for value in step.values()]
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in figures):
            raise InvalidValue("a history holds finite numbers")

    def to_bytes(self) -> bytes:
        """Return the stored form; ``parse`` reads it back."""
        return canonical_json(
            {
                "format": FORMAT,
                "history": [dict(step) for step in self.history],
                "map": None if self.map is None else _map_json(self.map),
                "mistakes": [_mistake_json(mistake) for mistake in self.mistakes],
                "yardsticks": {name: dict(details) for name, details in self.baselines.items()},
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the stored form.

        Raises:
            InvalidValue: the bytes are not stored evidence.
        """
        if len(data) > MAX_BYTES:
            raise InvalidValue(f"evidence has at most {MAX_BYTES:,} bytes, got {len(data):,}")
        try:
            value = _object(json.loads(data), "format", "history", "map", "mistakes", "yardsticks")
            if value["format"] != FORMAT:
                raise InvalidValue(f"this program reads evidence of format {FORMAT}; update it")
            found = cls(
                tuple(cast(Mapping[str, float], _mapping(step)) for step in _list(value["history"])),
                None if value["map"] is None else _read_map(value["map"]),
                tuple(_read_mistake(each) for each in _list(value["mistakes"])),
                {
                    name: cast(Mapping[str, Json], _mapping(details))
                    for name, details in _mapping(value["yardsticks"]).items()
                },
            )
        except InvalidValue:
            raise
        except (ValueError, RecursionError) as error:
            raise InvalidValue(f"expected stored evidence; {error}") from error
        if found.to_bytes() != data:
            raise InvalidValue(
                "evidence is stored as canonical JSON; these bytes say the same in another form"
            )
        return found


def _map_json(found: FeatureMap) -> _Object:
    return {"items": list(found.items), "points": _base64(found.points.astype("<f4").tobytes())}


def _read_map(value: object) -> FeatureMap:
    entry = _object(value, "items", "points")
    points = np.frombuffer(_bytes(entry["points"]), "<f4")
    if points.size % 2:
        raise InvalidValue("a map has two coordinates for each item")
    items = tuple(Digest(_text(item)) for item in _list(entry["items"]))
    return FeatureMap(items, points.reshape(-1, 2).astype(np.float32))


def _mistake_json(mistake: Mistake) -> _Object:
    return {
        "item": mistake.item,
        "right": list(mistake.right),
        "answered": list(mistake.answered),
        "confidence": mistake.confidence,
        "thumbnail": None if mistake.thumbnail is None else _base64(mistake.thumbnail),
        "excerpt": mistake.excerpt,
    }


def _read_mistake(value: object) -> Mistake:
    entry = _object(value, "item", "right", "answered", "confidence", "thumbnail", "excerpt")
    confidence = entry["confidence"]
    if not isinstance(confidence, float):
        raise InvalidValue(f"a confidence is a number, got {quoted(confidence, 50)}")
    return Mistake(
        Digest(_text(entry["item"])),
        tuple(_text(label) for label in _list(entry["right"])),
        tuple(_text(label) for label in _list(entry["answered"])),
        confidence,
        None if entry["thumbnail"] is None else _bytes(entry["thumbnail"]),
        None if entry["excerpt"] is None else _text(entry["excerpt"]),
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(value: object) -> bytes:
    try:
        return base64.b64decode(_text(value), validate=True)
    except binascii.Error as error:
        raise InvalidValue(f"expected base64; {error}") from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidValue(f"expected a text, got {quoted(value, 50)}")
    return value


def _list(value: object) -> Sequence[object]:
    if not isinstance(value, list):
        raise InvalidValue(f"expected a list, got {quoted(value, 50)}")
    return value


def _mapping(value: object) -> _Object:
    if not isinstance(value, dict):
        raise InvalidValue(f"expected an object, got {quoted(value, 50)}")
    return value


def _object(value: object, *keys: str) -> _Object:
    entry = _mapping(value)
    if set(entry) != set(keys):
        raise InvalidValue(f"expected the keys {', '.join(keys)}, got {shortened(', '.join(entry), 200)}")
    return entry
