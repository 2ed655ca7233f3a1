"""Workers of one server change what they serve at one moment.

Each worker follows the registry by itself, and prepares as fast as it can. Without a word between
them a client would be answered by the new version, then by the old one, then by the new one
again. So a worker that has prepared waits until all have, and the first to see that names the
moment. A worker that is not done within the patience of the others is left behind: they change
without it, and it answers nothing until it has caught up.

The workers meet in a folder that their server made for them. No promise is made across machines.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FOLDER = "CULTIVAR_SERVE_MEETING"
"""Where a worker finds the folder: set by the server for workers of its own."""

_LEAD_S = 0.02
"""From naming a moment to it: longer than the others need to hear of it."""
_POLL_S = 0.004
_ARRIVED, _MOMENT = ".at", ".moment"


class RolloutBarrier:
    """The place where the workers of a server meet, as one of them sees it.

    Args:
        folder: the place.
        patience_s: seconds that those who are done wait for those who are not.
        worker: this worker's number; its process id unless given.
        alive: tells whether a worker lives.

    Attributes:
        folder: the place.
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
        """Say that this worker has prepared a position of the registry."""
        self._write(f"{self._worker}{_ARRIVED}", str(position))

    def agree(self, position: int, stop: threading.Event) -> bool:
        """Wait for the others, and then for the moment to change.

        Args:
            position: what this worker has prepared.
            stop: set where it shall not wait any more.

        Returns:
            Whether it is the moment; False where another worker has seen more of the registry, so that there
            is more to prepare first, and where waiting was stopped.
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
        """Forget what was agreed beyond a position: the registry was put back to an older state."""
        for each in self._moments():
            if each > position:
                (self.folder / f"{each}{_MOMENT}").unlink(missing_ok=True)

    @contextmanager
    def preparing(self, position: int, left_behind: Callable[[], None]) -> Iterator[None]:
        """Watch, for as long as this worker prepares, whether the others change without it.

        Args:
            position: what it serves until then.
            left_behind: called once, from a thread, when they have.
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
        """Return the positions of the workers that live."""
        found = self._numbers(_ARRIVED)
        return {worker: int(text) for worker, text in found.items() if self._alive(worker)}

    def _moments(self) -> dict[int, float]:
        """Return the moments that were named, on ``time.monotonic()``, which all processes share."""
        return {position: float(text) for position, text in self._numbers(_MOMENT).items()}

    def _numbers(self, suffix: str) -> dict[int, str]:
        found = {}
        for path in self.folder.glob(f"*{suffix}"):
            with suppress(OSError, ValueError):
                found[int(path.name.removesuffix(suffix))] = path.read_text()
        return found

    def _name(self, position: int) -> None:
        """Name the moment, unless another worker just did."""
        draft = self._write(f"{self._worker}.draft", repr(time.monotonic() + _LEAD_S))
        with suppress(FileExistsError):
            os.link(draft, self.folder / f"{position}{_MOMENT}")

    def _forget(self, position: int) -> None:
        """Take away the moments before this one."""
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
