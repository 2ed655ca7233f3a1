"""The pinned fonts: ``fonts.toml`` read, and found on this machine."""

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from registry.errors import SourceUnavailable

FOLDER = Path("/usr/share/fonts")
"""Where Debian's packages put fonts."""

_HELD_OUT_SHARE = 6
"""One family in so many is never trained on."""


@dataclass(frozen=True, slots=True)
class FontFamily:
    """Faces that were drawn to belong together.

    Attributes:
        name: as the font files have it.
        faces: paths below the folder of fonts.
        capitals: whether capitals stand in place of small letters.
        package: the Debian package that it comes in.
        held_out: never trained on: accuracy is measured on it.
    """

    name: str
    faces: tuple[str, ...]
    capitals: bool
    package: str
    held_out: bool


@dataclass(frozen=True, slots=True)
class Package:
    """A Debian package of fonts.

    Attributes:
        name: what apt calls it.
        version: the one that the bundled weights were trained with.
        licence: of its faces.
        families: what is used of it.
    """

    name: str
    version: str
    licence: str
    families: tuple[FontFamily, ...]


def pinned() -> tuple[Package, ...]:
    """Return the packages that ``fonts.toml`` lists, in its order."""
    table = tomllib.loads(resources.files(__package__).joinpath("fonts.toml").read_text())
    packages: list[dict[str, Any]] = table["packages"]
    held_out = _held_out([family["name"] for package in packages for family in package["families"]])
    return tuple(
        Package(
            package["name"],
            package["version"],
            package["licence"],
            tuple(
                FontFamily(
                    family["name"],
                    tuple(family["faces"]),
                    family.get("capitals", False),
                    package["name"],
                    family["name"] in held_out,
                )
                for family in package["families"]
            ),
        )
        for package in packages
    )


def families(packages: Sequence[Package], folder: Path = FOLDER) -> tuple[FontFamily, ...]:
    """Return every family of some packages.

    Raises:
        SourceUnavailable: a face is not in the folder; the message has the command that installs it.
    """
    found = tuple(family for package in packages for family in package.families)
    missing = sorted(
        {family.package for family in found for face in family.faces if not (folder / face).is_file()}
    )
    if missing:
        raise SourceUnavailable(
            f"expected the fonts of {len(packages)} Debian 12 packages under {folder}, those of {len(missing)} are "
            f"not there; install them and try again:\n\n"
            f"  apt-get install --no-install-recommends {' '.join(missing)}\n"
        )
    return found


def _held_out(names: Sequence[str]) -> frozenset[str]:
    """Choose one family in six, by a hash of its name, so that a family added moves few others."""
    ranked = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    return frozenset(ranked[: len(ranked) // _HELD_OUT_SHARE])
