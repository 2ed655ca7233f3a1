"""``embed -o`` writes what the file's name says, row by row, with the input's other columns, whole or not at all."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result

from registry import disk
from registry.recipe import ImageRecipe, TextRecipe
from services.commands.offline import OfflineModel
from tests.builders import picture
from tests.services.commands.test_inference import cultivar, document, home, written
from tests.services.pictures import BROKEN

__all__ = ["home"]

ROWS: list[dict[str, Any]] = [
    {"id": "007", "text": "the day is bright", "label": "good, or so", "group": "a"},
    {"id": "8", "text": "", "label": "", "group": "b"},
    {"id": "9", "text": "night 😀 was\ndark", "label": 'so "bad"', "group": "a"},
] * 30
"""More than a batch."""


def embedded(home: Path, *arguments: str) -> np.ndarray:
    return np.array(document(cultivar(home, "embed", *arguments, "--json"))["embeddings"], np.float32)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def components(rows: list[dict[str, str]]) -> np.ndarray:
    names = [f"f{number}" for number in range(sum(name[0] == "f" and name[1:].isdigit() for name in rows[0]))]
    return np.array([[row[name] for name in names] for row in rows], np.float32)


@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("form", [".csv", ".npy", ".parquet", ".CSV"])
def test_a_file_is_what_its_name_says_with_the_inputs_columns(home: Path, kind: str, form: str) -> None:
    given, output = written(home / f"texts{kind}", ROWS), home / f"vectors{form}"
    found = document(cultivar(home, "embed", "moods", str(given), "-o", str(output), "--json"))
    wanted = embedded(home, "moods", str(given))
    assert (found["rows"], found["dim"], found["output"]) == (90, wanted.shape[1], str(output))
    if form == ".npy":
        vectors = np.load(output, allow_pickle=False)
        assert vectors.dtype == np.float32 and vectors.tobytes() == wanted.tobytes()
        return
    if form == ".parquet":
        table = pq.read_table(output)
        assert table.column_names == ["input", "id", "label", "group", "embedding"]
        assert table.schema.field("embedding").type == pa.list_(pa.float32(), wanted.shape[1])
        rows = table.to_pylist()
        assert np.array([row["embedding"] for row in rows], np.float32).tobytes() == wanted.tobytes()
    else:
        rows = rows_of(output)
        assert [*rows[0]] == ["input", "id", "label", "group", *(f"f{n}" for n in range(wanted.shape[1]))]
        assert components(rows).tobytes() == wanted.tobytes()
    for row, right in zip(rows, ROWS, strict=True):
        assert (row["input"], row["id"], row["label"]) == (right["text"], right["id"], right["label"])


def test_numbers_stay_numbers_in_parquet_and_what_is_mixed_is_text(home: Path) -> None:
    given, output = home / "texts.jsonl", home / "vectors.parquet"
    lines = [
        {"text": "day", "id": 7, "share": 1, "sure": True, "any": 1},
        {"text": "night", "id": None, "share": 0.5, "sure": False, "any": ["x"], "late": "seen"},
    ]
    given.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    document(cultivar(home, "embed", "moods", str(given), "-o", str(output), "--json"))
    rows = pq.read_table(output).to_pylist()
    assert [row["id"] for row in rows] == [7, None] and [row["share"] for row in rows] == [1.0, 0.5]
    assert [row["sure"] for row in rows] == [True, False] and [row["any"] for row in rows] == ["1", '["x"]']
    assert [row["late"] for row in rows] == [None, "seen"]


def test_tables_and_plain_texts_stand_in_one_file_in_order(home: Path) -> None:
    table = written(home / "texts.csv", [{"text": "day", "id": "1"}, {"text": "night", "id": "2"}])
    (home / "plain.txt").write_text("bright\ndark\n")
    output = home / "vectors.csv"
    places = [str(table), str(home / "plain.txt"), str(table)]
    document(cultivar(home, "embed", "moods", *places, "-o", str(output), "--json"))
    assert [(row["input"], row["id"]) for row in rows_of(output)] == [
        ("day", "1"), ("night", "2"), ("bright", ""), ("dark", ""), ("day", "1"), ("night", "2"),
    ]  # fmt: skip


@pytest.mark.parametrize("form", [".csv", ".npy", ".parquet"])
def test_pictures_are_named_by_their_paths(home: Path, form: str) -> None:
    output = home / f"vectors{form}"
    result = cultivar(home, "embed", "vectors", str(home / "pictures"), "-o", str(output))
    assert result.exit_code == 0 and "40 rows of 4 written to" in result.stdout.replace("\n", " ")
    if form == ".csv":
        assert [Path(row["input"]).name for row in rows_of(output)] == [f"{n:02}.png" for n in range(40)]


def forbid_work(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Watch for decoding, hashing of segments, and embedding."""
    done: list[str] = []

    def spied(name: str) -> Any:
        def call(*arguments: object, **named: object) -> None:
            done.append(name)
            raise AssertionError(name)

        return call

    monkeypatch.setattr(ImageRecipe, "decode", spied("decode"))
    monkeypatch.setattr(TextRecipe, "prepare", spied("tokenize"))
    monkeypatch.setattr(OfflineModel, "__init__", spied("open"))
    return done


