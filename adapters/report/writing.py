"""Writing of a report: one HTML page, or a folder with the page, every plot and every number."""

import csv
import io
import json
import re
import tempfile
from pathlib import Path

from adapters.evaluation.mistakes import confidence, predicted_labels, truths
from adapters.report.material import Material
from adapters.report.page import page
from adapters.report.plots import plots
from registry.errors import InvalidSetting

PAGE_SUFFIXES = (".html", ".htm")

_FILE = re.compile(r"\.[A-Za-z]{2,5}")
"""Suffixes of files; folders named after a version may have other suffixes."""


def check_place(place: str) -> Path:
    """Check that a report can be written to a path, before its data is read; return the path.

    Raises:
        InvalidSetting: the path has the suffix of another file type, is a file instead of a folder, or its
            folder is not writable.
    """
    path = Path(place)
    named_page = path.suffix.lower() in PAGE_SUFFIXES
    if not (named_page or path.is_dir() or place.endswith("/")) and _FILE.fullmatch(path.suffix):
        raise InvalidSetting(f"expected FILE.html, or a folder (FOLDER/ where it is to be made), got {place}")
    if path.is_file() and not named_page:
        raise InvalidSetting(f"expected FILE.html, or a folder; {place} is a file")
    first = path.parent if path.is_file() else path
    folder = next(each for each in (first, *first.absolute().parents) if each.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InvalidSetting(
            f"{place}: expected a folder that can be written to at {folder}; {error.strerror}"
        ) from error
    return path


def report(material: Material, place: Path) -> tuple[Path, ...]:
    """Write the report of a version, and return the files that were written.

    Args:
        material: the report's data.
        place: a page if its name ends with ``.html`` or ``.htm``; else a folder, created if missing, for
            ``index.html``, a ``.svg`` for each plot, ``metrics.json``, and ``predictions.csv`` where there
            are predictions.

    Raises:
        InvalidSetting: the path cannot be written.
    """
    drawn = tuple(plots(material))
    text = page(material, drawn)
    files = {place: text}
    if place.suffix.lower() not in PAGE_SUFFIXES or place.is_dir():
        numbers = dict(material.manifest.metrics)
        files = {
            place / "index.html": text,
            **{place / f"{plot.name}.svg": plot.svg for plot in drawn},
            place / "metrics.json": json.dumps(numbers, indent=1, ensure_ascii=False, sort_keys=True) + "\n",
        }
        if material.predictions is not None:
            files[place / "predictions.csv"] = predictions_csv(material)
    try:
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8", newline="")
    except OSError as error:
        raise InvalidSetting(f"the report cannot be written to {place}: {error.strerror}") from error
    return tuple(files)


def predictions_csv(material: Material) -> str:
    """Return the predictions as CSV: ``item,label,answer,confidence``, several labels joined by ``|``."""
    predictions, labels = material.predictions, material.labels
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["item", "label", "answer", "confidence"])
    if predictions is not None:
        right, given = truths(predictions, labels), predicted_labels(predictions, labels)
        for item, label, answer, sure in zip(
            predictions.digests, right, given, confidence(predictions), strict=True
        ):
            writer.writerow([item, "|".join(label), "|".join(answer), f"{sure:.6f}"])
    return stream.getvalue()
