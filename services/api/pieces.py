"""Searches and decodes long bytes and texts in pieces, so that other threads can run in between.

One call on some tens of MiB holds the interpreter's lock, and so blocks the event loop, for up to a third of a
second.
"""

import binascii
import codecs
from json.decoder import JSONDecodeError, scanstring  # type: ignore[attr-defined]  # public by use, not typed
from string import hexdigits
from typing import AnyStr

import numpy as np

PIECE = 1 << 20
"""Bytes or characters per call; the slowest calls take some milliseconds."""

_ESCAPE = 6
"""Characters of the longest escape in a JSON string: a backslash, ``u`` and four digits."""

_HIGH_SURROGATES = ("\ud800", "\udbff")

_NO_DIGIT = 16
_DIGITS = np.array(
    [int(chr(code), 16) if chr(code) in hexdigits else _NO_DIGIT for code in range(256)], np.uint8
)


def find(data: AnyStr, wanted: AnyStr, start: int = 0) -> int:
    """Return the first position of ``wanted``, which is not empty, from ``start`` on, or -1."""
    overlap = len(wanted) - 1
    for at in range(start, len(data), PIECE):
        found = data.find(wanted, at, at + PIECE + overlap)
        if found >= 0:
            return found
    return -1


def decoded(data: bytes) -> str:
    """Decode UTF-8.

    Raises:
        UnicodeDecodeError: it is not UTF-8; ``start`` counts from the beginning of the data.
    """
    if len(data) <= PIECE or data.isascii():
        return data.decode()
    decoder = codecs.getincrementaldecoder("utf-8")()
    texts = []
    for at in range(0, len(data), PIECE):
        pending = len(decoder.getstate()[0])
        try:
            texts.append(decoder.decode(data[at : at + PIECE], at + PIECE >= len(data)))
        except UnicodeDecodeError as error:
            error.start += at - pending
            raise
    return "".join(texts)


def string(text: str, start: int) -> tuple[str, int]:
    """Read a JSON string.

    Args:
        text: the document.
        start: the position after the opening quote.

    Returns:
        its value, and the position after the closing quote.

    Raises:
        JSONDecodeError: it is not a JSON string; ``pos`` is where.
    """
    if len(text) - start <= PIECE:
        value, end = scanstring(text, start, True)
        return str(value), int(end)
    values: list[str] = []
    at = start
    while True:
        cut = _between_escapes(text, at, at + PIECE)
        # The scanner needs a closing quote: this one, unless the string's own comes first.
        piece = text[at:cut] + '"'
        try:
            value, end = scanstring(piece, 0, True)
        except JSONDecodeError as error:
            raise JSONDecodeError(error.msg, text, at + error.pos) from error
        if end < len(piece):
            values.append(value)
            return "".join(values), at + int(end)
        if cut == len(text):
            raise JSONDecodeError("Unterminated string starting at", text, start - 1)
        if value and _HIGH_SURROGATES[0] <= value[-1] <= _HIGH_SURROGATES[1]:
            # The low surrogate may follow, and belongs to the same character.
            value, cut = value[:-1], cut - _ESCAPE
        values.append(value)
        at = cut


def _between_escapes(text: str, at: int, end: int) -> int:
    """Return where a piece that starts between escapes ends: at ``end``, or before an escape that ``end`` would cut."""
    if end >= len(text):
        return len(text)
    last = text.rfind("\\", max(at, end - _ESCAPE), end)
    if last < 0:
        return end
    before = text[at : last + 1]
    backslashes = len(before) - len(before.rstrip("\\"))
    return last if backslashes % 2 else end


def from_base64(text: bytes | str) -> bytes:
    """Decode padded base64 of the standard alphabet, without any other characters (RFC 4648, 4).

    Raises:
        ValueError: it is anything else.
    """
    # The library accepts padding that is too long.
    if len(text) % 4:
        raise ValueError("Incorrect padding")
    pieces = [
        binascii.a2b_base64(text[at : at + PIECE], strict_mode=True) for at in range(0, len(text), PIECE)
    ]
    # Padding makes a piece shorter, and is allowed only at the end.
    if any(len(piece) < PIECE // 4 * 3 for piece in pieces[:-1]):
        raise ValueError("Excess data after padding")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def unquoted(text: str) -> bytes:
    """Return a text in UTF-8 with its percent escapes decoded (RFC 3986, 2.1); invalid escapes stay unchanged."""
    if "%" not in text:
        return text.encode()
    found = []
    at = 0
    while at < len(text):
        end = at + PIECE
        # An escape that starts in the last two characters ends after them.
        sign = text.rfind("%", max(at, end - 2), end)
        end = end if sign < 0 else sign + 3
        found.append(_unquoted(text[at:end].encode()))
        at = end
    return b"".join(found)


def _unquoted(data: bytes) -> bytes:
    """Decode the escapes of a piece. The standard library creates an object for each: ten million took seconds."""
    codes = np.frombuffer(data, np.uint8)
    signs = np.flatnonzero(codes[:-2] == ord("%"))
    high, low = _DIGITS[codes[signs + 1]], _DIGITS[codes[signs + 2]]
    escapes = (high != _NO_DIGIT) & (low != _NO_DIGIT)
    signs = signs[escapes]
    decoded = codes.copy()
    decoded[signs] = high[escapes] << 4 | low[escapes]
    kept = np.ones(len(codes), bool)
    kept[signs + 1] = kept[signs + 2] = False
    return decoded[kept].tobytes()
