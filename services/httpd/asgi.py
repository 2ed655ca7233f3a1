"""The types of ASGI (asgi.readthedocs.io), as far as they are used here."""

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Protocol, TypeAlias

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

WHEN_LEFT = "cultivar.when_left"
"""The extension by which a server says that the client is gone: a task that waits to be told costs more."""

WHOLE_ANSWER = "cultivar.whole_answer"
"""The extension by which a server takes an answer whole: two messages cost as much again as writing it."""


class TellsWhenLeft(Protocol):
    """What stands under ``WHEN_LEFT`` in a scope's extensions."""

    def __call__(self, tell: Callable[[], None]) -> None:
        """Let something be called once when the client goes away before it was answered, at once where it did."""
        ...


class TakesWholeAnswer(Protocol):
    """What stands under ``WHOLE_ANSWER`` in a scope's extensions."""

    def __call__(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer.

        Args:
            status: of HTTP.
            headers: without the body's length.
            body: all of it.
        """
        ...
