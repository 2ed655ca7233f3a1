"""Progress of long steps, reported to an object that the caller passes in."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rich import progress
from rich.console import Console

FIRST_SECONDS = 2.0
"""Seconds until a step's first line; shorter steps print none without a terminal."""

EVERY_SECONDS = 10.0
"""Seconds between a step's lines without a terminal."""


class ProgressStep(ABC):
    """One running step."""

    @abstractmethod
    def advance(self, amount: float = 1, note: str = "") -> None:
        """Report completed units; ``note`` is a short status text."""


class Progress(ABC):
    """Somebody who watches."""

    @abstractmethod
    def step(self, what: str, total: float | None = None) -> AbstractContextManager[ProgressStep]:
        """Begin a step, possibly inside another one; a context manager that returns a ``ProgressStep``.

        Args:
            what: its description.
            total: number of units; None if unknown.
        """

    @abstractmethod
    def say(self, text: str) -> None:
        """Print a line for the user."""


class _Silent(Progress):
    @contextmanager
    def step(self, what: str, total: float | None = None) -> Iterator[ProgressStep]:
        """Begin a step that is not shown."""
        yield _Unseen()

    def say(self, text: str) -> None:
        """Discard the line."""


SILENT: Progress = _Silent()
"""Nobody watches."""


def watching(console: Console, *, passing: bool = False) -> Progress:
    """Return bars if the console is a terminal, else lines; ``passing`` as in :class:`Bars`."""
    return Bars(console, passing=passing) if console.is_terminal else Lines(console)


class Bars(Progress):
    """Bars on a terminal.

    Args:
        console: usually stderr, as stdout is for results.
        passing: remove each bar when its step ends.
    """

    def __init__(self, console: Console, *, passing: bool = False) -> None:
        self._console = console
        self._passing = passing

    @contextmanager
    def step(self, what: str, total: float | None = None) -> Iterator[ProgressStep]:
        """Begin a step and draw its bar until it ends; a bar without a total is then removed."""
        columns = (
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            *(() if total is None else (progress.MofNCompleteColumn(), _remaining())),
            *((progress.TimeElapsedColumn(),) if total is None else ()),
            progress.TextColumn("{task.fields[note]}", markup=False),
        )
        with progress.Progress(
            *columns, console=self._console, transient=self._passing or total is None
        ) as bars:
            yield _Bar(bars, bars.add_task(what, total=total, note=""))

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self._console.print(text, markup=False, highlight=False)


class Lines(Progress):
    """Plain lines for logs: for a step over two seconds one line then, one every ten seconds, and one at its end.

    Args:
        console: where to print.
        first: seconds until a step's first line.
        every: seconds between its lines.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        console: Console,
        *,
        first: float = FIRST_SECONDS,
        every: float = EVERY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._first = first
        self._every = every
        self._clock = clock
        self._under_way: list[_Line] = []

    @contextmanager
    def step(self, what: str, total: float | None = None) -> Iterator[ProgressStep]:
        """Begin a step; of nested steps only the innermost is shown."""
        line = _Line(what, total, self._clock)
        self._under_way.append(line)
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(line, over), name="progress", daemon=True)
        watcher.start()
        try:
            yield line
        finally:
            over.set()
            watcher.join()
            self._under_way.remove(line)
        if line.told:
            self.say(line.text())

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _watch(self, line: "_Line", over: threading.Event) -> None:
        """Print a step's progress until it ends, even if it does not advance."""
        wait = self._first
        while not over.wait(wait):
            if self._under_way[-1] is line:
                line.told = True
                self.say(line.text())
            wait = self._every


class _Unseen(ProgressStep):
    def advance(self, amount: float = 1, note: str = "") -> None:
        pass


class _Bar(ProgressStep):
    def __init__(self, bars: progress.Progress, task: progress.TaskID) -> None:
        self._bars = bars
        self._task = task

    def advance(self, amount: float = 1, note: str = "") -> None:
        self._bars.update(self._task, advance=amount, note=note)


class _Line(ProgressStep):
    """A step as a line.

    Attributes:
        told: whether a line was printed for it.
    """

    def __init__(self, what: str, total: float | None, clock: Callable[[], float]) -> None:
        self.told = False
        self._what = what
        self._total = total
        self._clock = clock
        self._began = clock()
        self._done = 0.0
        self._note = ""

    def advance(self, amount: float = 1, note: str = "") -> None:
        self._done += amount
        self._note = note

    def text(self) -> str:
        """Return ``reading: 512 of 2,000, 4 s``."""
        seconds = f"{self._clock() - self._began:.0f} s"
        done = [] if self._total is None else [f"{self._done:,.0f} of {self._total:,.0f}"]
        return f"{self._what}: {', '.join([*done, seconds, *filter(None, [self._note])])}"


def _remaining() -> progress.ProgressColumn:
    return progress.TimeRemainingColumn(elapsed_when_finished=True)
