"""BentoML's pages: metrics, documentation and health, made one at a time and once for all who wait.

Each takes milliseconds of the interpreter. Made for every request that comes, a few hundred on one connection would
keep it from everybody else.
"""

import asyncio
from collections.abc import Mapping

from services.api.reply import Reply
from services.httpd.asgi import Application, Message, Scope

PATHS = frozenset({"/metrics", "/healthz", "/docs.json", "/schema.json"})
"""The pages that are served: not BentoML's own page at the root, which loads things from elsewhere, nor its files."""

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
        """Return the page at a request's path, as it is at this moment or a later one."""
        path: str = scope["path"]
        page = self._next.get(path)
        if page is None:
            page = self._next[path] = asyncio.ensure_future(self._make(scope))
        # Others may wait for it too: who leaves does not take it from them.
        return await asyncio.shield(page)

    async def _make(self, scope: Scope) -> Reply:
        async with self._one:
            # Who asks from now on gets a later one.
            del self._next[scope["path"]]
            return await _answer(self._application, scope)


async def _answer(application: Application, asked: Mapping[str, object]) -> Reply:
    """Let an application answer as if the request said nothing but its path, and return the whole answer."""
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
