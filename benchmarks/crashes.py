"""What ``kill -9`` leaves behind: ``adapt`` and ``promote`` are killed, over and over, on one registry.

``cultivar adapt`` is killed at random moments between its first staged blob and its exit, then at
each named step of its publication; ``promote`` at each of its own. After every kill the registry is
verified, and whatever was acknowledged (printed by the command before it died) has to be there. At the
end the leases are let expire, the garbage is collected, and the store has to hold exactly the
blobs that versions need::

    python -m benchmarks.crashes --kills 100

Python and torch are imported once and forked, since importing takes longer than what is killed.
"""

import contextlib
import functools
import importlib
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, track
from rich.table import Table

from registry import instants, steps
from registry.blobs import open_blobs
from registry.names import PRODUCTION
from registry.registry import Registry
from registry.settings import Settings

TARGET = "digits"
POLL_S = 0.001
_WIDTH = 160
STALL_S = 600.0
HEAVY = (
    "adapters.adaptation",
    "registry.progress",
    "adapters.sources.providers",
    "adapters.publish",
    "services.cli",
)


class Lost(Exception):
    """A crash left what it may not leave."""


@dataclass(slots=True)
class Tally:
    """What a series of kills led to.

    Attributes:
        kills: processes that died by the kill.
        finished: processes that had ended before it.
        before: kills that left no new version.
        after: kills that left one, committed or even acknowledged.
        steps: kills by the last step that was announced.
    """

    kills: int = 0
    finished: int = 0
    before: int = 0
    after: int = 0
    steps: Counter[str] = field(default_factory=Counter)


