"""Polls a registry that may be unreachable for a while, in its own thread.

What was read last stays in use. One line is logged when the registry becomes unreadable, and one when it can be read
again.
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
"""Additional seconds between two attempts while the registry is unreadable."""
_LEAVE_S = 5.0
"""Seconds that ``close`` waits for the thread, which may be blocked by a lock or a database."""


class RegistryPoller(Generic[_T]):
    """Calls a function with a registry periodically.

    Args:
        connect: opens the registry; called again after each failure.
        look: the function; it may return, for example, whether there was something to do.
        name: name of the thread and the logger.
        keeps: what stays unchanged while the registry is unreadable, for the log.
        poll_s: seconds between two polls.
        on_away: called with True when the registry becomes unreadable, and with False when it is back.

    Attributes:
        stopping: set when the poller is closed.
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
        """Start polling, in a thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop polling and close the registry, unless the thread is blocked."""
        self.stopping.set()
        if self._thread.is_alive():
            self._thread.join(_LEAVE_S)
        if not self._thread.is_alive():
            self._let_go()

    def look(self) -> _T:
        """Poll once. After a failure the registry is opened again for the next poll.

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
            # After any error, what was read last stays in use.
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
        self._log.warning("the registry is read again after %.0f s", monotonic() - self._away_since)
        self._away_since = None
        self._on_away(False)

    def _let_go(self) -> None:
        registry, self._registry = self._registry, None
        if registry is not None:
            with suppress(Exception):
                registry.close()
