"""Parses small bodies in the event loop and larger ones in worker threads."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from services.api import codec
from services.api.allocator import DelayedTrim
from services.api.switch_interval import SwitchInterval
from services.inference.inputs import Inputs

MAX_PARSED_IN_LOOP_BYTES = 256 << 10
"""Larger bodies are parsed in a thread. Bodies of a size class share one, so that they do not starve the event loop."""

MODERATE_BODY_BYTES = 4 << 20
"""Bodies of up to this many bytes have their own thread, and never wait for larger ones."""

_MODERATE, _LARGE = ThreadPoolExecutor(1, "parse"), ThreadPoolExecutor(1, "parse-large")
_TRIM = DelayedTrim()
_SWITCH_INTERVAL = SwitchInterval()
_T = TypeVar("_T")


async def parse_inputs(content_type: str, body: bytes, max_rows: int) -> Inputs:
    """Parse a body in the event loop or in a thread, by its length; raises as ``codec.parse`` does."""
    if codec.is_read_at_once(content_type):
        if len(body) > MODERATE_BODY_BYTES:
            _TRIM.give_back()
        return codec.parse(content_type, body, max_rows)
    return await parse(len(body), codec.parse, content_type, body, max_rows)


async def parse(body_bytes: int, parser: Callable[..., _T], *arguments: object) -> _T:
    """Run a parser and return its result: in the event loop for small bodies, in a thread for others.

    Args:
        body_bytes: the body's length.
        parser: is called with the arguments.
        *arguments: the parser's arguments, including the body.
    """
    if body_bytes <= MAX_PARSED_IN_LOOP_BYTES:
        return parser(*arguments)
    loop = asyncio.get_running_loop()
    moderate = body_bytes <= MODERATE_BODY_BYTES
    try:
        with _SWITCH_INTERVAL.shortened():
            return await loop.run_in_executor(_MODERATE if moderate else _LARGE, partial(parser, *arguments))
    finally:
        if not moderate:
            _TRIM.give_back()
