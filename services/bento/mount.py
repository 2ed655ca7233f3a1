"""Our application, mounted behind BentoML's middleware."""

from services.api.bento_operations import OPERATIONS
from services.api.bento_pages import PATHS
from services.httpd.asgi import Application, Receive, Scope, Send
from services.process.worker import ServerWorker


class MountMiddleware:
    """The mount's middleware: answers health and the root page before BentoML's routes, and guards its operations.

    Args:
        app: the application behind it.
        worker: answers health, and checks tokens.
    """

    _PATHS = frozenset({"/", "/livez", "/readyz", *OPERATIONS, *PATHS})

    def __init__(self, app: Application, worker: ServerWorker) -> None:
        self._app = app
        self._front = worker.front(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        ours = scope["type"] == "http" and scope["path"] in self._PATHS
        await (self._front if ours else self._app)(scope, receive, send)
