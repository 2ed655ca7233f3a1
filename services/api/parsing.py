"""Where bodies are parsed: small ones in the event loop, others in threads beside it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from services.api import codec
from services.api.allocator import DelayedTrim
from services.inference.inputs import Inputs

MAX_PARSED_IN_LOOP_BYTES = 256 << 10
"""Larger bodies are parsed in a thread: one, so that they cannot take the interpreter from the event loop together."""

MODERATE_BODY_BYTES = 4 << 20
"""Bodies of up to as many bytes have a thread of their own, and never wait for larger ones."""

_MODERATE, _LARGE = ThreadPoolExecutor(1, "parse"), ThreadPoolExecutor(1, "parse-large")
_TRIM = DelayedTrim()
_T = TypeVar("_T")


async def parse_inputs(content_type: str, body: bytes, max_rows: int) -> Inputs:
    """Parse a body where its length allows; raises as ``codec.parse`` does."""
    if codec.is_read_at_once(content_type):
        return codec.parse(content_type, body, max_rows)
    return await parse(len(body), codec.parse, content_type, body, max_rows)


async def parse(body_bytes: int, parser: Callable[..., _T], *arguments: object) -> _T:
    """Return what a parser makes of a body: it runs in the event loop for small bodies, in a thread for others.

    Args:
        body_bytes: the body's length.
        parser: is called with the arguments.
        *arguments: the body among them.
    """
    if body_bytes <= MAX_PARSED_IN_LOOP_BYTES:
        return parser(*arguments)
    loop = asyncio.get_running_loop()
    if body_bytes <= MODERATE_BODY_BYTES:
        return await loop.run_in_executor(_MODERATE, partial(parser, *arguments))
    try:
        return await loop.run_in_executor(_LARGE, partial(parser, *arguments))
    finally:
        _TRIM.give_back()
