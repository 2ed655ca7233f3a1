"""Tokenizers that were made to hurt, and texts that hurt honest tokenizers: bounded, and refused in one line."""

import base64
import json
import struct
from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from registry.errors import InputTooLarge, InvalidRecipe, UndecodableInput
from registry.recipe import TextRecipe
from registry.recipe.tokenizer import (
    MAX_ADDED_TOKENS,
    MAX_VOCABULARY,
    MAX_WORD_CHARACTERS,
    check_tokenizer,
)

PUBLISHED = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    "clip": r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    "o200k": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "deepseek": r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "spaces": r" {2,}",
}


def words(**parts: Any) -> dict[str, Any]:
    """Return the JSON of a tokenizer of words, with some of its parts replaced."""
    library = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    whole: dict[str, Any] = json.loads(library.to_str())
    return whole | parts


def recipe(tokenizer: dict[str, Any] | str, **fields: Any) -> TextRecipe:
    text = tokenizer if isinstance(tokenizer, str) else json.dumps(tokenizer)
    return TextRecipe(text, 64, TextRecipe.buckets_for(64), **fields)


def replace(content: str, pattern: str = "a", kind: str = "String") -> dict[str, Any]:
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(steps)}


def table(announced: int, data: bytes = b"\0" * 8) -> dict[str, Any]:
    text = base64.b64encode(struct.pack("<I", announced) + data).decode()
    return {"type": "Precompiled", "precompiled_charsmap": text}


def nested(depth: int) -> dict[str, Any]:
    step: dict[str, Any] = {"type": "NFC"}
    for _ in range(depth):
        step = sequence(step)
    return step


HOSTILE: dict[str, Callable[[], dict[str, Any]]] = {
    "a replacement by 100 000 letters": lambda: words(normalizer=replace("b" * 100_000)),
    "a replacement of nothing": lambda: words(normalizer=replace("b" * 1000, "", "Regex")),
    "letters doubled twenty times": lambda: words(normalizer=sequence(*[replace("aa")] * 20)),
    "a long beginning": lambda: words(normalizer={"type": "Prepend", "prepend": "x" * 100_000}),
    "sequences in sequences": lambda: words(normalizer=nested(50)),
    "a table of nothing": lambda: words(normalizer=table(0)),
    "a table that announces four gigabytes": lambda: words(normalizer=table(0xFFFF_FFFC)),
    "a table that ends early": lambda: words(normalizer=table(64)),
    "half a word of a table": lambda: words(normalizer=table(6)),
    "a table that is no base64": lambda: words(
        normalizer={"type": "Precompiled", "precompiled_charsmap": "%%%"}
    ),
    "repeated repetitions": lambda: words(pre_tokenizer=split(r"(a+)+$")),
    "repeated repetitions of anything": lambda: words(normalizer=replace("y", r"(.*)*x", "Regex")),
    "repetitions without a capture": lambda: words(pre_tokenizer=split(r"(?:\p{L}{2,})+\d")),
    "repetitions further within": lambda: words(pre_tokenizer=split(r"((?:b|(?:[a[b]]\]*))c)+$")),
    "words without end": lambda: words(
        model={
            "type": "WordPiece",
            "vocab": {"<unk>": 0},
            "unk_token": "<unk>",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 1 << 40,
        }
    ),
    "an endless expression": lambda: words(pre_tokenizer=split("a" * 100_000)),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_tokenizer_made_to_hurt_is_refused_before_the_library_sees_it(what: str) -> None:
    with pytest.raises(InvalidRecipe) as caught:
        recipe(HOSTILE[what]())
    assert "\n" not in str(caught.value)


def test_json_that_is_nested_without_end_is_refused() -> None:
    with pytest.raises(InvalidRecipe):
        recipe('{"model":' + "[" * 100_000 + "]" * 100_000 + "}")


def test_enormous_vocabularies_are_refused() -> None:
    for model in ({"vocab": range(MAX_VOCABULARY + 1)}, {"merges": range(MAX_VOCABULARY + 1)}):
        with pytest.raises(InvalidRecipe, match="at most"):
            check_tokenizer({"model": {name: list(values) for name, values in model.items()}})
    with pytest.raises(InvalidRecipe, match="at most"):
        check_tokenizer({"added_tokens": [{}] * (MAX_ADDED_TOKENS + 1)})


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_expressions_of_published_tokenizers_are_taken(name: str) -> None:
    recipe(words(pre_tokenizer=split(PUBLISHED[name]))).prepare("It's 1234 words,  and\n\nmore.")


@pytest.mark.parametrize(
    "step", [replace("\u2581", " "), replace(" ", " {2,}", "Regex"), replace("''", "\u201c"), nested(10)]
)
def test_usual_replacements_are_taken(step: dict[str, Any]) -> None:
    recipe(words(normalizer=step)).prepare("a  a")


def test_thousands_of_special_tokens_are_taken() -> None:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False) | {"special": True}
    added = [{"id": 10 + number, "content": f"<x{number}>"} | flags for number in range(5000)]
    text = "".join(f"<x{number % 5000}>" for number in range(100_000))
    assert len(recipe(words(added_tokens=added)).prepare(text)["input_ids"]) == 64


