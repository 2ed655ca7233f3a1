"""The types of ASGI (asgi.readthedocs.io) that are used here."""

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Protocol, TypeAlias

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

WHEN_LEFT = "cultivar.when_left"
"""The extension by which a server reports that the client has disconnected: a task that listens for it costs more."""

WHOLE_ANSWER = "cultivar.whole_answer"
"""The extension by which a server takes an answer in one call: two messages cost as much again as writing it."""


class TellsWhenLeft(Protocol):
    """The value of ``WHEN_LEFT`` in a scope's extensions."""

    def __call__(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` once if the client disconnects before it is answered; at once if it has already."""
        ...


class TakesWholeAnswer(Protocol):
    """The value of ``WHOLE_ANSWER`` in a scope's extensions."""

    def __call__(self, status: int, headers: Headers, body: bytes) -> None:
        """Send the answer.

        Args:
            status: the HTTP status.
            headers: the headers without the body's length.
            body: the whole body.
        """
        ...
