"""Files and folders that are there as a whole or not at all."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory


def whole(place: Path, write: Callable[[Path], object]) -> Path:
    """Return a place; where nothing is there yet, let it be written beside it first.

    Whoever is interrupted leaves nothing that the next one would take for complete; of several at once
    the first one's stays.

    Args:
        place: a file or a folder.
        write: writes it into a place that is not there yet, whose parent is.
    """
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=place.parent) as fresh:
            made = Path(fresh) / place.name
            write(made)
            try:
                made.rename(place)
            except OSError:
                if not place.exists():
                    raise
    return place
