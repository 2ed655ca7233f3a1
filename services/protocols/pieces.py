"""Work on long bytes and texts in pieces, so that other threads get the interpreter in between.

To search or decode some tens of mebibytes in one call keeps the interpreter's lock, and with it the event loop, for
up to a third of a second.
"""

import binascii
import codecs
from string import hexdigits
from typing import AnyStr

import numpy as np

PIECE = 1 << 20
"""Bytes or characters of one call: some milliseconds of the slowest of them."""

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
