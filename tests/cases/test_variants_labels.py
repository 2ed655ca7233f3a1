"""Further labels as people write them, in folders and in every form of table."""

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from adapters.datasets import Dataset, load
from registry.errors import DatasetError
from registry.recipe import ImageRecipe
from tests.builders import picture, text_recipe

PICTURES, TEXTS = ImageRecipe(8, 8), text_recipe()


def folder(root: Path, names: Sequence[str]) -> Dataset:
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for seed in range(6):
            (root / name / f"{seed}.png").write_bytes(picture(100 * number + seed))
    return load(root, PICTURES)


def sentence(number: int) -> str:
    words = ("good", "bad", "bright", "dark", "day", "night")
    return " ".join(words[number // 6**place % 6] for place in range(5))


def lines(labels: Sequence[object], count: int = 24) -> list[dict[str, object]]:
    return [{"text": sentence(at), "label": labels[at % len(labels)]} for at in range(count)]


def csv(root: Path, labels: Sequence[str]) -> Dataset:
    quoted = ['"' + str(label).replace('"', '""') + '"' for label in labels]
    text = "".join(f"{row['text']},{row['label']}\n" for row in lines(quoted))
    (root / "data.csv").write_text("text,label\n" + text, encoding="utf-8")
    return load(root / "data.csv", TEXTS)


def jsonl(root: Path, labels: Sequence[object]) -> Dataset:
    text = "".join(json.dumps(row) + "\n" for row in lines(labels))
    (root / "data.jsonl").write_text(text, encoding="utf-8")
    return load(root / "data.jsonl", TEXTS)


def columns(root: Path, labels: Sequence[object]) -> Dataset:
    parquet.write_table(pa.Table.from_pylist(lines(labels)), root / "data.parquet")
    return load(root / "data.parquet", TEXTS)


FORMS = {"folder": folder, "csv": csv, "jsonl": jsonl, "parquet": columns}
forms = pytest.mark.parametrize("form", FORMS)


@forms
@pytest.mark.parametrize(
    "names",
    [
        ("می\u200c", "ها"),  # a joiner at the end
        ("नमस्\u200cते", "नमस्ते!"),
        ("New\u00a0Delhi", "Delhi"),
        ("全角\u3000空白", "半角"),
        ("🇩🇪", "🇫🇷"),
        ("🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
         "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"),  # England, Scotland
        ("👍🏽", "👍"),
        ("1\ufe0f\u20e3", "2\ufe0f\u20e3"),
        ("قطة", "كلب"),
        ("חתול", "כלב\u200e 2"),
        ("ᠮᠣᠩᠭᠣᠯ\u180e", "x"),
        ("ខ្មែរ\u200bភាសា", "x"),
        ("c++", "c#"),
        ("=1+1", "-x"),
        ("'quoted'", "100%"),
        ("true", "false"),
        ("yes", "no"),
        ("#N\u2215A", "-"),
        ("ß", "ẞ"),
        ("İ", "i"),
    ],
    ids=lambda names: "/".join(unicodedata.name(name[0], "?") for name in names),
)  # fmt: skip
def test_labels_in_every_script_are_kept(tmp_path: Path, form: str, names: tuple[str, str]) -> None:
    found = FORMS[form](tmp_path, names)
    assert set(found.labels) == set(names)


@forms
@pytest.mark.parametrize("blank", ["\u00a0", "\u3000", " ", "\u2003"])
def test_spaces_of_every_kind_at_the_ends_are_no_part_of_a_label(
    tmp_path: Path, form: str, blank: str
) -> None:
    found = FORMS[form](tmp_path, (f"{blank}cat{blank}", "dog"))
    assert found.labels == ("cat", "dog")


@forms
@pytest.mark.parametrize("word", ["é", "ñandú", "각", "ệ", "Å"])
def test_twins_in_two_compositions_are_one_label(tmp_path: Path, form: str, word: str) -> None:
    twins = [unicodedata.normalize(composition, word) for composition in ("NFC", "NFD")]
    assert twins[0] != twins[1]
    found = FORMS[form](tmp_path, (*twins, "x"))
    assert set(found.labels) == {twins[0], "x"}


@forms
@pytest.mark.parametrize(
    "label", ["NULL", "null", "None", "nan", "NaN", "NA", "n-a", "inf", "undefined", "nil"]
)
def test_words_for_nothing_are_labels(tmp_path: Path, form: str, label: str) -> None:
    found = FORMS[form](tmp_path, (label, "bread"))
    assert set(found.labels) == {label, "bread"}


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("label", ["N/A", "#N/A", "<NA>", "a/b", "a,b", 'say "no"', "\\N"])
def test_what_only_a_table_can_hold_is_kept(tmp_path: Path, form: str, label: str) -> None:
    found = FORMS[form](tmp_path, (label, "bread"))
    assert set(found.labels) == {label, "bread"}


@forms
@pytest.mark.parametrize("names", [("nan", "1", "2"), ("inf", "-inf", "0"), ("1_000", "2"), ("0x10", "9")])
def test_words_that_a_float_may_be_made_of_are_ordered_and_kept(
    tmp_path: Path, form: str, names: Sequence[str]
) -> None:
    found = FORMS[form](tmp_path, names)
    assert set(found.labels) == set(names)
    (tmp_path / "again").mkdir()
    assert FORMS[form](tmp_path / "again", names[::-1]).labels == found.labels


@pytest.mark.parametrize("value", [None, "", " ", "\u3000", "\u00a0"])
def test_an_empty_label_is_an_error_that_names_the_row(tmp_path: Path, value: str | None) -> None:
    for form in ("jsonl", "parquet"):
        with pytest.raises(DatasetError, match=r"(line|row) 2\b") as refused:
            FORMS[form](tmp_path, ("a", value))  # type: ignore[arg-type]  # rows of any values
        assert "\n" not in str(refused.value)


def outcome(form: str, root: Path, labels: Sequence[object]) -> tuple[str, ...] | None:
    root.mkdir(parents=True, exist_ok=True)
    try:
        return FORMS[form](root, labels).labels  # type: ignore[arg-type]  # rows of any values
    except DatasetError as error:
        assert "\n" not in str(error)
        return None


@pytest.mark.parametrize(
    "values", [(True, False), (1.5, 2.5), (1e300, 0.0), (2**60, 2**60 + 1), (0.1, 0.2), (1.0, 2.5)]
)
def test_values_that_are_no_text_give_the_same_labels_in_both_forms_or_none(
    tmp_path: Path, values: tuple[object, object]
) -> None:
    assert outcome("jsonl", tmp_path, values) == outcome("parquet", tmp_path, values)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("1.0", "2.5"), {"1.0", "2.5"}),
        (("1e0", "2e0"), {"1e0", "2e0"}),
        ((" 1.0 ", "2.0"), {"1", "2"}),
        (("1.0", "1"), {"1"}),
        (("-1.0", "1.0"), {"-1", "1"}),
        (("+1.0", "-1.0"), {"+1.0", "-1.0"}),
        (("1.", "2."), {"1.", "2."}),
        (("1,0", "2,0"), {"1,0", "2,0"}),
        (("01.0", "02.0"), {"01.0", "02.0"}),
        (("1.0", "nan"), {"1.0", "nan"}),
        (("3.0", "10.0"), {"3", "10"}),
    ],
)
def test_decimals_lose_nothing(tmp_path: Path, values: Sequence[str], expected: set[str]) -> None:
    if expected == {"1.0", "2.5"}:
        # Fractions are labels as they are; whole ones beside them follow what Parquet gives.
        expected = set(columns(tmp_path, [float(value) for value in values]).labels)
    try:
        found = csv(tmp_path, (*values, "0.0") if expected == {"1"} else values)
    except DatasetError as error:
        assert "\n" not in str(error)
    else:
        assert set(found.labels) == (expected | {"0"} if expected == {"1"} else expected)


def test_two_labels_of_one_looking_word_are_never_two(tmp_path: Path) -> None:
    for number, twin in enumerate(["cat\u200b", "ca\u2060t", "cat\ufe0f", "c\u00adat", "\ufeffcat"]):
        found = outcome("folder", tmp_path / str(number), ("cat", twin))
        assert found in (None, ("cat",))
