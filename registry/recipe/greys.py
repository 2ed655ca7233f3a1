"""Conversion of greys of more than 8 bits to 8 bits.

A file declares the bits of a value, but rarely which value is white. A camera's 12 bits are stored in 16, and
a picture of 8 bits may be stored as 32-bit integers or as fractions. Scaled by the range of their type, such
pictures would be black. So the range is that of the smallest common depth that contains the file's largest
value:

=================  ==========================================================
stored as          white is
=================  ==========================================================
12 bits (TIFF)     4 095
whole numbers      255, 4 095 or 65 535, the first that contains them
fractions          1, 255, 4 095 or 65 535, likewise, with 5 % tolerance
=================  ==========================================================

Black is always 0. Values without such a range are rejected: negative values, whole numbers over 65 535,
fractions from 1.05 to 16 (neither 0 to 1 nor 0 to 255), infinity, and pictures with only NaN. A NaN among
other values counts as 0.

For signed values of 16 bits the largest range is 32 767 instead of 65 535. If a TIFF declares that 0 is
white, the levels are inverted.

The rule uses one file at a time, so training and serving cannot differ. Therefore a picture of 16 bits
without values over 4 095 is read as one of 12 bits; the caller gets a remark.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from registry.errors import UndecodableInput

_TOPS = (255, 4095, 65535)
_SIGNED_TOPS = (255, 4095, 32767)
_OVERSHOOT = 1.05
"""Tolerance for sharpening filters, which leave values beyond both ends of the range."""
_STRIP_PIXELS = 1 << 20
_LEAST_WHOLE_FRACTION = 16
"""A picture whose largest fraction is between 1 and this is ambiguous; as 0 to 255 it would be black."""


@dataclass(frozen=True, slots=True)
class Grey:
    """A grey picture of 8 bits.

    Attributes:
        pixels: uint8 [height, width].
        remark: a note about its range if the file leaves it open and the type suggests another; or None.
    """

    pixels: np.ndarray
    remark: str | None


def eight_bits(values: np.ndarray, bits: int, *, signed: bool = False, zero_is_white: bool = False) -> Grey:
    """Scale greys to 8 bits.

    Args:
        values: [height, width], integers or float32.
        bits: declared bits per value: 9 to 16, or 32.
        signed: whether the values are signed 16-bit integers, so that the largest is 32 767.
        zero_is_white: whether 0 is white.

    Raises:
        UndecodableInput: the values have no known range.
    """
    whole = np.issubdtype(values.dtype, np.integer)
    if not whole and np.isnan(values).all():
        raise UndecodableInput("expected a picture's values, this one's are all missing (NaN)")
    # Unlike min and max these two ignore NaN.
    low = float(np.fmin.reduce(values, axis=None, initial=0))
    high = float(np.fmax.reduce(values, axis=None, initial=0))
    if bits < 16:
        top, usual = (1 << bits) - 1, (1 << bits) - 1
    else:
        tops = _SIGNED_TOPS if signed else _TOPS
        top, usual = _top(low, high, whole, tops), tops[-1] if whole else 1
    remark = f"greys of {bits} bits read as 0 to {top}, by their values"
    odd = high > 0 and (top != usual or (whole and bits > 16))
    pixels = np.empty(values.shape, np.uint8)
    table = _levels(np.arange(int(high) + 1), top) if whole else None
    rows = max(1, _STRIP_PIXELS // max(1, values.shape[1]))
    for start in range(0, len(values), rows):  # all at once, they would take 8 bytes a pixel several times
        strip = values[start : start + rows]
        pixels[start : start + rows] = (
            _levels(np.where(np.isnan(strip), 0, strip), top)
            if table is None
            else table.take(strip, mode="clip")
        )
    return Grey(255 - pixels if zero_is_white else pixels, remark if odd else None)


def _levels(values: np.ndarray, top: int) -> np.ndarray:
    """Return values as uint8, where ``top`` is white. They are first scaled to 16 bits: 65 535 is 257 times 255."""
    levels = values.astype(np.float64) * (65535.0 / top) / 257.0 + 0.5
    return np.clip(levels, 0, 255).astype(np.uint8)


def _top(low: float, high: float, whole: bool, known: tuple[int, ...]) -> int:
    """Return the value that is white."""
    overshoot = 1.0 if whole else _OVERSHOOT
    tops = known if whole or high >= _LEAST_WHOLE_FRACTION else (1,)
    top = next((top for top in tops if high <= top * overshoot), None)
    if top is None or low < -(overshoot - 1.0) * top:
        ranges = f"0 to 255, 0 to 4095 or 0 to {known[-1]}" + ("" if whole else ", or 0 to 1")
        raise UndecodableInput(
            f"expected greys of {ranges}; this picture's run from {low:g} to {high:g}, and which of them is "
            "white the file does not say; scale them to 8 or 16 bits"
        )
    return top


def check_deep_colours(colours: Iterable[np.ndarray]) -> None:
    """Reject a picture of 16 bits per channel that would be black, because Pillow keeps only the upper 8 bits.

    Args:
        colours: the upper 8 bits of each colour, uint8 [height, width].

    Raises:
        UndecodableInput: no channel uses more than 12 bits, and not all values are 0.
    """
    if 0 < max(int(colour.max(initial=0)) for colour in colours) < 16:
        raise UndecodableInput(
            "expected colours that use all of their 16 bits; this picture's use 12 or fewer, and would be "
            "black; scale them to 8 or 16 bits"
        )
