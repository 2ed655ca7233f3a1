import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.command import CommandFailed
from benchmarks.experiment import Document, Experiment


@pytest.fixture
def experiment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Experiment]:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(sys, "argv", ["benchmark", "--quick", "--json", str(tmp_path / "seen.json")])
    yield Experiment("test", "What it is: ``a test``.\n\nMore.", quick="at once")
    signal.signal(signal.SIGTERM, before)


def test_what_was_seen_is_written_and_its_folder_is_gone(experiment: Experiment, tmp_path: Path) -> None:
    places: list[Path] = []
    drawn: list[Document] = []

    def measure(home: Path) -> Document:
        (home / "left").write_text("behind")
        places.append(home)
        return {"reached": True, "figures": [1]}

    experiment.run(measure, drawn.append)
    assert experiment.arguments.quick
    assert json.loads((tmp_path / "seen.json").read_text()) == drawn[0] == {"reached": True, "figures": [1]}
    assert not places[0].exists()


def test_a_missed_aim_is_written_and_drawn_and_ends_with_1(experiment: Experiment, tmp_path: Path) -> None:
    drawn: list[Document] = []
    with pytest.raises(SystemExit) as ended:
        experiment.run(lambda home: {"reached": False}, drawn.append)
    assert ended.value.code == 1
    assert (tmp_path / "seen.json").exists() and drawn


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (CommandFailed("why"), "why")])
def test_what_is_interrupted_or_fails_writes_nothing(
    experiment: Experiment, tmp_path: Path, error: BaseException, code: object
) -> None:
    def measure(home: Path) -> Document:
        raise error

    with pytest.raises(SystemExit) as ended:
        experiment.run(measure)
    assert ended.value.code == code
    assert not (tmp_path / "seen.json").exists()
