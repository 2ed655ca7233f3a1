"""Shortens Python's thread switch interval while a large body is parsed."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

SHORT_S = 0.0005
"""The event loop waits at most so long for the interpreter lock each time. With Python's 5 ms the p99 of small pictures
was 29 to 42 ms while large bodies were parsed, with 0.5 ms it was 13 to 16 ms. Always on, it would cost small pictures
at 32 connections a twentieth of their rate."""


class SwitchInterval:
    """The interpreter's switch interval: the short one while any ``shortened`` block runs. For one thread only."""

    def __init__(self) -> None:
        self._blocks = 0
        self._usual_s = sys.getswitchinterval()

    @contextmanager
    def shortened(self) -> Iterator[None]:
        """Keep the interval short during the block; blocks may overlap."""
        if not self._blocks:
            self._usual_s = sys.getswitchinterval()
            sys.setswitchinterval(SHORT_S)
        self._blocks += 1
        try:
            yield
        finally:
            self._blocks -= 1
            if not self._blocks:
                sys.setswitchinterval(self._usual_s)
