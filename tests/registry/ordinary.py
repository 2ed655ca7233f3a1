"""Programs run by an ordinary user, who may not write to what belongs to somebody else."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

NOBODY = 65534
ROOT = Path(__file__).resolve().parents[2]


def as_ordinary_user(command: Sequence[str | Path]) -> list[str | Path]:
    """Return a command that runs another as a user who is not root.

    Python itself may lie where only root may look; so the user may read everything, and write as others may.
    """
    if os.getuid() != 0:
        return [*command]
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("setpriv (util-linux) is not installed")
    ids = ["--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
    return [setpriv, *ids, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", *command]


def environment(home: Path, place: Path) -> dict[str, str]:
    """Return the environment of a user who may write into one place alone."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(place),
        "TMPDIR": str(place),
        "CULTIVAR_HOME": str(home),
        "CULTIVAR_ACTOR": "nobody",
    }


def open_up(folder: Path) -> None:
    """Let everybody pass through a temporary folder and those above it."""
    for each in (folder, *folder.parents):
        if each.stat().st_uid == os.getuid() and each.stat().st_mode & 0o777 == 0o700 and len(each.parts) > 2:
            each.chmod(0o755)


def cultivar(home: Path, place: Path, *line: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run the command as an ordinary user."""
    return subprocess.run(
        as_ordinary_user([sys.executable, "-m", "services.cli", *line]),
        env=environment(home, place),
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )


_SEVERAL = """
import json, sys
from click.testing import CliRunner
from services.cli import main
done = [CliRunner().invoke(main, line) for line in json.loads(sys.argv[1])]
print(json.dumps([[each.exit_code, each.stdout, each.stderr] for each in done]))
"""


def several(home: Path, place: Path, lines: Sequence[Sequence[str]]) -> list[tuple[int, str, str]]:
    """Run several commands as an ordinary user, in one process; return the exit code and the output of each."""
    done = subprocess.run(
        as_ordinary_user([sys.executable, "-c", _SEVERAL, json.dumps(lines)]),
        env=environment(home, place),
        cwd=place,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [(code, out, err) for code, out, err in json.loads(done.stdout)]


def make_read_only(folder: Path) -> None:
    """Let everybody read a folder, and nobody who is not root write to it."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
        os.chown(path, os.getuid(), os.getgid())


def make_writable(folder: Path) -> None:
    """Let its owner write to a folder again."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
