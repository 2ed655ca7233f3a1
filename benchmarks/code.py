"""The code that figures come from, as a digest: figures of other code are not those of this one."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from registry.digests import Digest

ROOT = Path(__file__).parents[1]
PACKAGES = ("adapters", "registry")
"""What decides over accuracy: all their files, weights and lists of cuts too."""


def digest(program: Path, root: Path = ROOT) -> Digest:
    """Return the digest of everything that a benchmark's figures come from, names and bytes.

    Args:
        program: the benchmark's own file, in ``benchmarks``; what it imports from there counts, too.
        root: folder of the packages.
    """
    parts = []
    for file in sorted({*_packages(root), *_imported(program, root / "benchmarks")}):
        data = file.read_bytes()
        parts += [f"{file.relative_to(root).as_posix()}\0{len(data)}\0".encode(), data]
    return Digest.of(*parts)


def place(folder: Path, program: Path, root: Path = ROOT) -> Path:
    """Return the folder for what this code makes, below one that may hold what other code made.

    Args:
        folder: what the user named.
        program: the benchmark's own file.
        root: folder of the packages.
    """
    ours = folder / digest(program, root).short
    ours.mkdir(parents=True, exist_ok=True)
    others = sorted(each.name for each in folder.iterdir() if each != ours)
    if others:
        words = "what is beside it comes of other code and is left alone"
        print(f"figures go to {ours}; {words}: {', '.join(others)}", file=sys.stderr)
    return ours


def _packages(root: Path) -> Iterator[Path]:
    for package in PACKAGES:
        for file in (root / package).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                yield file


def _imported(program: Path, folder: Path) -> set[Path]:
    """Return a file of a folder and what it imports from there, and what that does, and so on."""
    found: set[Path] = set()
    left = [program.resolve()]
    while left:
        file = left.pop()
        if file in found:
            continue
        found.add(file)
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == folder.name:
                names = [f"{node.module}.{each.name}" for each in node.names] + [str(node.module)]
                paths = [folder.parent.joinpath(*name.split(".")).with_suffix(".py") for name in names]
                left += [path.resolve() for path in paths if path.is_file()]
    return found
