"""Labels: their text, and their one order."""

import math
import re
import unicodedata
from collections.abc import Iterable

MAX_LABEL_LENGTH = 200

_DIGITS = re.compile(r"(\d+)")


def clean(value: object) -> str:
    """Return a label's text: without spaces around it, in Unicode's composed form (NFC).

    macOS stores folder names decomposed, so the same label would else be two. Whole numbers lose
    the ``.0`` that a column with gaps gives them.

    Raises:
        ValueError: there is no label (None, NaN, nothing but spaces), or it is no label's kind;
            the message says which.
    """
    if value is None:
        raise ValueError("no label")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} as its label")
        return str(int(value)) if value.is_integer() else repr(value)
    if not isinstance(value, str | int):
        raise ValueError(f"{type(value).__name__} as its label")
    text = unicodedata.normalize("NFC", str(value)).strip()
    if not text:
        raise ValueError("an empty label")
    if text.lower() == "nan":
        raise ValueError("NaN as its label")
    if len(text) > MAX_LABEL_LENGTH or not text.isprintable():
        raise ValueError(
            f"a label that is over {MAX_LABEL_LENGTH} characters or not printable, {text[:40]!r}"
        )
    return text


def ordered(labels: Iterable[str]) -> tuple[str, ...]:
    """Return different labels in natural order.

    Numbers by value, if all of them are numbers; else digits inside a text count as numbers
    (``room 2`` before ``room 10``).
    """
    distinct = set(labels)
    numbers = {label: _number(label) for label in distinct}
    if all(number is not None for number in numbers.values()):
        return tuple(sorted(distinct, key=lambda label: (numbers[label], label)))
    return tuple(sorted(distinct, key=_natural))


def _number(label: str) -> float | None:
    try:
        value = float(label)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _natural(label: str) -> tuple[list[tuple[int, int, str]], str]:
    pieces = _DIGITS.split(label.casefold())
    key = [(0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in pieces if piece]
    return key, label
