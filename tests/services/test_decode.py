"""Decoding in threads and in the event loop: order, faults, deadlines, bounds."""

import asyncio
import io
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
import pytest
from PIL import Image

from registry.errors import InputTooLarge, InvalidInput, UndecodableInput, WrongModality
from registry.recipe import ImageRecipe, Raw
from services import decode
from services.decode import Decoder, ItemLimits
from services.errors import DeadlineExceeded
from tests.builders import picture, text_recipe
from tests.services.pictures import BROKEN, GIGAPIXEL, GOOD

RECIPE = ImageRecipe(8, 8)


def black(side: int) -> bytes:
    """Return a large picture in a small file."""
    stream = io.BytesIO()
    Image.new("RGB", (side, side)).save(stream, "PNG")
    return stream.getvalue()


BLACK = black(200)

T = TypeVar("T")


@pytest.fixture(autouse=True, params=["loop", "threads"])
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where small items are prepared."""
    if request.param == "threads":
        monkeypatch.setattr(decode, "SMALL_BYTES", -1)
        monkeypatch.setattr(decode, "SMALL_CHARACTERS", -1)
    return str(request.param)


def in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "SMALL_BYTES", -1)


@contextmanager
def decoder(threads: int = 2, max_pixels: int = 1_000_000) -> Iterator[Decoder]:
    made = Decoder(threads=threads, limits=ItemLimits(max_pixels), observe=lambda seconds: None)
    try:
        yield made
    finally:
        made.close()


def run(trial: Callable[[], Awaitable[T]]) -> T:
    async def within() -> T:
        return await asyncio.wait_for(trial(), 20)

    return asyncio.run(within())


def test_rows_come_in_the_order_of_the_items_as_the_recipe_makes_them() -> None:
    async def trial() -> None:
        items = [picture(seed) for seed in range(30)]
        with decoder() as made:
            fields = await made.prepare(RECIPE, items)
        np.testing.assert_array_equal(fields["pixels"], np.stack([RECIPE.decode(item) for item in items]))

    run(trial)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_item_is_named_and_the_threads_live_on(name: str) -> None:
    async def trial() -> None:
        with decoder(threads=1) as made:
            with pytest.raises(UndecodableInput) as caught:
                await made.prepare(RECIPE, [picture(), BROKEN[name], picture()])
            assert caught.value.index == 1
            assert (await made.prepare(RECIPE, [picture()]))["pixels"].shape == (1, 8, 8, 3)

    run(trial)


def test_pixels_are_limited_from_the_header() -> None:
    async def trial() -> None:
        with decoder(max_pixels=24 * 24 - 1) as made:
            for data in (GIGAPIXEL, GOOD["png"]):
                with pytest.raises(InputTooLarge):
                    await made.prepare(RECIPE, [data])

    run(trial)


def test_a_text_is_no_picture() -> None:
    async def trial() -> None:
        with decoder() as made, pytest.raises(WrongModality):
            await made.prepare(RECIPE, ["hello"])

    run(trial)


def test_texts_and_pairs_of_a_request_are_padded_to_one_length() -> None:
    async def trial() -> None:
        recipe = text_recipe()
        items: list[Raw] = ["day", ("a day", "a night"), "", "the day " * 6]
        with decoder() as made:
            fields = await made.prepare(recipe, items)
            short = await made.prepare(recipe, items[:3])
        assert {array.shape for array in fields.values()} == {(4, 16)}
        assert {array.shape for array in short.values()} == {(3, 8)}
        expected = recipe.collate([recipe.prepare(item) for item in items])
        for name, array in fields.items():
            np.testing.assert_array_equal(array, expected[name])

    run(trial)


@pytest.mark.parametrize(
    ("item", "error"),
    [("12345678901", InputTooLarge), (("123456", "78901"), InputTooLarge), ("\ud800", UndecodableInput)],
)
def test_a_text_that_cannot_be_read_is_named(item: Raw, error: type[InvalidInput]) -> None:
    async def trial() -> None:
        made = Decoder(threads=1, limits=ItemLimits(characters=10), observe=lambda seconds: None)
        try:
            with pytest.raises(error) as caught:
                await made.prepare(text_recipe(), ["a day", item])
            assert caught.value.index == 1
            assert (await made.prepare(text_recipe(), ["1234567890"]))["input_ids"].shape == (1, 8)
        finally:
            made.close()

    run(trial)


def test_a_picture_is_no_text() -> None:
    async def trial() -> None:
        with decoder() as made, pytest.raises(WrongModality):
            await made.prepare(text_recipe(), [picture()])

    run(trial)


def test_what_is_late_or_cancelled_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    in_threads(monkeypatch)

    async def trial() -> None:
        begun, gate, decoded = threading.Event(), threading.Event(), []

        class Slow(ImageRecipe):
            def decode(self, data: bytes, *rest: object) -> np.ndarray:
                decoded.append(data)
                begun.set()
                assert gate.wait(10)
                return np.zeros((8, 8, 3), np.uint8)

        recipe = Slow(8, 8)
        with decoder(threads=1) as made:
            first = made.prepare(recipe, [b"first"])
            await asyncio.to_thread(begun.wait, 10)
            late = made.prepare(recipe, [b"late"], deadline=perf_counter())
            gone = made.prepare(recipe, [b"gone"])
            last = made.prepare(recipe, [b"last"])
            gone.cancel()
            gate.set()
            await asyncio.gather(first, last)
            with pytest.raises(DeadlineExceeded):
                await late
        assert decoded == [b"first", b"last"]

    run(trial)


def test_large_pictures_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones do not wait for them."""
    monkeypatch.setattr(decode, "LARGE_PIXELS", 100)
    in_threads(monkeypatch)

    async def trial() -> None:
        inside, most = 0, 0
        counting = threading.Lock()

        class Watched(ImageRecipe):
            def convert(self, image: object, *rest: object) -> np.ndarray:
                nonlocal inside, most
                with counting:
                    inside += 1
                    most = max(most, inside)
                threading.Event().wait(0.01)
                with counting:
                    inside -= 1
                return np.zeros((8, 8, 3), np.uint8)

        recipe = Watched(8, 8)
        with decoder(threads=4) as made:
            await asyncio.gather(*[made.prepare(recipe, [picture(side=20)]) for _ in range(8)])
            assert most == 1
            await asyncio.gather(*[made.prepare(recipe, [picture(side=9)]) for _ in range(8)])
            assert most > 1

    run(trial)


