"""What a served measurement starts from: versions in a registry, and requests that ask for them."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.connection import SERIAL
from benchmarks.contender import MEDIA, PICTURES, request, say, write
from benchmarks.photographs import photograph

SOURCE = "torchvision:resnet18"
QUICK_SOURCE = "torchvision:mobilenet_v3_small"
"""For trials: a tenth of the work."""
SIDE = 256
"""Pixels of the pictures' sides: files of 35 KB, so that a flood of them is one of requests and not of bytes."""
DISTINCT = 32


def versions(home: Path, spec: str, target: str, *options: str) -> None:
    """Put versions into production, in a process of its own; see ``benchmarks.subject``."""
    say(f"making versions of {spec} with random weights")
    command = [sys.executable, "-m", "benchmarks.subject", str(home), spec, target, *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def photographs(folder: Path, paths: Sequence[str], side: int = SIDE, seed: int = 0) -> dict[str, Path]:
    """Write requests of pictures to some paths, in turns; no two sendings hold the same bytes.

    Returns:
        The new folder, by the kind of input.
    """
    pictures = [photograph(seed + number, side, side) for number in range(DISTINCT)]
    count = int(np.lcm(len(pictures), len(paths)))
    whole = [
        request(paths[number % len(paths)], MEDIA[PICTURES], pictures[number % len(pictures)] + SERIAL)
        for number in range(count)
    ]
    return {PICTURES: write(folder, whole)}
