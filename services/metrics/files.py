"""The files in which prometheus-client keeps the values of one of several processes, with the space that they need.

They are mapped into memory, and begin as holes: where a page is first written to while the disk is full, the system
ends the process (SIGBUS). A file that is there already is used as long as it is.
"""

import os
from contextlib import suppress
from pathlib import Path

_KINDS = ("counter", "histogram", "gauge_livesum", "gauge_livemin", "gauge_livemax")
_BYTES = 1 << 20
"""Room for the histograms of some seven hundred targets; beyond it a file grows by itself, as a hole."""


def reserve() -> None:
    """Make this process's files, before anything is counted; where there is no room, they come as they may."""
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
