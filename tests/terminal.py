"""A command run on a terminal of its own, and away from one."""

import os
import pty
import struct
import subprocess
import sys
from collections.abc import Mapping
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ

ROOT = Path(__file__).parent.parent


def piped(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``cultivar`` with pipes for its output."""
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments],
        cwd=ROOT,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        timeout=120,
    )


def on_terminal(*arguments: str, width: int = 80) -> str:
    """Run ``cultivar`` with a terminal for its stdout, and return what the terminal was sent."""
    near, far = pty.openpty()
    ioctl(far, TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "services.cli", *arguments],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
        | {"TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=far,
        stderr=subprocess.DEVNULL,
    )
    os.close(far)
    pieces = []
    while True:
        try:
            piece = os.read(near, 65_536)
        except OSError:  # how Linux says that nobody writes any more
            break
        if not piece:
            break
        pieces.append(piece)
    os.close(near)
    assert process.wait() == 0
    return b"".join(pieces).decode()