class Trial:
    """A registry, and the kills that it goes through."""

    def __init__(
        self, settings: Settings, data: str, source: str, technique: str, epochs: int | None
    ) -> None:
        self.settings = settings
        self.data = data
        self.source = source
        self.technique = technique
        self.epochs = epochs
        self.acknowledged: set[str] = set()
        self._seed = 0
        self._versions = 0

    # The trips, in a child

    def command(self, seed: int, out: int) -> None:
        """Run the real command; what it prints goes to ``out``."""
        os.dup2(out, 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        words = [
            "adapt",
            self.data,
            "--source",
            self.source,
            "--target",
            TARGET,
            "--technique",
            self.technique,
        ]
        words += ["--seed", str(seed), "--json", "--home", str(self.settings.home)]
        words += [] if self.epochs is None else ["--epochs", str(self.epochs)]
        main: click.Command = importlib.import_module("services.cli").main
        main(words, standalone_mode=False)

    def steps(self, seed: int, out: int, fatal: int | None) -> None:
        """Do what the command does, announcing each step to ``out``, and die at the step of a number."""
        adaptation = importlib.import_module("adapters.adaptation")
        providers = importlib.import_module("adapters.sources.providers")
        order = adaptation.Order(
            data=self.data,
            source=providers.find(self.source),
            target=TARGET,
            technique=self.technique,
            settings={} if self.epochs is None else {"epochs": self.epochs},
            seed=seed,
        )
        with Registry.open(self.settings, announce=_fatal(out, fatal)) as registry:
            document = adaptation.adapt(order, registry).to_json()
        _tell(out, json.dumps(document))

    def promotion(self, seed: int, out: int, fatal: int | None) -> None:
        """Promote the next version, announcing each step, and die at the step of a number."""
        with Registry.open(self.settings, announce=_fatal(out, fatal)) as registry:
            refs = sorted(str(version.ref) for version in registry.versions(target=TARGET).versions)
            promotion = registry.promote(refs[seed % len(refs)], PRODUCTION)
        _tell(out, json.dumps(promotion.to_json()))

    # The kills

    def at_a_moment(self, after_s: float | None) -> tuple[bool, list[str], float]:
        """Run the command, killed some seconds after its first staged blob (None: never).

        Returns:
            whether it was killed, what it printed, and the seconds from its first staged blob to its end.
        """
        self._seed += 1
        before = self._files()
        with _child(functools.partial(self.command, self._seed)) as (child, pipe):
            deadline = time.monotonic() + STALL_S
            while self._files() == before and not _ended(child):
                time.sleep(POLL_S)
                if time.monotonic() > deadline:
                    raise Lost("adapt stored nothing for ten minutes")
            first = time.monotonic()
            while not _ended(child) and (after_s is None or time.monotonic() - first < after_s):
                time.sleep(POLL_S)
            seconds = time.monotonic() - first
            if after_s is not None:
                os.kill(child, signal.SIGKILL)
            words = _lines(pipe)
            return _was_killed(child), words, seconds

    def at_a_step(
        self, trip: Callable[[int, int, int | None], None], fatal: int | None
    ) -> tuple[bool, list[str]]:
        """Do a trip that dies at a step (None: none); return whether it did, and what it announced."""
        self._seed += 1
        with _child(functools.partial(_swapped, trip, self._seed, fatal)) as (child, pipe):
            words = _lines(pipe)
            return _was_killed(child), words

    def settle(self, tally: Tally, killed: bool, words: list[str]) -> None:
        """Count a kill, and check what it left."""
        announced = [word for word in words if word in {*steps.PUBLICATION, *steps.PROMOTION}]
        answers = [json.loads(word) for word in words if word.startswith("{") and word.endswith("}")]
        self.acknowledged |= {answer["ref"] for answer in answers}
        tally.kills += killed
        tally.finished += not killed
        if killed and announced:
            tally.steps[announced[-1]] += 1
        with Registry.open(self.settings) as registry:
            report = registry.verify()
            if not report.ok:
                raise Lost(f"damaged: {report.to_json()}")
            there = {str(version.ref) for version in registry.versions(limit=1000).versions}
            position = registry.position()
        if missing := self.acknowledged - there:
            raise Lost(f"acknowledged and not there: {missing}")
        if steps.COMMITTED in announced and position == self._versions:
            raise Lost("committed and not there")
        if killed:
            tally.after += position > self._versions
            tally.before += position == self._versions
        self._versions = position

    def reclaim(self) -> tuple[int, int]:
        """Let the leases expire, collect; return files and bytes reclaimed."""
        with Registry.open(self.settings, clock=_in_two_hours) as registry:
            collection = registry.collect(grace=timedelta(0))
            report = registry.verify()
            versions = registry.versions(limit=1000).versions
            needed = {version.digest for version in versions}
            for version in versions:
                needed |= {digest for _, digest in registry.manifest(version).blobs()}
        blobs = open_blobs(self.settings)
        left = {stored.digest for stored in blobs.list()} ^ needed
        if left or [*blobs.staged()] or not report.ok:
            raise Lost(f"after the collection the store and the versions differ by {sorted(left)}")
        return len(collection.removed), collection.bytes

    def _files(self) -> int:
        blobs = open_blobs(self.settings)
        return sum(1 for _ in blobs.list()) + sum(1 for _ in blobs.staged())


def _in_two_hours() -> datetime:
    return instants.now() + timedelta(hours=2)


def _fatal(out: int, fatal: int | None) -> steps.Announce:
    """Return a watcher that tells each step and kills the process at the step of a number."""
    count = 0

    def announce(step: str) -> None:
        nonlocal count
        _tell(out, step)
        if count == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    return announce


def _swapped(trip: Callable[[int, int, int | None], None], seed: int, fatal: int | None, out: int) -> None:
    trip(seed, out, fatal)


def _tell(out: int, word: str) -> None:
    os.write(out, f"{word}\n".encode())


@contextlib.contextmanager
def _child(job: Callable[[int], None]) -> Iterator[tuple[int, int]]:
    """Fork a child that does a job and writes to a pipe; yield the child and the pipe's end, then wait."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            job(writing)
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    os.close(writing)
    try:
        yield child, reading
    finally:
        os.close(reading)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)


def _ended(child: int) -> bool:
    """Tell whether a child has ended; it stays to be waited for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _was_killed(child: int) -> bool:
    """Wait for a child's end; it may die of a kill or end well, and in no other way."""
    result = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    if result is None or (result.si_code == os.CLD_EXITED and result.si_status != 0):
        raise Lost("a command failed of itself; what it said stands above")
    return result.si_code == os.CLD_KILLED


def _lines(pipe: int) -> list[str]:
    with os.fdopen(os.dup(pipe)) as stream:
        return stream.read().splitlines()


def run(trial: Trial, kills: int, seed: int) -> dict[str, Tally]:
    """Go through every kill; return what each series led to.

    Raises:
        Lost: the registry is damaged, or something acknowledged is gone.
    """
    random_ = random.Random(seed)
    tallies = {"adapt, random moments": Tally(), "adapt, every step": Tally(), "promote, every step": Tally()}
    moments, every_step, promotions = tallies.values()
    window = 0.0
    for _ in range(2):
        killed, words, seconds = trial.at_a_moment(None)
        trial.settle(Tally(), killed, words)
        window = seconds  # the first run is slower than all that follow
    if not trial.acknowledged:
        raise Lost("adapt does not work here even when nobody kills it; run it by hand")
    with Progress(console=_ERR) as progress:
        task = progress.add_task("random moments", total=kills)
        while moments.kills < kills:
            killed, words, seconds = trial.at_a_moment(random_.uniform(0, window))
            trial.settle(moments, killed, words)
            # A run that ended before its kill says how long runs take by now.
            window = window if killed else seconds
            progress.update(task, completed=moments.kills)
    for tally, trip, what in (
        (every_step, trial.steps, "steps of adapt"),
        (promotions, trial.promotion, "steps of promote"),
    ):
        killed, words = trial.at_a_step(trip, None)
        trial.settle(Tally(), killed, words)
        count = sum(word in {*steps.PUBLICATION, *steps.PROMOTION} for word in words)
        for step in track(range(count), what, console=_ERR):
            trial.settle(tally, *trial.at_a_step(trip, step))
    return tallies


_ERR = Console(stderr=True)


@click.command()
@click.option("--kills", default=100, show_default=True, help="Random moments.")
@click.option("--seed", default=0, show_default=True, help="Seed of the moments.")
@click.option("--data", default="example:digits", show_default=True, help="As 'cultivar adapt' takes it.")
@click.option("--source", default="bundled:glyphs", show_default=True, help="As 'cultivar adapt' takes it.")
@click.option("--technique", default="full", show_default=True, help="One that stores new bytes every time.")
@click.option(
    "--epochs", type=int, default=1, show_default=True, help="Of training; 0 leaves it to the technique."
)
def main(kills: int, seed: int, data: str, source: str, technique: str, epochs: int) -> None:
    """Kill adapt and promote, over and over, and look at what is left."""
    for name in HEAVY:
        importlib.import_module(name)
    home = Path(tempfile.mkdtemp(prefix="cultivar-crashes-"))
    trial = Trial(Settings.read(home, environment={}), data, source, technique, epochs or None)
    try:
        tallies = run(trial, kills, seed)
        removed, freed = trial.reclaim()
    finally:
        shutil.rmtree(home)
    table = Table("series", "killed", "finished first", "nothing new", "version there", "killed after step")
    for name, tally in tallies.items():
        by_step = ", ".join(f"{step} {count}" for step, count in sorted(tally.steps.items()))
        table.add_row(
            name, str(tally.kills), str(tally.finished), str(tally.before), str(tally.after), by_step or "-"
        )
    Console(width=_WIDTH).print(table)
    click.echo(
        f"verified after every kill: clean; {len(trial.acknowledged)} acknowledged, none lost; "
        f"gc reclaimed {removed} files, {freed:,} bytes; the store holds what versions need, and nothing else"
    )


if __name__ == "__main__":
    main()
