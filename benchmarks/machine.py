"""What a measurement costs, and what else went on meanwhile: CPU clocks as Linux keeps them."""

import os
import platform
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_IDLE = (3, 4)
"""Columns of ``/proc/stat`` that are not work: idle, waiting for a disk."""
_GUEST = 8
"""The first column that is counted in another one already."""


def busy_seconds() -> float:
    """Return the CPU seconds that all cores have worked since the machine started, stolen time included."""
    columns = (_PROC / "stat").read_text().partition("\n")[0].split()[1:]
    return sum(int(value) for n, value in enumerate(columns[:_GUEST]) if n not in _IDLE) / _TICKS


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU seconds that processes have used, user and system, all threads; to 10 ms each."""
    total = 0
    for pid in pids:
        fields = _stat(pid)
        if fields:
            total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def started_at(pid: int) -> float:
    """Return when a process began, in seconds since the machine started; to 10 ms."""
    return int(_stat(pid)[19]) / _TICKS


def idle_cores(root: int, seconds: float) -> float:
    """Return how many cores a process and its descendants keep busy while nobody asks anything of them."""
    pids = tree(root)
    before = cpu_seconds(pids)
    time.sleep(seconds)
    return (cpu_seconds(pids) - before) / seconds


def tree(root: int) -> list[int]:
    """Return a process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def resident_bytes(pids: Iterable[int]) -> int:
    """Return the memory that processes hold, shared pages counted in each."""
    pages = 0
    for pid in pids:
        try:
            pages += int((_PROC / str(pid) / "statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return pages * os.sysconf("SC_PAGE_SIZE")


def describe() -> Mapping[str, object]:
    """Return what the machine is."""
    models = {
        line.partition(":")[2].strip()
        for line in (_PROC / "cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    }
    return {
        "processor": ", ".join(sorted(models)) or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _stat(pid: int) -> list[str]:
    """Return the fields of ``/proc/PID/stat`` after the name; none where the process has ended."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
