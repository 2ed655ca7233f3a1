"""Labels: their text and their order."""

import math
import re
import unicodedata
from collections.abc import Iterable

from registry.errors import DatasetError
from registry.quoting import quoted
from registry.spelling import alike, appearance, composed

MAX_LABEL_LENGTH = 200

_DIGITS = re.compile(r"(\d+)")
_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?")
_FORBIDDEN = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories of control characters, lone surrogates, and line and paragraph separators."""
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Directional embeddings, overrides and isolates: text next to such a label would be reordered."""


def clean(value: object) -> str:
    """Return a label's text: without spaces around it, in Unicode's composed form (NFC).

    macOS stores folder names decomposed, so the same label could otherwise occur twice. Whole numbers lose
    the ``.0`` that a column with gaps gives them. Characters that orthography needs are kept: joiners
    (U+200C, U+200D), variation selectors, wide and non-breaking spaces. Text such as ``nan`` is a label; the
    number NaN is not.

    Raises:
        ValueError: there is no label (None, NaN, nothing that shows), or it is no label's kind;
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
    text = composed(str(value)).strip()
    if not appearance(text):
        raise ValueError("an empty label")
    if len(text) > MAX_LABEL_LENGTH:
        raise ValueError(f"a label of over {MAX_LABEL_LENGTH} characters, {quoted(text, 40)}")
    if odd := next((letter for letter in text if not _allowed(letter)), None):
        raise ValueError(f"a label that holds the control character U+{ord(odd):04X}, {quoted(text, 40)}")
    return text


def check_alike(labels: Iterable[str]) -> None:
    """Check that no two labels look alike.

    Raises:
        DatasetError: two labels differ only in spaces or invisible characters.
    """
    if pair := alike(labels):
        first, second = (ascii(label) for label in pair)
        raise DatasetError(
            f"the labels {first} and {second} look alike and differ in spaces or in characters that do not show; "
            "write them the same way, or differently enough to be told apart"
        )


def plain_numbers(labels: Iterable[str]) -> dict[str, str]:
    """Return the normalised labels of a numeric column in which some are written ``1.0``.

    Many programs write a column of whole numbers with gaps in this form. A typed table has ``1`` for the same
    label, so both are one label. Nothing is changed if that could lose information: if a label is not a
    number, or is not in Python's shortest form (``1.10``, ``007``).

    Returns:
        The new form of each label that changes; empty if none does.
    """
    distinct = set(labels)
    if not all(_NUMBER.fullmatch(label) and repr(_value(label)) == label for label in distinct):
        return {}
    return {label: clean(_value(label)) for label in distinct if clean(_value(label)) != label}


def _value(label: str) -> float | int:
    return float(label) if "." in label else int(label)


def _allowed(letter: str) -> bool:
    """Tell whether a label may contain a character: not if it controls a terminal, breaks a line or reverses text."""
    return unicodedata.category(letter) not in _FORBIDDEN and letter not in _TURNING


def ordered(labels: Iterable[str]) -> tuple[str, ...]:
    """Return distinct labels in natural order.

    If all are numbers they are sorted by value; otherwise digits inside a text count as numbers (``room 2``
    before ``room 10``).
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
