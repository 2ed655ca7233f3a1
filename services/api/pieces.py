"""Work on long bytes and texts in pieces, so that other threads get the interpreter in between.

To search or decode some tens of mebibytes in one call keeps the interpreter's lock, and with it the event loop, for
up to a third of a second.
"""

import binascii
import codecs
from json.decoder import JSONDecodeError, scanstring  # type: ignore[attr-defined]  # public by use, not typed
from string import hexdigits
from typing import AnyStr

import numpy as np

PIECE = 1 << 20
"""Bytes or characters of one call: some milliseconds of the slowest of them."""

_ESCAPE = 6
"""Characters of the longest escape in a JSON string: a backslash, ``u`` and four digits."""

_HIGH_SURROGATES = ("\ud800", "\udbff")

_NO_DIGIT = 16
_DIGITS = np.array(
    [int(chr(code), 16) if chr(code) in hexdigits else _NO_DIGIT for code in range(256)], np.uint8
)


def find(data: AnyStr, wanted: AnyStr, start: int = 0) -> int:
    """Return where ``wanted``, which is not empty, begins at ``start`` or later, or -1."""
    overlap = len(wanted) - 1
    for at in range(start, len(data), PIECE):
        found = data.find(wanted, at, at + PIECE + overlap)
        if found >= 0:
            return found
    return -1


def decoded(data: bytes) -> str:
    """Return a text in UTF-8.

    Raises:
        UnicodeDecodeError: it is none; ``start`` counts from the beginning.
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
        start: behind the opening quote.

    Returns:
        its value, and where the document goes on behind the closing quote.

    Raises:
        JSONDecodeError: it is none; ``pos`` says where.
    """
    if len(text) - start <= PIECE:
        value, end = scanstring(text, start, True)
        return str(value), int(end)
    values: list[str] = []
    at = start
    while True:
        cut = _between_escapes(text, at, at + PIECE)
        # A piece ends with a quote of ours, unless the string's own comes before.
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
            # Its other half may come, and belongs to the same character.
            value, cut = value[:-1], cut - _ESCAPE
        values.append(value)
        at = cut


def _between_escapes(text: str, at: int, end: int) -> int:
    """Return where a piece ends that begins between escapes: at ``end``, or before the escape that would be cut."""
    if end >= len(text):
        return len(text)
    last = text.rfind("\\", max(at, end - _ESCAPE), end)
    if last < 0:
        return end
    before = text[at : last + 1]
    backslashes = len(before) - len(before.rstrip("\\"))
    return last if backslashes % 2 else end


def from_base64(text: bytes | str) -> bytes:
    """Decode base64 of the standard alphabet, padded, with nothing else in it (RFC 4648, 4).

    Raises:
        ValueError: it is anything else.
    """
    # The library takes a padding that is too long.
    if len(text) % 4:
        raise ValueError("Incorrect padding")
    pieces = [
        binascii.a2b_base64(text[at : at + PIECE], strict_mode=True) for at in range(0, len(text), PIECE)
    ]
    # Padding makes a piece shorter, and is allowed at the end alone.
    if any(len(piece) < PIECE // 4 * 3 for piece in pieces[:-1]):
        raise ValueError("Excess data after padding")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def unquoted(text: str) -> bytes:
    """Return a text in UTF-8 with its percent escapes decoded; what is no escape stays as it is (RFC 3986, 2.1)."""
    if "%" not in text:
        return text.encode()
    found = []
    at = 0
    while at < len(text):
        end = at + PIECE
        # An escape whose sign is among the last two characters ends beyond them.
        sign = text.rfind("%", max(at, end - 2), end)
        end = end if sign < 0 else sign + 3
        found.append(_unquoted(text[at:end].encode()))
        at = end
    return b"".join(found)


def _unquoted(data: bytes) -> bytes:
    """Decode the escapes of a piece. The standard library makes an object of each: ten million took seconds."""
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
