"""The floor of a Python front end: a bare ASGI callable that reads a body and answers always the same.

On uvicorn with uvloop and httptools, one process. What a server in Python takes above this is its own.
"""

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

ANSWER = b"0" * int(os.environ.get("PEER_ANSWER_BYTES", "500"))
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))]


async def app(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    """Answer one request."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})