def gated(recipe_side: int, gate: threading.Event, order: list[bytes], begun: threading.Event) -> ImageRecipe:
    """A recipe that waits before it decodes, and writes down what it decodes."""

    class Gated(ImageRecipe):
        def decode(self, data: bytes, *rest: Any) -> np.ndarray:
            begun.set()
            assert gate.wait(10)
            order.append(data)
            return np.zeros((recipe_side, recipe_side, 3), np.uint8)

    return Gated(recipe_side, recipe_side)


def test_requests_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    in_threads(monkeypatch)

    async def trial() -> None:
        gate, begun, order = threading.Event(), threading.Event(), list[bytes]()
        recipe = gated(8, gate, order, begun)
        with decoder(threads=1) as made:
            many = made.prepare(recipe, [b"many"] * 50)
            await asyncio.to_thread(begun.wait, 10)
            few = made.prepare(recipe, [b"few"] * 2)
            gate.set()
            await asyncio.gather(many, few)
        assert order[:5] == [b"many", b"many", b"few", b"many", b"few"]

    run(trial)


def test_a_picture_that_is_not_large_never_waits_for_large_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "MODERATE_PIXELS", 100)
    in_threads(monkeypatch)

    async def trial() -> None:
        gate = threading.Event()

        class Held(ImageRecipe):
            def convert(self, image: Any, *rest: object) -> np.ndarray:
                if image.size[0] > 10:
                    assert gate.wait(10)
                return np.zeros((8, 8, 3), np.uint8)

        recipe = Held(8, 8)
        with decoder(threads=2) as made:
            large = [made.prepare(recipe, [picture(side=20)] * 3) for _ in range(5)]
            for _ in range(5):
                await asyncio.wait_for(made.prepare(recipe, [picture(side=9)] * 3), 10)
            assert not any(each.done() for each in large)
            gate.set()
            await asyncio.gather(*large)

    run(trial)


def test_the_pixels_of_a_request_are_limited_together() -> None:
    async def trial() -> None:
        made = Decoder(threads=2, limits=ItemLimits(request_pixels=1000), observe=lambda seconds: None)
        try:
            assert len((await made.prepare(RECIPE, [picture(side=14)] * 5))["pixels"]) == 5
            with pytest.raises(InputTooLarge, match="together"):
                await made.prepare(RECIPE, [picture(side=14)] * 6)
        finally:
            made.close()

    run(trial)


@pytest.mark.parametrize(
    ("items", "small"),
    [
        ([picture()], True),
        ([picture(seed) for seed in range(4)], True),
        ([picture(seed) for seed in range(5)], False),
        ([picture(side=128)], False),  # over 32 KiB
        ([BLACK], False),
    ],
    ids=["one", "four", "five", "a large file", "a large picture in a small file"],
)
def test_small_items_are_prepared_where_they_arrived(where: str, items: list[bytes], small: bool) -> None:
    async def trial() -> None:
        seen: list[bool] = []

        class Watched(ImageRecipe):
            def convert(self, image: object, *rest: object) -> np.ndarray:
                seen.append(threading.current_thread() is threading.main_thread())
                return np.zeros((8, 8, 3), np.uint8)

        with decoder() as made:
            await made.prepare(Watched(8, 8), items)
        assert set(seen) == {small and where == "loop"}

    run(trial)


def test_every_recipe_keeps_its_own_size() -> None:
    async def trial() -> None:
        with decoder() as made:
            wide = await made.prepare(replace(RECIPE, width=12), [picture()])
        assert wide["pixels"].shape == (1, 8, 12, 3)

    run(trial)