def refused(home: Path, *arguments: str) -> Result:
    result = cultivar(home, *arguments)
    assert result.exit_code == 1 and result.stderr.count("\n") == 1, result.output
    return result


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embed", "moods", "TEXTS", "-o", "vectors.json"], "ending in .csv, .npy, .parquet"),
        (["embed", "moods", "TEXTS", "-o", "vectors"], "ending in"),
        (["embed", "moods", "TEXTS", "-o", "vectors.csv.gz"], "ending in"),
        (["embed", "moods", "TEXTS", "-o", "missing/vectors.csv"], "folder that can be written to"),
        (["embed", "moods", "TEXTS", "-o", "folder.csv"], "this is a folder"),
        (["embed", "moods", "TEXTS", "-o", "texts.csv"], "would replace"),
        (["embed", "moods", "CLASH", "-o", "vectors.csv"], "'f3'"),
        (["embed", "moods", "CLASH", "-o", "vectors.parquet"], "'embedding'"),
        (["embed", "moods", "PICTURE", "-o", "vectors.csv"], "takes texts"),
        (["embed", "vectors@9", "PICTURE", "-o", "vectors.npy"], "vectors"),
        (["classify", "vectors", "PICTURE"], "no head"),
        (["classify", "Digits", "PICTURE"], "lower-case"),
        (["classify", "digits", "-"], "takes pictures"),
    ],
    ids=str,
)
def test_what_cannot_be_written_or_answered_is_refused_before_work(
    home: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    (home / "folder.csv").mkdir()
    texts = written(home / "texts.csv", [{"text": "day", "id": "1"}])
    clash = written(home / "clash.csv", [{"text": "day", "embedding": "", "f3": "", "f": ""}])
    places = {"TEXTS": texts, "CLASH": clash, "PICTURE": home / "pictures/00.png"}
    monkeypatch.chdir(home)
    before = sorted(home.rglob("*.csv"))
    done = forbid_work(monkeypatch)
    result = refused(home, *(str(places.get(argument, argument)) for argument in arguments))
    assert message in result.stderr and done == [] and sorted(home.rglob("*.csv")) == before


def test_a_full_disk_is_refused_before_an_input_is_decoded(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 100)
    monkeypatch.setattr(ImageRecipe, "decode", None)
    output = home / "vectors.npy"
    result = refused(home, "embed", "vectors", str(home / "pictures"), "-o", str(output))
    assert "640 B" in result.stderr and "found 100 B" in result.stderr and not output.exists()


@pytest.mark.parametrize("form", [".csv", ".npy", ".parquet"])
def test_a_row_that_cannot_be_decoded_ends_it_and_what_was_there_stays(home: Path, form: str) -> None:
    output = home / f"vectors{form}"
    output.write_bytes(b"before")
    (home / "pictures/38.png").write_bytes(BROKEN["text"] if "text" in BROKEN else picture(1)[:20])
    result = refused(home, "embed", "vectors", str(home / "pictures"), "-o", str(output))
    assert "38.png" in result.stderr and output.read_bytes() == b"before"
    assert not [path for path in home.iterdir() if path.name.endswith(".partial")]


def test_columns_without_a_name_are_left_out_and_repeated_names_refused(home: Path) -> None:
    given, output = home / "texts.csv", home / "vectors.csv"
    given.write_text(",text,id\n0,day,a\n1,night,b\n")
    document(cultivar(home, "embed", "moods", str(given), "-o", str(output), "--json"))
    assert [*rows_of(output)[0]][:2] == ["input", "id"]


def test_pairs_have_two_columns_in_csv(home: Path) -> None:
    given, output = home / "pairs.csv", home / "vectors.csv"
    written(given, [{"text": "day", "text_pair": "night", "id": "1"}])
    document(cultivar(home, "embed", "moods", str(given), "-o", str(output), "--json"))
    row = rows_of(output)[0]
    assert (row["input"], row["input_pair"], row["id"]) == ("day", "night", "1")
