"""BentoML's own operations, ``/classify`` and ``/embed``: answered by BentoML, under the same limits as ours."""

from collections.abc import Callable
from functools import partial

from services import metrics
from services.api import bento_body, request
from services.api.admission import Admission
from services.api.auth import Authenticator, set_grant
from services.api.context import RequestContext
from services.api.parsing import parse
from services.api.reply import other_method, refusal, send_reply
from services.errors import TargetUnavailable
from services.httpd.asgi import Application, Message, Receive, Scope, Send
from services.inference.pipeline import InferencePipeline

OPERATIONS = {"/classify": metrics.CLASSIFY, "/embed": metrics.EMBED}
"""Their paths. The target is in the body; the token is checked before the body is read."""


class BentoOperations:
    """Checks a request to one of BentoML's operations, and lets BentoML answer it.

    BentoML would read a body of any length in one call in the event loop. So the body is parsed here. BentoML gets a
    body without the inputs; the operation gets the inputs.

    Args:
        bentoml: BentoML's application.
        inference: returns the pipeline, or None while the process is still starting.
        admission: the limits on requests and bytes.
        authenticator: checks tokens.
        max_rows: inputs of one request.
    """

    def __init__(
        self,
        bentoml: Application,
        inference: Callable[[], InferencePipeline | None],
        admission: Admission,
        authenticator: Authenticator,
        max_rows: int,
    ) -> None:
        self._bentoml = bentoml
        self._inference = inference
        self._admission = admission
        self._authenticator = authenticator
        self._max_rows = max_rows

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request to one of the paths."""
        if scope["method"] != "POST":
            await send_reply(scope, send, other_method(scope["method"]))
            return
        operation = OPERATIONS[scope["path"]]
        respond = partial(refusal, operation=operation)
        set_grant(None)
        async with RequestContext(self._admission, scope, receive, send, operation, respond) as context:
            set_grant(self._authenticator.admit(scope["headers"], operation))
            if self._inference() is None:
                raise TargetUnavailable("the server is still starting")
            admitted = context.admit()
            head = request.read({**scope, "query_string": b""}, operation)
            body = await admitted.body(head.length)
            inputs, rest = await parse(
                len(body), bento_body.read, head.content_type, body, operation, self._max_rows
            )
            del body
            context.hand_over()
            bento_body.put_inputs(inputs)
            del inputs
            await self._bentoml(_of_length(scope, len(rest)), _again(rest, receive), send)


def _of_length(scope: Scope, length: int) -> Scope:
    """Return the scope with another body length."""
    kept = [
        header for header in scope["headers"] if header[0] not in (b"content-length", b"transfer-encoding")
    ]
    return {**scope, "headers": [*kept, (b"content-length", b"%d" % length)]}


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that yields a body first."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive_again() -> Message:
        for message in messages:
            return message
        return await receive()

    return receive_again
