"""Homes of servers: removed with them, and after those that were killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from services.process.runtime_dir import RuntimeDir, sweep
from services.process.server import ROOT, free_port

OWNER = """
import subprocess, sys, time
from pathlib import Path
from services.process.runtime_dir import RuntimeDir
home = RuntimeDir(Path(sys.argv[1]))
if "child" in sys.argv:
    child = subprocess.Popen(["sleep", "60"], pass_fds=[home.lock])
    print(child.pid, flush=True)
print(home.path, flush=True)
time.sleep(60)
"""


@contextmanager
def owner(parent: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Start a process that owns a home, with a child that does too where that is an argument."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(parent), *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def gone(home: Path, patience_s: float = 60.0) -> bool:
    """Sweep until a home is gone, which is when the last process that holds it has ended."""
    end = time.monotonic() + patience_s
    while home.exists() and time.monotonic() < end:
        sweep(home.parent)
        time.sleep(0.02)
    return not home.exists()


def test_a_home_goes_with_its_owner(tmp_path: Path) -> None:
    home = RuntimeDir(tmp_path)
    (home.path / "metrics").mkdir()
    sweep(tmp_path)
    assert (home.path / "metrics").is_dir()
    home.remove()
    assert not list(tmp_path.iterdir())


def test_the_home_of_a_killed_process_is_removed_by_the_next(tmp_path: Path) -> None:
    with owner(tmp_path) as process:
        left = Path(line(process))
        sweep(tmp_path)
        assert left.is_dir()
        process.kill()
        process.wait()
        assert left.is_dir()
        home = RuntimeDir(tmp_path)
        assert list(tmp_path.iterdir()) == [home.path]
        home.remove()


def test_a_child_that_lives_on_keeps_the_home(tmp_path: Path) -> None:
    with owner(tmp_path, "child") as process:
        child, left = int(line(process)), Path(line(process))
        process.kill()
        process.wait()
        sweep(tmp_path)
        assert left.is_dir()
        os.kill(child, signal.SIGKILL)
        assert gone(left)


def test_what_is_no_home_stays(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "kept").mkdir(parents=True)
    (elsewhere / "owner.lock").touch()
    (tmp_path / "cultivar-serve-file").touch()
    (tmp_path / "cultivar-serve-empty").mkdir()
    (tmp_path / "cultivar-serve-link").symlink_to(elsewhere)
    (tmp_path / "cultivar-serve-lock").mkdir()
    (tmp_path / "cultivar-serve-lock/owner.lock").symlink_to(elsewhere / "owner.lock")
    (tmp_path / "cultivar-serve-pipe").mkdir()
    os.mkfifo(tmp_path / "cultivar-serve-pipe/owner.lock")
    before = sorted(tmp_path.rglob("*"))
    sweep(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_several_that_start_at_once_remove_what_is_left_and_keep_what_is_theirs(tmp_path: Path) -> None:
    with ExitStack() as stack:
        dead = [stack.enter_context(owner(tmp_path)) for _ in range(3)]
        left = {Path(line(each)) for each in dead}
        for each in dead:
            each.kill()
            each.wait()
        assert set(tmp_path.iterdir()) == left
        owned = {Path(line(each)) for each in [stack.enter_context(owner(tmp_path)) for _ in range(3)]}
        assert set(tmp_path.iterdir()) == owned


def test_a_servers_home_is_held_by_its_workers_too(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom registry.settings import Settings\n"
        "from services.process.server import Server\nfrom services.settings import ServeSettings\n"
        "server = Server(ServeSettings(port=int(sys.argv[2]), deadline_s=1), Settings.read(Path(sys.argv[1])))\n"
        "with server:\n    server.wait_until_ready()\n    print(server.pid, flush=True)\n    server.wait()"
    )
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "home"), str(free_port())],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        supervisor = int(line(process))
        (left,) = temporary.glob("cultivar-serve-*")
        os.kill(supervisor, signal.SIGSTOP)
        process.kill()
        process.wait()
        sweep(temporary)
        assert left.is_dir()
        os.kill(supervisor, signal.SIGCONT)
        assert gone(left)
    finally:
        process.kill()
        process.communicate()
