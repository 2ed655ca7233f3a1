"""Data as people have them: folders of pictures, and tables."""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from adapters.datasets import Dataset
from registry.recipe import ImageRecipe

RECIPE = ImageRecipe(8, 8)


def png(seed: int, side: int = 8) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def fill(folder: Path, start: int, count: int = 6) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(start, start + count):
        (folder / f"{seed}.png").write_bytes(png(seed))
    return folder


def classes(folder: Path, names: Sequence[str] = ("cat", "dog"), count: int = 6, start: int = 0) -> Path:
    for number, name in enumerate(names):
        fill(folder / name, start + 1000 * number, count)
    return folder


def sides(dataset: Dataset) -> dict[str, str]:
    return {item.digest: part for part in dataset.parts for item in dataset.split(part)}


def table_rows(folder: Path, count: int = 12) -> list[dict[str, object]]:
    fill(folder / "pictures", 0, count)
    return [
        {"image": f"pictures/{seed}.png", "label": "ab"[seed % 2], "other": seed} for seed in range(count)
    ]


def write_csv(path: Path, rows: Sequence[dict[str, object]]) -> Path:
    lines = [",".join(rows[0])] + [",".join(str(value) for value in row.values()) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_jsonl(path: Path, rows: Sequence[dict[str, object]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def write_parquet(path: Path, rows: Sequence[dict[str, object]]) -> Path:
    parquet.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


WRITERS: dict[str, Callable[[Path, Sequence[dict[str, object]]], Path]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
}
