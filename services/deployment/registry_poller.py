"""Following a registry that may be away for a while: looking again and again, in a thread of its own.

What was read last goes on being used. That the registry cannot be read is logged once, and once more when it can
be again.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Generic, TypeVar

from registry.errors import CultivarError
from registry.registry import Registry

_T = TypeVar("_T")

_RETRY_S = 1.0
"""Between two attempts while the registry is away."""
_LEAVE_S = 5.0
"""A look may wait for a lock or a database; the process ends without it."""


class RegistryPoller(Generic[_T]):
    """Looks at a registry.

    Args:
        connect: opens the registry; called again after each failure.
        look: what is done with it; returns whether there was something to do, for example.
        name: of the thread and the log.
        keeps: what stays as it is while the registry is away, for the log.
        poll_s: seconds between two looks.
        on_away: called with True where the registry went away, and with False when it is back.

    Attributes:
        stopping: set when the follower is closed.
    """

    def __init__(
        self,
        connect: Callable[[], Registry],
        look: Callable[[Registry], _T],
        *,
        name: str,
        keeps: str,
        poll_s: float,
        on_away: Callable[[bool], None] = lambda away: None,
    ) -> None:
        self.stopping = threading.Event()
        self._connect = connect
        self._look = look
        self._keeps = keeps
        self._poll_s = poll_s
        self._on_away = on_away
        self._registry: Registry | None = None
        self._away_since: float | None = None
        self._log = logging.getLogger(f"cultivar.{name}")
        self._thread = threading.Thread(target=self._follow, name=name, daemon=True)

    def start(self) -> None:
        """Begin to look, in a thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop looking, and let go of the registry, unless it does not answer at this moment."""
        self.stopping.set()
        if self._thread.is_alive():
            self._thread.join(_LEAVE_S)
        if not self._thread.is_alive():
            self._let_go()

    def look(self) -> _T:
        """Look once. Where that fails the registry is opened anew for the next look.

        Raises:
            CultivarError: the registry could not be read.
        """
        if self._registry is None:
            self._registry = self._connect()
        try:
            return self._look(self._registry)
        except Exception:
            self._let_go()
            raise

    def _follow(self) -> None:
        while not self.stopping.is_set():
            try:
                self.look()
            # Whatever it is, what is known goes on being used.
            except Exception as error:
                self._went(error)
                self.stopping.wait(_RETRY_S)
            else:
                self._came()
            self.stopping.wait(self._poll_s)

    def _went(self, error: Exception) -> None:
        if self._away_since is not None or self.stopping.is_set():
            return
        self._away_since = monotonic()
        foreseen = isinstance(error, (CultivarError, OSError))
        words = " ".join(str(error).split()) if foreseen else repr(error)
        self._log.error(
            "the registry cannot be read; %s: %s", self._keeps, words, exc_info=None if foreseen else error
        )
        self._on_away(True)

    def _came(self) -> None:
        if self._away_since is None:
            return
        self._log.warning("the registry is read again, after %.0f s", monotonic() - self._away_since)
        self._away_since = None
        self._on_away(False)

    def _let_go(self) -> None:
        registry, self._registry = self._registry, None
        if registry is not None:
            with suppress(Exception):
                registry.close()
