"""Our application, mounted behind BentoML's middleware."""

from services.api.bento_operations import OPERATIONS
from services.api.bento_pages import PATHS
from services.httpd.asgi import Application, Receive, Scope, Send
from services.process.worker import ServerWorker


class MountMiddleware:
    """Answers health and the page at the root in front of BentoML's own routes, and guards its operations.

    The mount's middleware.

    Args:
        app: what stands behind.
        worker: answers health, and knows who may ask.
    """

    _PATHS = frozenset({"/", "/livez", "/readyz", *OPERATIONS, *PATHS})

    def __init__(self, app: Application, worker: ServerWorker) -> None:
        self._app = app
        self._front = worker.front(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        ours = scope["type"] == "http" and scope["path"] in self._PATHS
        await (self._front if ours else self._app)(scope, receive, send)
