"""Reserves disk space for the files in which prometheus-client keeps the values of one of several processes.

These files are mapped into memory and are created sparse. If the disk is full when a page is first written, the
system kills the process (SIGBUS). A file that exists already keeps its length.
"""

import os
from contextlib import suppress
from pathlib import Path

_KINDS = ("counter", "histogram", "gauge_livesum", "gauge_livemin", "gauge_livemax")
_BYTES = 1 << 20
"""Space for the histograms of some seven hundred targets; beyond it a file grows, sparse again."""


def reserve() -> None:
    """Create this process's files before anything is counted; without enough disk space, leave them to the library."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is None:
        return
    for kind in _KINDS:
        path = Path(folder) / f"{kind}_{os.getpid()}.db"
        try:
            with path.open("xb") as file:
                os.posix_fallocate(file.fileno(), 0, _BYTES)
        except FileExistsError:
            continue
        except OSError:
            with suppress(OSError):
                path.unlink(missing_ok=True)
