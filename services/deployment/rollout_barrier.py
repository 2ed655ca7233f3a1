"""Lets the workers of one server switch versions at the same moment.

Each worker follows the registry and prepares new versions independently. Without coordination a client would be
answered by the new version, then by the old one, then by the new one again. So a worker that is prepared waits until
all are. The first one to see that sets the moment of the switch. A worker that is not prepared in time is left
behind: the others switch without it, and it refuses requests until it has caught up.

The workers communicate through a folder that their server created. There is no guarantee across machines.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FOLDER = "CULTIVAR_SERVE_MEETING"
"""The environment variable with the folder; the server sets it for its workers."""

_LEAD_S = 0.02
"""Seconds from setting the moment to the switch: longer than the others need to notice it."""
_POLL_S = 0.004
_ARRIVED, _MOMENT = ".at", ".moment"


class RolloutBarrier:
    """The barrier as one of the workers of a server uses it.

    Args:
        folder: the shared folder.
        patience_s: seconds that prepared workers wait for the others.
        worker: this worker's number; by default its process id.
        alive: returns whether a worker is alive.

    Attributes:
        folder: the shared folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        patience_s: float,
        worker: int | None = None,
        alive: "Callable[[int], bool] | None" = None,
    ) -> None:
        self.folder = folder
        self._patience_s = patience_s
        self._worker = os.getpid() if worker is None else worker
        self._alive = alive or _lives
        folder.mkdir(parents=True, exist_ok=True)

    def arrive(self, position: int) -> None:
        """Announce that this worker has prepared a position of the registry."""
        self._write(f"{self._worker}{_ARRIVED}", str(position))

    def agree(self, position: int, stop: threading.Event) -> bool:
        """Wait for the other workers, and then for the moment of the switch.

        Args:
            position: the position that this worker has prepared.
            stop: set to stop waiting.

        Returns:
            True at the moment of the switch. False if another worker has prepared a later position, so that this one
            has more to prepare first, or if waiting was stopped.
        """
        self.arrive(position)
        limit = time.monotonic() + self._patience_s
        while not stop.is_set():
            moment = self._moments().get(position)
            if moment is not None:
                time.sleep(max(0.0, moment - time.monotonic()))
                self._forget(position)
                return True
            arrived = self._arrived()
            if any(other > position for other in arrived.values()):
                return False
            if time.monotonic() > limit or all(other == position for other in arrived.values()):
                self._name(position)
            else:
                stop.wait(_POLL_S)
        return False

    def return_to(self, position: int) -> None:
        """Delete the moments after a position, as the registry was restored to an older state."""
        for each in self._moments():
            if each > position:
                (self.folder / f"{each}{_MOMENT}").unlink(missing_ok=True)

    @contextmanager
    def preparing(self, position: int, left_behind: Callable[[], None]) -> Iterator[None]:
        """Watch, while this worker prepares, whether the others switch without it.

        Args:
            position: the position that it serves now.
            left_behind: called once, from a thread, when they have switched.
        """
        done = threading.Event()

        def watch() -> None:
            while not done.wait(_POLL_S):
                passed = [at for at, moment in self._moments().items() if moment <= time.monotonic()]
                if any(at > position for at in passed):
                    left_behind()
                    return

        thread = threading.Thread(target=watch, name="meeting", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _arrived(self) -> dict[int, int]:
        """Return the positions of the workers that are alive."""
        found = self._numbers(_ARRIVED)
        return {worker: int(text) for worker, text in found.items() if self._alive(worker)}

    def _moments(self) -> dict[int, float]:
        """Return the moments by position, on ``time.monotonic()``, which all processes share."""
        return {position: float(text) for position, text in self._numbers(_MOMENT).items()}

    def _numbers(self, suffix: str) -> dict[int, str]:
        found = {}
        for path in self.folder.glob(f"*{suffix}"):
            with suppress(OSError, ValueError):
                found[int(path.name.removesuffix(suffix))] = path.read_text()
        return found

    def _name(self, position: int) -> None:
        """Set the moment, unless another worker just did."""
        draft = self._write(f"{self._worker}.draft", repr(time.monotonic() + _LEAD_S))
        with suppress(FileExistsError):
            os.link(draft, self.folder / f"{position}{_MOMENT}")

    def _forget(self, position: int) -> None:
        """Delete the moments of earlier positions."""
        for each in self._moments():
            if each < position:
                (self.folder / f"{each}{_MOMENT}").unlink(missing_ok=True)

    def _write(self, name: str, text: str) -> Path:
        part = self.folder / f"{name}.{self._worker}.part"
        part.write_text(text)
        return part.replace(self.folder / name)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
