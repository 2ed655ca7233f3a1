"""Workers that stand still, as their supervisor sees them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from services.process.heartbeat import VARIABLE, Heartbeats, Watchdog
from services.process.server import ROOT

WORKER = """
import sys
from services.process.heartbeat import Heartbeats
heartbeats = Heartbeats.inherited()
heartbeats.serve()
print(heartbeats.others_serve(), flush=True)
for line in sys.stdin:
    heartbeats.beat()
    print("beat", flush=True)
"""


@pytest.fixture
def heartbeats() -> Iterator[Heartbeats]:
    heartbeats = Heartbeats.make()
    yield heartbeats
    os.close(heartbeats.file)


@contextmanager
def worker(heartbeats: Heartbeats) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-c", WORKER],
        cwd=ROOT,
        env=os.environ | {VARIABLE: str(heartbeats.file)},
        pass_fds=[heartbeats.file],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def told(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def beat(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert told(process) == "beat"


def test_one_that_beats_lives_and_one_that_does_not_is_killed(heartbeats: Heartbeats) -> None:
    with worker(heartbeats) as quick, worker(heartbeats) as still:
        assert {told(quick), told(still)} <= {"True", "False"}
        watchdog = Watchdog(heartbeats, checks=3)
        for _ in range(4):
            assert still.poll() is None
            beat(quick)
            watchdog.check()
        assert still.wait(10) == -signal.SIGKILL
        beat(quick)
        watchdog.check()
        assert quick.poll() is None


def test_the_place_of_one_that_ended_is_taken_by_the_next(heartbeats: Heartbeats) -> None:
    with worker(heartbeats) as first:
        assert told(first) == "False"
        with worker(heartbeats) as second:
            assert told(second) == "True"
    with worker(heartbeats) as third:
        assert told(third) == "False"
        assert len(heartbeats.counts()) == 2


def test_no_other_process_is_ever_killed(heartbeats: Heartbeats) -> None:
    """A number of a worker that ended may be another process's by now: here it is this one's own."""
    heartbeats.beat()
    watchdog = Watchdog(heartbeats, checks=1)
    for _ in range(5):
        watchdog.check()


def test_a_process_without_a_supervisor_has_no_memory_to_count_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("", "none", "9999"):
        monkeypatch.setenv(VARIABLE, text)
        assert Heartbeats.inherited() is None
