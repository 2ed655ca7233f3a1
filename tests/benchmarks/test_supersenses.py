"""Reading WordNet's nouns: on lines made by hand, in its form."""

import csv
from pathlib import Path

import pytest

from benchmarks.supersenses import FILES, FREE, TESTED, chosen, glosses, others, write
from registry.errors import DatasetError

LICENCE = "  1 This software and database is being provided to you, the LICENSEE, by  \n"


def line(file: int, gloss: str) -> str:
    return f"00211591 {file:02d} n 01 follow-through 0 002 @ 00211110 n 0000 + 00486018 v 0101 | {gloss}  \n"


def test_the_label_is_the_lexicographers_file_and_examples_are_cut_off() -> None:
    lines = [
        LICENCE,
        line(4, 'carrying some project to completion; "I appreciated his follow-through"'),
        line(5, 'a pig "of some kind"'),
        line(13, "an  edible (dried) fruit"),
    ]
    assert list(glosses(lines)) == [
        ("carrying some project to completion", "act"),
        ("a pig", "animal"),
        ("an edible (dried) fruit", "food"),
    ]


def test_roots_and_motives_are_left_out_and_so_is_a_meaning_without_a_gloss() -> None:
    assert not list(glosses([line(3, "an entity"), line(16, "a reason"), line(4, '"only an example"')]))


def test_what_is_no_meaning_is_refused_with_its_line() -> None:
    with pytest.raises(DatasetError, match="line 2"):
        list(glosses([LICENCE, "00211591 act of finishing\n"]))


def meanings(count: int) -> list[tuple[str, str]]:
    return [(f"{label} number {number}", label) for label in FILES.values() for number in range(count)]


def test_parts_share_no_gloss_and_have_as_many_of_each_label() -> None:
    held, kept = chosen(meanings(8), tested=3, free=4)
    assert not set(held) & set(kept)
    assert all(sum(label == each for _, label in held) == 3 for each in FILES.values())
    assert all(sum(label == each for _, label in kept) == 4 for each in FILES.values())


def test_the_draw_does_not_depend_on_the_order_of_meanings() -> None:
    assert chosen(meanings(8), 3, 4) == chosen(meanings(8)[::-1], 3, 4)


def test_a_gloss_of_several_meanings_is_left_out() -> None:
    several = [("an ambiguous one", "act"), ("an ambiguous one", "food"), ("twice", "act"), ("twice", "act")]
    held, kept = chosen([*meanings(7), *several], 3, 4)
    assert not {"an ambiguous one", "twice"} & {text for text, _ in held + kept}


def test_too_few_glosses_of_a_label_are_refused() -> None:
    with pytest.raises(DatasetError, match="found 6"):
        chosen(meanings(6), 3, 4)


def test_without_wordnet_the_message_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="apt install wordnet-base"):
        write(tmp_path, tmp_path / "data.noun")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data.noun").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match="no text"):
        write(tmp_path, tmp_path / "data.noun")


def test_files_are_tables_of_texts_and_labels_and_the_same_each_time(tmp_path: Path) -> None:
    nouns = tmp_path / "data.noun"
    lines = [
        line(file, f"{label}, number {n}") for file, label in FILES.items() for n in range(TESTED + FREE)
    ]
    nouns.write_text(LICENCE + "".join(lines))
    files = write(tmp_path, nouns)
    for file, count in zip(files, (FREE, TESTED), strict=True):
        with file.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        assert len(rows) == len(FILES) * count
        assert all(row["text"].startswith(row["label"]) for row in rows)
    before = [file.read_bytes() for file in files]
    assert [file.read_bytes() for file in write(tmp_path, nouns)] == before
    # What is not tested on is there to read, without a label.
    assert len(others(files[1], nouns)) == len(FILES) * FREE
