"""A benchmark of servers or commands as a command itself: its options, its folder, and what it ends with."""

import json
import signal
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.command import CommandFailed
from benchmarks.contender import say

Document = Mapping[str, Any]
"""Everything that was seen, as JSON values; under ``reached`` whether every aim was."""


class Experiment:
    """A measurement that servers or commands are started for.

    Args:
        name: of its temporary folder.
        about: the module's documentation, whose first line the command is described by.
        quick: what ``--quick`` does; None is a command without it.

    Attributes:
        parser: knows ``--quick`` and ``--json``; whatever else a benchmark takes is added to it.
    """

    def __init__(self, name: str, about: str | None, quick: str | None = None) -> None:
        self._name = name
        self.parser = ArgumentParser(description=(about or "").splitlines()[0])
        if quick:
            self.parser.add_argument("--quick", action="store_true", help=quick)
        self.parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was seen")

    @cached_property
    def arguments(self) -> Namespace:
        """What the command was given, read when it is first asked for."""
        return self.parser.parse_args()

    def run(
        self, measure: Callable[[Path], Document], then: Callable[[Document], None] = lambda document: None
    ) -> None:
        """Measure in a folder that is gone afterwards, whichever way it ends, and with it what runs in it.

        Args:
            measure: takes the folder, prints what it found.
            then: is done with what was found, when that is written.

        Raises:
            SystemExit: status 1 where an aim was missed, 130 and 143 where somebody interrupted or ended it, or the
                words of a command that failed.
        """
        json_file = self.arguments.json
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        started = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix=f"cultivar-{self._name}-") as home:
            try:
                document = measure(Path(home))
            except KeyboardInterrupt:
                sys.exit(130)
            except CommandFailed as error:
                sys.exit(str(error))
        say(f"{time.perf_counter() - started:.0f} s")
        if json_file:
            json_file.write_text(json.dumps(document, indent=1) + "\n")
        then(document)
        if not document["reached"]:
            sys.exit(1)