def test_more_special_tokens_around_a_text_than_fit_are_refused() -> None:
    pieces: list[dict[str, Any]] = [{"SpecialToken": {"id": "<unk>", "type_id": 0}}] * 10_000
    template = {
        "type": "TemplateProcessing",
        "single": [*pieces, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<unk>": {"id": "<unk>", "ids": [0], "tokens": ["<unk>"]}},
    }
    with pytest.raises(InvalidRecipe, match="special tokens"):
        recipe(words(post_processor=template))


@pytest.fixture
def compatible() -> TextRecipe:
    """A tokenizer of words that normalises to NFKC and knows next to none: it sees a long text to its end."""
    library = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
    library.normalizer = normalizers.NFKC()
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    return recipe(library.to_str(), unknown="skip", unknown_id=0)


@pytest.mark.parametrize("letter", ["\ufdfa", "\ufdfb", "\u3300", "\u33a8"])
def test_a_text_that_explodes_is_refused(compatible: TextRecipe, letter: str) -> None:
    with pytest.raises(InputTooLarge, match="once it is normalised"):
        compatible.prepare(letter * 1_000_000)


@pytest.mark.parametrize(
    "text", ["b" * 999_000, "\u0301" * 900_000, "\u4e00" * 900_000, "b " * 450_000, " " * 999_000]
)
def test_a_long_text_that_does_not_explode_is_read_to_its_end(compatible: TextRecipe, text: str) -> None:
    assert compatible.prepare(text + " a")["input_ids"].tolist() == [1]


def test_a_text_of_which_the_beginning_suffices_may_be_as_long_as_it_likes(compatible: TextRecipe) -> None:
    assert len(compatible.prepare("a " * 200 + "\ufdfa" * 900_000)["input_ids"]) == 64


@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordpiece"])
@pytest.mark.parametrize(
    "text", ["a" * 1_000_000, "ab" * 500_000, "\ufdfa" * 1_000_000], ids=["a", "ab", "fdfa"]
)
def test_one_endless_word_is_tokenized_or_refused(kind: str, text: str) -> None:
    runs = {"a" * length: length for length in range(1, 30)}
    kinds: dict[str, Callable[[], models.Model]] = {
        "bpe": lambda: models.BPE(
            {"<unk>": 0} | runs, [("a" * n, "a") for n in range(1, 29)], unk_token="<unk>"
        ),
        "unigram": lambda: models.Unigram([("<unk>", 0.0), *((run, -1.0) for run in runs)], unk_id=0),
        "wordpiece": lambda: models.WordPiece(
            {"<unk>": 0} | runs | {f"##{run}": 30 + n for run, n in runs.items()},
            unk_token="<unk>",
            max_input_chars_per_word=MAX_WORD_CHARACTERS,
        ),
    }
    library = Tokenizer(kinds[kind]())
    library.normalizer = normalizers.NFKC()
    try:
        found = recipe(library.to_str()).prepare(text)["input_ids"]
    except (InputTooLarge, UndecodableInput) as error:
        assert "\n" not in str(error)
    else:
        assert 1 <= len(found) <= 64
