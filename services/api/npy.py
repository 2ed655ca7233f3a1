"""NumPy's array format: a strict reader and a writer.

The header is a Python literal, which NumPy evaluates. This reader accepts only the spelling that every writer uses,
in versions 1 to 3: no pickles, no structured types.
"""

import math
import re
import struct
from functools import lru_cache

import numpy as np

from registry.errors import UndecodableInput

MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 1024
MAX_DIMENSIONS = 8

_HEADER = re.compile(
    r"\{\s*'descr':\s*'(?P<descr>[<>|=][a-z]\d{1,2})',\s*'fortran_order':\s*(?P<order>True|False),"
    r"\s*'shape':\s*\((?P<shape>[0-9, ]*)\),?\s*\}\s*"
)
_ALIGNMENT = 64


def read_uint8(data: bytes) -> np.ndarray:
    """Return a uint8 array in C order, as a read-only view of the bytes.

    Raises:
        UndecodableInput: the bytes are not exactly one such array.
    """
    if data[:6] != MAGIC or len(data) < 10:
        raise UndecodableInput("expected an array in NumPy's .npy format, got something else")
    major = data[6]
    if major == 1:
        (length,), start = struct.unpack_from("<H", data, 8), 10
    elif major in (2, 3) and len(data) >= 12:
        (length,), start = struct.unpack_from("<I", data, 8), 12
    else:
        raise UndecodableInput(f"a .npy file has version 1, 2 or 3, got {major}")
    if length > MAX_HEADER_BYTES:
        raise UndecodableInput(f"a .npy header has at most {MAX_HEADER_BYTES} bytes, got {length}")
    shape, size = _shape(data[start : start + length])
    body = len(data) - start - length
    if size != body:
        raise UndecodableInput(f"an array of shape {list(shape)} has {size:,} bytes, got {body:,}")
    return np.ndarray(shape, np.uint8, data, start + length)


def write(array: np.ndarray) -> bytes:
    """Return an array as a .npy file of version 1."""
    little = np.ascontiguousarray(array)
    shape = ", ".join(map(str, little.shape)) + ("," if little.ndim == 1 else "")
    header = f"{{'descr': '{little.dtype.str}', 'fortran_order': False, 'shape': ({shape}), }}"
    padding = -(len(MAGIC) + 4 + len(header) + 1) % _ALIGNMENT
    text = (header + " " * padding + "\n").encode("latin-1")
    return b"".join((MAGIC, b"\x01\x00", struct.pack("<H", len(text)), text, little.data))


@lru_cache(maxsize=256)
def _shape(data: bytes) -> tuple[tuple[int, ...], int]:
    """Return the shape in a header, and its number of bytes. Cached: a client sends the same headers repeatedly."""
    header = _HEADER.fullmatch(data.decode("latin-1"))
    if header is None:
        raise UndecodableInput(
            "expected a .npy header of descr, fortran_order and shape, in this order, got another one"
        )
    if header["descr"] != "|u1" or header["order"] == "True":
        order = "Fortran" if header["order"] == "True" else "C"
        raise UndecodableInput(f"expected uint8 ('|u1') in C order, got {header['descr']!r} in {order} order")
    text = header["shape"]
    sizes = [size.strip() for size in text.split(",")]
    if sizes and not sizes[-1]:
        sizes.pop()
    if len(sizes) > MAX_DIMENSIONS or not all(re.fullmatch(r"0|[1-9][0-9]{0,9}", size) for size in sizes):
        raise UndecodableInput(f"a shape is at most {MAX_DIMENSIONS} whole numbers, got ({text[:100]})")
    shape = tuple(map(int, sizes))
    return shape, math.prod(shape)
