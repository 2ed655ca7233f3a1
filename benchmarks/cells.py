"""What a benchmark measures and what it measured already, kept as it comes."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from registry.manifest import Json


@dataclass(frozen=True, slots=True)
class Cell:
    """A task, a trunk, shots of each label, and the seed of their draw."""

    task: str
    trunk: str
    shots: int
    seed: int


class Log:
    """What was measured, a line of JSON each, kept as it comes.

    Args:
        path: of the file; what it holds must come of the same code (``benchmarks.code.place``).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self._found: dict[tuple[Cell, str], Any] = {}
        self._asked: set[tuple[Cell, str]] = set()
        self._made = 0
        for line in lines:
            record = json.loads(line)
            self._found[Cell(**record["cell"]), record["what"]] = record["figures"]

    def once(self, cell: Cell, what: str, work: Callable[[], Mapping[str, Json]]) -> Any:
        """Return figures that are known, or do the work and keep them."""
        self._asked.add((cell, what))
        if (cell, what) not in self._found:
            figures = work()
            with self._path.open("a") as file:
                file.write(json.dumps({"cell": asdict(cell), "what": what, "figures": figures}) + "\n")
            self._found[cell, what] = figures
            self._made += 1
        return self._found[cell, what]

    def account(self) -> str:
        """Say how many of the figures that were asked for were known, and how many were made now."""
        known = len(self._asked) - self._made
        words = "figure was" if known == 1 else "figures were"
        return f"{known} {words} known, {self._made} {'was' if self._made == 1 else 'were'} made now."
