"""BentoML's pages: metrics, documentation and health, rendered one at a time and once for all waiting requests.

Each takes the interpreter for milliseconds. Rendered for every request, a few hundred requests on one connection
would block all others.
"""

import asyncio
from collections.abc import Mapping

from services.api.reply import Reply
from services.httpd.asgi import Application, Message, Scope

PATHS = frozenset({"/metrics", "/healthz", "/docs.json", "/schema.json"})
"""The pages that are served. BentoML's page at the root, which loads external resources, and its files are not."""

_CONTENT_TYPE = b"content-type"
_LENGTH = b"content-length"


class BentoPages:
    """Pages of an application, for ``GET`` without a query.

    Args:
        application: BentoML's.
    """

    def __init__(self, application: Application) -> None:
        self._application = application
        self._one = asyncio.Lock()
        self._next: dict[str, asyncio.Task[Reply]] = {}

    async def get(self, scope: Scope) -> Reply:
        """Return the page at a request's path, rendered now or later."""
        path: str = scope["path"]
        page = self._next.get(path)
        if page is None:
            page = self._next[path] = asyncio.ensure_future(self._make(scope))
        # Other requests may wait for it too, so a cancelled one must not cancel it.
        return await asyncio.shield(page)

    async def _make(self, scope: Scope) -> Reply:
        async with self._one:
            # Requests from now on get a later rendering.
            del self._next[scope["path"]]
            return await _answer(self._application, scope)


async def _answer(application: Application, asked: Mapping[str, object]) -> Reply:
    """Call an application with only the path of a request, and return its complete answer."""
    scope = {**asked, "method": "GET", "query_string": b"", "headers": [(b"host", b"localhost")]}
    scope.pop("extensions", None)
    head: Message = {"status": 500, "headers": []}
    body: list[bytes] = []
    unasked = True

    async def receive() -> Message:
        nonlocal unasked
        if unasked:
            unasked = False
            return {"type": "http.request", "body": b"", "more_body": False}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        nonlocal head
        if message["type"] == "http.response.start":
            head = message
        else:
            body.append(message.get("body", b""))

    await application(scope, receive, send)
    headers = [(bytes(name).lower(), bytes(value)) for name, value in head["headers"]]
    return Reply(
        head["status"],
        next((value for name, value in headers if name == _CONTENT_TYPE), b""),
        b"".join(body),
        tuple(header for header in headers if header[0] not in (_CONTENT_TYPE, _LENGTH)),
    )
