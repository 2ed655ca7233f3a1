"""Heartbeats: workers that hang are killed, so that others replace them.

A process that is stopped (``SIGSTOP``, a debugger), or whose event loop hangs, neither ends nor answers, and its
clients wait. So the event loop of each worker increments a counter in memory that it shares with its supervisor. The
supervisor kills a worker whose counter is unchanged in too many checks. It counts checks instead of seconds: if the
whole machine was suspended, so was the supervisor.
"""

import asyncio
import fcntl
import logging
import mmap
import os
import signal
import struct
import tempfile
import threading
import time
from contextlib import suppress
from typing import Self

VARIABLE = "CULTIVAR_SERVE_HEARTBEATS"
"""The environment variable with the descriptor of the shared file."""

INTERVAL_S = 1.0

_PLACES = 512
_FIELDS = 3
_PID, _COUNT, _SERVES = range(_FIELDS)
_PLACE_BYTES = _FIELDS * struct.calcsize("q")

_log = logging.getLogger("cultivar.supervision")


class Heartbeats:
    """The shared memory: each worker's process id, its counter, and whether it accepts connections.

    Args:
        file: descriptor of the file that backs the memory.
    """

    def __init__(self, file: int) -> None:
        self.file = file
        self._numbers = memoryview(mmap.mmap(file, _PLACES * _PLACE_BYTES)).cast("q")
        self._own: int | None = None

    @classmethod
    def make(cls) -> Self:
        """Create the memory, in an unnamed file that children inherit.

        Raises:
            OSError: there is no space for it.
        """
        with tempfile.TemporaryFile() as unnamed:
            file = os.dup(unnamed.fileno())
        # A write to a hole of a sparse file kills the process if the disk is full.
        os.posix_fallocate(file, 0, _PLACES * _PLACE_BYTES)
        os.set_inheritable(file, True)
        return cls(file)

    @classmethod
    def inherited(cls) -> Self | None:
        """Return the memory that the supervisor created, or None."""
        number = os.environ.get(VARIABLE, "")
        if not number.isdigit():
            return None
        with suppress(OSError, ValueError):
            os.set_inheritable(int(number), False)
            return cls(int(number))
        return None

    def beat(self) -> None:
        """Increment this process's counter; the first call takes a place."""
        if self._own is None:
            self._own = self._take_place()
            self._set(self._own, _SERVES, 0)
            self._set(self._own, _PID, os.getpid())
        self._set(self._own, _COUNT, self._get(self._own, _COUNT) + 1)

    def serve(self) -> None:
        """Record that this process accepts connections."""
        self.beat()
        assert self._own is not None, "it has a place since it beat"
        self._set(self._own, _SERVES, 1)

    def others_serve(self) -> bool:
        """Return whether another process accepts connections."""
        return any(
            self._get(place, _SERVES) and _lives(self._get(place, _PID))
            for place in range(_PLACES)
            if place != self._own
        )

    def counts(self) -> dict[int, int]:
        """Return each worker's counter by its process id, including workers that have ended."""
        return {
            pid: self._get(place, _COUNT) for place in range(_PLACES) if (pid := self._get(place, _PID)) != 0
        }

    def _get(self, place: int, field: int) -> int:
        return self._numbers[place * _FIELDS + field]

    def _set(self, place: int, field: int, value: int) -> None:
        self._numbers[place * _FIELDS + field] = value

    def _take_place(self) -> int:
        """Take the first place whose lock is free; the lock is released when this process ends."""
        for place in range(_PLACES):
            with suppress(OSError):
                fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB, _PLACE_BYTES, place * _PLACE_BYTES)
                return place
        raise OSError(f"expected fewer than {_PLACES} workers")


class Pulse:
    """Increments a worker's counter from the running event loop.

    Args:
        heartbeats: the shared memory.
    """

    def __init__(self, heartbeats: Heartbeats) -> None:
        self._heartbeats = heartbeats
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_soon(self._beat)

    def _beat(self) -> None:
        self._heartbeats.beat()
        self._timer = self._loop.call_later(INTERVAL_S, self._beat)


class Watchdog:
    """Kills the workers whose counter does not change.

    Args:
        heartbeats: the shared memory.
        checks: consecutive checks that may find the same count.
    """

    def __init__(self, heartbeats: Heartbeats, checks: int) -> None:
        self._heartbeats = heartbeats
        self._checks = checks
        self._seen: dict[int, tuple[int, int]] = {}

    def start(self) -> None:
        """Start to check, in a thread."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def check(self) -> None:
        """Check every worker once."""
        counts = self._heartbeats.counts()
        self._seen = {pid: seen for pid, seen in self._seen.items() if pid in counts}
        for pid, count in counts.items():
            before, times = self._seen.get(pid, (count - 1, 0))
            times = times + 1 if count == before else 0
            self._seen[pid] = count, times
            if times >= self._checks and _is_running_child(pid):
                _log.error(
                    "the worker %d shows no sign of life for %d s and is replaced", pid, times * INTERVAL_S
                )
                os.kill(pid, signal.SIGKILL)

    def _watch(self) -> None:
        while True:
            time.sleep(INTERVAL_S)
            self.check()


def _is_running_child(pid: int) -> bool:
    """Return whether a process is this one's child and has not ended; no other may be killed."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
