"""How far a long step has come: told to whoever watches, by a value that is passed in."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


class Step(ABC):
    """One step under way."""

    @abstractmethod
    def advance(self, amount: int = 1, note: str = "") -> None:
        """Say that so many more units are done; ``note`` is a few words on how it goes."""


class Progress(ABC):
    """Somebody who watches."""

    @abstractmethod
    def step(self, what: str, total: int) -> AbstractContextManager[Step]:
        """Begin a step of ``total`` units; a context manager that gives a ``Step``."""

    @abstractmethod
    def say(self, text: str) -> None:
        """Tell a line that a person should read."""


class Silent(Progress):
    """Nobody watches."""

    @contextmanager
    def step(self, what: str, total: int) -> Iterator[Step]:
        """Begin a step that nobody sees."""
        yield _Unseen()

    def say(self, text: str) -> None:
        """Say it to nobody."""


class Bars(Progress):
    """Bars on a terminal; on anything else, a line where a step ends.

    Args:
        stream: where to write, usually ``sys.stderr``: stdout belongs to the answer.
    """

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console

        self._console = Console(file=stream)

    @contextmanager
    def step(self, what: str, total: int) -> Iterator[Step]:
        """Begin a step and draw its bar until it ends."""
        from rich import progress

        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("{task.fields[note]}"),
        )
        with progress.Progress(*columns, console=self._console) as bars:
            yield _Bar(bars, bars.add_task(what, total=total, note=""))

    def say(self, text: str) -> None:
        """Print a line above whatever is drawn."""
        self._console.print(text, markup=False, highlight=False)


class _Unseen(Step):
    def advance(self, amount: int = 1, note: str = "") -> None:
        pass


class _Bar(Step):
    def __init__(self, bars: "RichProgress", task: "TaskID") -> None:
        self._bars = bars
        self._task = task

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._bars.update(self._task, advance=amount, note=note)
