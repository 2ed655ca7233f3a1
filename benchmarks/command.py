"""The ``cultivar`` command, as a user runs it: another process, one JSON document back."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAM = Path(sys.executable).with_name("cultivar")
GIVE_UP_S = 600.0


class CommandFailed(Exception):
    """The command did not end well; the message is its own."""


def run(home: Path, *arguments: str) -> Any:
    """Run a command on a registry and return its JSON document.

    Args:
        home: the registry's folder.
        arguments: the command's name and what follows.

    Raises:
        CommandFailed: it ended with another status than 0, or took ten minutes.
    """
    try:
        done = subprocess.run(
            [PROGRAM, "--home", home, *arguments, "--json"], capture_output=True, text=True, timeout=GIVE_UP_S
        )
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(str(error)) from error
    if done.returncode:
        raise CommandFailed(f"{done.stderr[-2000:]}\ncultivar ended with status {done.returncode}")
    return json.loads(done.stdout)
