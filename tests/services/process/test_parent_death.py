"""A child ends with the process that started it, however that one ended."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from services.process.parent_death import VARIABLE
from services.process.server import ROOT

CHILD = """
import signal, sys, threading
from services.process.parent_death import hold_on
if {stubborn}:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
hold_on(0.1)
print("here", flush=True)
threading.Event().wait()
"""
BUSY = """
import asyncio, os, signal, sys, time
from services.process.graceful_shutdown import leave_on_sigterm
from services.process.parent_death import hold_on, parent_is_gone
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
hold_on(600)
async def main():
    leave_on_sigterm(600, lambda: None)
    print("here", flush=True)
    while not parent_is_gone():
        time.sleep(0.01)
    time.sleep(0.1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    await asyncio.sleep(600)
asyncio.run(main())
"""
LEAVING = """
import asyncio, signal, sys
from services.process.graceful_shutdown import leave_on_sigterm
from services.process.parent_death import hold_on
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
hold_on(600)
async def main():
    leave_on_sigterm(600, lambda: None)
    print("here", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
PARENT = """
import os, subprocess, sys
from services.process.parent_death import VARIABLE, ParentPipe
lifeline = ParentPipe()
child = subprocess.Popen(
    [sys.executable, "-c", {child!r}],
    env=os.environ | {{VARIABLE: str(lifeline.child_end)}}, pass_fds=[lifeline.child_end], stdout=subprocess.PIPE,
)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_child_ends_when_its_parent_is_killed(stubborn: bool) -> None:
    """Also one that takes no heed of SIGTERM."""
    parent = _python(PARENT.format(child=CHILD.format(stubborn=stubborn)))
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    while _runs(child):
        time.sleep(0.01)


@pytest.mark.parametrize("code", [LEAVING, BUSY])
def test_a_child_that_was_told_to_leave_just_before_ends_at_once(code: str) -> None:
    """What it hears when its parent is killed is not the first signal, heard twice; also where both come as one."""
    for _ in range(5):
        parent = _python(PARENT.format(child=code))
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(child, signal.SIGTERM)
        parent.kill()
        parent.communicate()
        while _runs(child):
            time.sleep(0.01)


def test_a_process_without_a_parent_that_holds_it_stays() -> None:
    for number in ("", "none", "99", "0"):
        process = _python(CHILD.format(stubborn=False), {VARIABLE: number})
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        assert process.poll() is None
        process.kill()
        process.communicate()


def _python(code: str, more: dict[str, str] | None = None) -> "subprocess.Popen[bytes]":
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]} | (more or {})
    return subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
