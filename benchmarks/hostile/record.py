"""What honest clients saw, and where it is kept."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from benchmarks.machine import resident_bytes
from benchmarks.openloop import Records
from benchmarks.spread import quantile
from benchmarks.watch import handles

KINDS = ("small picture", "1 MP picture", "/livez")
"""Honest requests, in the order in which they are sent."""

PLACES = "places"


@dataclass(frozen=True, slots=True)
class Run:
    """What honest clients saw in one run of an attack, and what it left behind.

    Attributes:
        p50_ms: by kind, milliseconds from being due to the answer.
        p99_ms: likewise.
        worst_ms: likewise.
        asked: honest requests.
        failed: how many of them were not answered with 200, by what they got.
        outcomes: of the attack's strikes.
        resident_mib: memory of the workers afterwards.
        handles: of files, likewise.
    """

    p50_ms: Mapping[str, float]
    p99_ms: Mapping[str, float]
    worst_ms: Mapping[str, float]
    asked: int
    failed: Mapping[str, int]
    outcomes: Mapping[str, int] = field(default_factory=dict)
    resident_mib: float = 0.0
    handles: int = 0

    @classmethod
    def of(cls, records: Records, outcomes: Mapping[str, int], pids: Sequence[int]) -> Self:
        """Summarise what became of honest requests."""
        by_kind = {
            kind: records.where(records.number == number).latencies_ms().tolist()
            for number, kind in enumerate(KINDS)
        }
        return cls(
            {kind: quantile(times, 0.5) for kind, times in by_kind.items()},
            {kind: quantile(times, 0.99) for kind, times in by_kind.items()},
            {kind: max(times) for kind, times in by_kind.items()},
            len(records.due),
            records.failures(),
            dict(outcomes),
            resident_bytes(pids) / 2**20,
            handles(list(pids)),
        )


class Store:
    """Cases that were measured, kept in a file where there is one."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        kept = json.loads(file.read_text()) if file is not None and file.exists() else {}
        self.cases: dict[str, list[Run]] = {
            name: [Run(**each) for each in runs] for name, runs in kept.get("cases", {}).items()
        }
        self.places: dict[str, float] = kept.get(PLACES, {})

    def put(self, name: str, runs: list[Run]) -> None:
        """Keep a case."""
        self.cases[name] = runs
        self._write()

    def put_places(self, places: dict[str, float]) -> None:
        """Keep how long places were held."""
        self.places = places
        self._write()

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        cases = {name: [asdict(each) for each in runs] for name, runs in self.cases.items()}
        return {"cases": cases, PLACES: self.places}

    def _write(self) -> None:
        if self._file is not None:
            self._file.write_text(json.dumps(self.to_json(), indent=1) + "\n")
