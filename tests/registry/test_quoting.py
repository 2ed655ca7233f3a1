import pytest

from registry.quoting import quoted, several, shortened


def test_a_short_text_is_quoted_as_it_is() -> None:
    assert quoted("resnet50") == "'resnet50'"
    assert quoted("it's") == '"it\'s"'
    assert quoted(None) == "None"


@pytest.mark.parametrize("value", ["x" * 5000, "a word " * 900, "ü\n" * 4000, "'\"" * 300])
def test_a_long_text_is_quoted_with_a_mark_where_it_was_cut(value: str) -> None:
    found = quoted(value, 50)
    assert found[0] == found[-1] and found[-2] == "…"
    assert found.count("\n") == 0 and len(found) < 160


@pytest.mark.parametrize("limit", [20, 37, 100])
def test_a_sentence_is_cut_at_the_end_of_a_word(limit: int) -> None:
    words = "size mismatch for conv1.weight: copying a param with shape torch.Size([64, 3, 7, 7])\n" * 9
    found = shortened(words, limit)
    assert len(found) <= limit and found.endswith("…")
    assert found[:-1] in " ".join(words.split())
    assert " ".join(words.split())[len(found) - 1] == " "


def test_a_sentence_without_spaces_is_cut_at_the_limit() -> None:
    assert shortened("x" * 400, 10) == "x" * 9 + "…"


def test_a_sentence_that_fits_is_left_alone_but_for_its_line_ends() -> None:
    assert shortened("one\n  two\tthree") == "one two three"
    assert shortened("a red \x1b[31m word") == "a red \ufffd[31m word"


def test_the_first_few_names_and_how_many_more() -> None:
    assert several([]) == ""
    assert several(["a", "b", "c"]) == "a, b, c"
    assert several(f"n{k}" for k in range(1203)) == "n0, n1, n2 and 1,200 more"
