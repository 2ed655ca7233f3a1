"""A disk that fills up under a server: what is counted goes on."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from services.process.server import ROOT, free_port

SCRIPT = """
import os, sys
from pathlib import Path
folder = Path(sys.argv[1])
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
from services import metrics
metrics.answered("first", metrics.CLASSIFY, metrics.OK, 0.1)
metrics.rejected("bytes")
metrics.settle()
with (folder / "filling").open("wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        pass
for number in range(200):
    metrics.answered(f"target-{number}", metrics.CLASSIFY, metrics.OK, 0.1)
metrics.settle()
print("went on", flush=True)
"""


def test_a_worker_that_counts_outlives_a_full_disk(tmp_path: Path) -> None:
    """On a filesystem of its own, which a user namespace may mount."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("this machine gives no namespace to mount in")
    mount = 'mount -t tmpfs -o size=8m none "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, "sh", str(tmp_path), sys.executable, SCRIPT],
        cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr


def test_a_server_does_not_start_without_space_for_its_files(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("this machine gives no namespace to mount in")
    small, home = tmp_path / "small", tmp_path / "home"
    small.mkdir()
    mount = (
        'mount -t tmpfs -o size=64k none "$TMPDIR" && exec "$1" -m services.cli --home "$2" serve --port "$3"'
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, "sh", sys.executable, str(home), str(free_port())],
        cwd=ROOT, env=os.environ | {"TMPDIR": str(small)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "of free disk space" in done.stderr
