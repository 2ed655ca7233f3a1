"""How far a long step has come: told to whoever watches, by a value that is passed in."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from rich import progress
from rich.console import Console


class Step(ABC):
    """One step under way."""

    @abstractmethod
    def advance(self, amount: float = 1, note: str = "") -> None:
        """Say that so many more units are done; ``note`` is a few words on how it goes."""


class Progress(ABC):
    """Somebody who watches."""

    @abstractmethod
    def step(self, what: str, total: float) -> AbstractContextManager[Step]:
        """Begin a step of ``total`` units; a context manager that gives a ``Step``."""

    @abstractmethod
    def say(self, text: str) -> None:
        """Tell a line that a person should read."""


class _Silent(Progress):
    @contextmanager
    def step(self, what: str, total: float) -> Iterator[Step]:
        """Begin a step that nobody sees."""
        yield _Unseen()

    def say(self, text: str) -> None:
        """Say it to nobody."""


SILENT: Progress = _Silent()
"""Nobody watches."""


class Bars(Progress):
    """Bars on a terminal; on anything else, a line where a step ends.

    Args:
        console: where to draw, usually stderr: stdout belongs to the answer.
        passing: leave nothing: a bar goes when its step ends, and is drawn on a terminal only.
    """

    def __init__(self, console: Console, *, passing: bool = False) -> None:
        self._console = console
        self._passing = passing

    @contextmanager
    def step(self, what: str, total: float) -> Iterator[Step]:
        """Begin a step and draw its bar until it ends."""
        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(elapsed_when_finished=True),
            progress.TextColumn("{task.fields[note]}"),
        )
        with progress.Progress(
            *columns,
            console=self._console,
            transient=self._passing,
            disable=self._passing and not self._console.is_terminal,
        ) as bars:
            yield _Bar(bars, bars.add_task(what, total=total, note=""))

    def say(self, text: str) -> None:
        """Print a line above whatever is drawn."""
        self._console.print(text, markup=False, highlight=False)


class _Unseen(Step):
    def advance(self, amount: float = 1, note: str = "") -> None:
        pass


class _Bar(Step):
    def __init__(self, bars: progress.Progress, task: progress.TaskID) -> None:
        self._bars = bars
        self._task = task

    def advance(self, amount: float = 1, note: str = "") -> None:
        self._bars.update(self._task, advance=amount, note=note)
