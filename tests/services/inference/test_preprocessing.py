"""Raw inputs become rows in the engine's workers: order, faults, deadlines, bounds, turns."""

import asyncio
import io
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from time import perf_counter, thread_time
from typing import Any, TypeAlias, TypeVar

import numpy as np
import pytest
from PIL import Image

from registry.digests import Digest
from registry.errors import InputTooLarge, InvalidInput, UndecodableInput, WrongModality
from registry.recipe import ImageRecipe, Raw, Recipe
from registry.runtime import on_host
from services.engine import Answer, Engine, QueueLimits, Route, batch_preparation
from services.engine.latency_model import CHEAP_S
from services.engine.preparation import Effort
from services.engine.route import Tensors
from services.errors import DeadlineExceeded
from services.inference import preprocessing
from services.inference.preprocessing import InputLimits, RawInputs, Shared
from tests.builders import picture, text_recipe
from tests.services.engine.test_engine import Ledger
from tests.services.pictures import BROKEN, GIGAPIXEL, GOOD

RECIPE = ImageRecipe(8, 8)

T = TypeVar("T")

KEYS = map(Digest.of, map(str.encode, map(str, count())))

TOGETHER, APART = "by those that run them", "apart"


def black(side: int) -> bytes:
    """Return a large picture in a small file."""
    stream = io.BytesIO()
    Image.new("RGB", (side, side)).save(stream, "PNG")
    return stream.getvalue()


BLACK = black(200)


@dataclass(eq=False)
class Passing:
    """A step whose outputs are the rows that it takes."""

    takes: tuple[str, ...]
    batches: list[int] = field(default_factory=list)
    depth: int = 1
    wide: bool = False
    sizes: tuple[int, ...] = ()
    providers: tuple[str, ...] = ("here",)
    key: Digest = field(default_factory=lambda: next(KEYS))

    def __post_init__(self) -> None:
        self.gives = tuple(f"given {wire}" for wire in self.takes)

    def run(self, values: Tensors, *, alone: bool = False, onward: bool = False) -> Tensors:
        rows = [on_host(values[wire]) for wire in self.takes]
        self.batches.append(len(rows[0]))
        return dict(zip(self.gives, rows, strict=True))


class Preparing:
    """An engine whose predictions are the rows that inputs were made into."""

    def __init__(self, engine: Engine, limits: InputLimits) -> None:
        self.engine = engine
        self.limits = limits
        self.steps: dict[Recipe, Passing] = {}

    def prepare(
        self, recipe: Recipe, inputs: Sequence[Raw], deadline: float = float("inf"), *, shared: bool = False
    ) -> Answer:
        raw = RawInputs(recipe, inputs, self.limits, lambda seconds: None)
        return self.engine.submit(self.route(recipe), Shared(raw) if shared else raw, deadline)

    def route(self, recipe: Recipe) -> Route:
        names = [spec.name for spec in recipe.fields]
        step = self.steps.setdefault(recipe, Passing(tuple(f"recipe:{name}" for name in names)))
        outputs = dict(zip(names, step.gives, strict=True))
        return Route("root", recipe.fields, (step,), (), outputs)


@pytest.fixture(autouse=True, params=[TOGETHER, APART])
def where(request: pytest.FixtureRequest) -> str:
    """Whether inputs are prepared by the workers that run batches, as on a CPU, or by others, as beside a GPU."""
    return str(request.param)


MakesPreparing: TypeAlias = Callable[..., AbstractContextManager[Preparing]]


@pytest.fixture
def decoder(where: str) -> MakesPreparing:
    @contextmanager
    def made(workers: int = 2, **limits: int) -> Iterator[Preparing]:
        engine = Engine(
            QueueLimits(batch_rows=8),
            workers=workers if where == TOGETHER else 1,
            preparing=workers if where == APART else 0,
            observer=Ledger(),
        )
        try:
            yield Preparing(engine, InputLimits(**{"pixels": 1_000_000} | limits))
        finally:
            engine.close()

    return made


def sizes(monkeypatch: pytest.MonkeyPatch, *, large: int, huge: int = 1_000_000) -> None:
    """Set how many pixels make a picture large, and huge."""
    monkeypatch.setattr(preprocessing, "SMALL_PIXELS", 0)
    monkeypatch.setattr(preprocessing, "LARGE_PIXELS", large)
    monkeypatch.setattr(preprocessing, "HUGE_PIXELS", huge)


def run(trial: Callable[[], Awaitable[T]]) -> T:
    async def within() -> T:
        return await asyncio.wait_for(trial(), 20)

    return asyncio.run(within())


def test_rows_come_in_the_order_of_the_items_as_the_recipe_makes_them(decoder: MakesPreparing) -> None:
    async def trial() -> None:
        items = [picture(seed) for seed in range(30)]
        with decoder() as made:
            fields = await made.prepare(RECIPE, items)
        np.testing.assert_array_equal(fields["pixels"], np.stack([RECIPE.decode(item) for item in items]))

    run(trial)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_item_is_named_and_the_threads_live_on(name: str, decoder: MakesPreparing) -> None:
    async def trial() -> None:
        with decoder(workers=1) as made:
            with pytest.raises(UndecodableInput) as caught:
                await made.prepare(RECIPE, [picture(), BROKEN[name], picture()])
            assert caught.value.index == 1
            assert (await made.prepare(RECIPE, [picture()]))["pixels"].shape == (1, 8, 8, 3)

    run(trial)


def test_pixels_are_limited_from_the_header(decoder: MakesPreparing) -> None:
    async def trial() -> None:
        with decoder(pixels=24 * 24 - 1) as made:
            for data in (GIGAPIXEL, GOOD["png"]):
                with pytest.raises(InputTooLarge):
                    await made.prepare(RECIPE, [data])

    run(trial)


def test_a_text_is_no_picture(decoder: MakesPreparing) -> None:
    async def trial() -> None:
        with decoder() as made, pytest.raises(WrongModality):
            await made.prepare(RECIPE, ["hello"])

    run(trial)


def test_texts_and_pairs_of_a_request_are_padded_to_one_length(decoder: MakesPreparing) -> None:
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
def test_a_text_that_cannot_be_read_is_named(
    item: Raw, error: type[InvalidInput], decoder: MakesPreparing
) -> None:
    async def trial() -> None:
        with decoder(workers=1, characters=10) as made:
            with pytest.raises(error) as caught:
                await made.prepare(text_recipe(), ["a day", item])
            assert caught.value.index == 1
            assert (await made.prepare(text_recipe(), ["1234567890"]))["input_ids"].shape == (1, 8)

    run(trial)


def test_a_picture_is_no_text(decoder: MakesPreparing) -> None:
    async def trial() -> None:
        with decoder() as made, pytest.raises(WrongModality):
            await made.prepare(text_recipe(), [picture()])

    run(trial)


def test_what_is_late_or_cancelled_is_not_decoded(
    monkeypatch: pytest.MonkeyPatch, decoder: MakesPreparing
) -> None:
    async def trial() -> None:
        begun, gate, decoded = threading.Event(), threading.Event(), []

        class Slow(ImageRecipe):
            def decode(self, data: bytes, *rest: object) -> np.ndarray:
                decoded.append(data)
                begun.set()
                assert gate.wait(10)
                return np.zeros((8, 8, 3), np.uint8)

        recipe = Slow(8, 8)
        with decoder(workers=1) as made:
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


def test_huge_pictures_are_decoded_one_at_a_time(
    monkeypatch: pytest.MonkeyPatch, decoder: MakesPreparing
) -> None:
    sizes(monkeypatch, large=90, huge=100)

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
        with decoder(workers=4) as made:
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


def test_requests_take_turns(where: str, monkeypatch: pytest.MonkeyPatch, decoder: MakesPreparing) -> None:
    monkeypatch.setattr(batch_preparation, "MOST_S", 0.0)

    async def trial() -> None:
        gate, begun, order = threading.Event(), threading.Event(), list[bytes]()
        recipe = gated(8, gate, order, begun)
        with decoder(workers=1) as made:
            many = made.prepare(recipe, [b"many"] * 50)
            await asyncio.to_thread(begun.wait, 10)
            few = made.prepare(recipe, [b"few"] * 2)
            gate.set()
            await asyncio.gather(many, few)
        assert order[:5].count(b"few") == 2

    run(trial)


def test_large_pictures_of_several_requests_take_turns(
    monkeypatch: pytest.MonkeyPatch, decoder: MakesPreparing
) -> None:
    sizes(monkeypatch, large=100)

    async def trial() -> None:
        gate, begun, order = threading.Event(), threading.Event(), list[int]()

        class Held(ImageRecipe):
            def convert(self, image: Any, *rest: object) -> np.ndarray:
                begun.set()
                assert gate.wait(10)
                order.append(image.size[0])
                return np.zeros((8, 8, 3), np.uint8)

        recipe = Held(8, 8)
        with decoder(workers=2) as made:
            many = made.prepare(recipe, [picture(side=20)] * 20)
            await asyncio.to_thread(begun.wait, 10)
            few = made.prepare(recipe, [picture(side=21)] * 2)
            await asyncio.sleep(0.05)
            gate.set()
            await asyncio.gather(many, few)
        assert max(number for number, side in enumerate(order) if side == 21) < 8

    run(trial)


def test_a_picture_that_is_not_large_never_waits_for_large_ones(
    monkeypatch: pytest.MonkeyPatch, decoder: MakesPreparing
) -> None:
    sizes(monkeypatch, large=100)

    async def trial() -> None:
        gate = threading.Event()

        class Held(ImageRecipe):
            def convert(self, image: Any, *rest: object) -> np.ndarray:
                if image.size[0] > 10:
                    assert gate.wait(10)
                return np.zeros((8, 8, 3), np.uint8)

        recipe = Held(8, 8)
        with decoder(workers=2) as made:
            large = [made.prepare(recipe, [picture(side=20)] * 3) for _ in range(5)]
            for _ in range(5):
                await asyncio.wait_for(made.prepare(recipe, [picture(side=9)] * 3), 10)
            assert not any(each.done() for each in large)
            gate.set()
            await asyncio.gather(*large)

    run(trial)


def test_the_pixels_of_a_request_are_limited_together(decoder: MakesPreparing) -> None:
    async def trial() -> None:
        with decoder(request_pixels=1000) as made:
            assert len((await made.prepare(RECIPE, [picture(side=14)] * 5))["pixels"]) == 5
            with pytest.raises(InputTooLarge, match="together"):
                await made.prepare(RECIPE, [picture(side=14)] * 6)

    run(trial)


@pytest.mark.parametrize(
    "items",
    [
        [picture()],
        [picture(seed) for seed in range(4)],
        [picture(seed) for seed in range(5)],
        [picture(side=128)],  # over 32 KiB
        [BLACK],
    ],
    ids=["one", "four", "five", "a large file", "a large picture in a small file"],
)
@pytest.mark.parametrize("cheap", [False, True])
def test_nothing_is_opened_in_the_event_loop(
    items: list[bytes], cheap: bool, decoder: MakesPreparing
) -> None:
    async def trial() -> None:
        seen: list[str] = []

        class Watched(ImageRecipe):
            def decode(self, *data: Any) -> np.ndarray:
                seen.append(threading.current_thread().name)
                return super().decode(*data)

        recipe = Watched(8, 8)
        with decoder() as made:
            if cheap:
                await prove_cheap(made, recipe)
            fields = await made.prepare(recipe, items)
        np.testing.assert_array_equal(fields["pixels"], np.stack([RECIPE.decode(item) for item in items]))
        assert seen and threading.main_thread().name not in seen

    run(trial)


def test_no_text_is_tokenized_in_the_event_loop(
    monkeypatch: pytest.MonkeyPatch, decoder: MakesPreparing
) -> None:
    seen: list[str] = []
    recipe = text_recipe()
    asked: list[list[Raw]] = [["a day"], ["a night", ("a day", "a night")], ["a day"] * 50, ["day " * 1000]]
    whole = type(recipe).encode

    def encode(*arguments: Any) -> Any:
        seen.append(threading.current_thread().name)
        return whole(*arguments)

    monkeypatch.setattr(type(recipe), "encode", encode)

    async def trial() -> None:
        with decoder() as made:
            for items in asked:
                await made.prepare(recipe, items)
        assert seen and threading.main_thread().name not in seen

    run(trial)


async def prove_cheap(made: Preparing, recipe: ImageRecipe) -> None:
    """Run a recipe's model until the engine has seen that it is cheap, however busy the machine is."""
    rows = {"pixels": np.zeros((1, recipe.height, recipe.width, 3), np.uint8)}
    for _ in range(50):
        await made.engine.submit(made.route(recipe), rows)


def test_several_inputs_of_a_request_are_prepared_by_all_workers_at_once(decoder: MakesPreparing) -> None:
    async def trial() -> None:
        together = threading.Barrier(2)

        class Meeting(ImageRecipe):
            def decode(self, *data: Any) -> np.ndarray:
                together.wait(10)
                return np.zeros((8, 8, 3), np.uint8)

        with decoder(workers=2) as made:
            assert len((await made.prepare(Meeting(8, 8), [picture()] * 8))["pixels"]) == 8

    run(trial)


def test_what_several_models_are_asked_about_is_prepared_once(decoder: MakesPreparing) -> None:
    async def trial() -> None:
        decoded: list[bytes] = []

        class Watched(ImageRecipe):
            def decode(self, data: bytes, *rest: Any) -> np.ndarray:
                decoded.append(data)
                return super().decode(data, *rest)

        recipe = Watched(8, 8)
        items = [picture(seed) for seed in range(6)]
        with decoder() as made:
            shared = Shared(RawInputs(recipe, items, made.limits, lambda seconds: None))
            one, two = (
                made.route(recipe),
                Route("other", recipe.fields, (Passing(("recipe:pixels",)),), (), {}),
            )
            await asyncio.gather(made.engine.submit(one, shared), made.engine.submit(two, shared))
        assert sorted(decoded) == sorted(items)

    run(trial)


def test_the_rows_of_a_batch_are_prepared_by_the_worker_that_runs_it(
    where: str, decoder: MakesPreparing
) -> None:
    async def trial() -> None:
        decoding: list[str] = []

        class Watched(ImageRecipe):
            def decode(self, *data: Any) -> np.ndarray:
                decoding.append(threading.current_thread().name)
                return super().decode(*data)

        class Noting(Passing):
            def run(self, values: Tensors, *, alone: bool = False, onward: bool = False) -> Tensors:
                running.append(threading.current_thread().name)
                return super().run(values)

        running: list[str] = []
        recipe = Watched(8, 8)
        with decoder(workers=2) as made:
            made.steps[recipe] = Noting(("recipe:pixels",))
            await made.prepare(recipe, [picture(seed) for seed in range(5)])
        assert (set(decoding) == set(running)) == (where == TOGETHER)

    run(trial)


def test_batches_that_wait_for_the_slow_inputs_of_others_run_without_them(
    where: str, monkeypatch: pytest.MonkeyPatch, decoder: MakesPreparing
) -> None:
    monkeypatch.setattr(batch_preparation, "MOST_S", 0.01)

    async def trial() -> None:
        class Slow(ImageRecipe):
            def decode(self, *data: Any) -> np.ndarray:
                end = perf_counter() + 0.02
                while perf_counter() < end:
                    pass
                return np.zeros((8, 8, 3), np.uint8)

        recipe = Slow(8, 8)
        with decoder(workers=1) as made:
            assert len((await made.prepare(recipe, [picture()] * 5))["pixels"]) == 5
            assert made.steps[recipe].batches == ([1] * 5 if where == TOGETHER else [4, 1])

    run(trial)


def test_small_inputs_of_cheap_models_never_wait_for_long_runs(where: str, decoder: MakesPreparing) -> None:
    if where == APART:
        pytest.skip("beside a GPU the workers that prepare run nothing")

    async def trial() -> None:
        gate = threading.Event()

        class Held(Passing):
            def run(self, values: Tensors, *, alone: bool = False, onward: bool = False) -> Tensors:
                assert gate.wait(10)
                return super().run(values)

        with decoder(workers=2) as made:
            await prove_cheap(made, RECIPE)
            dear = Route("dear", RECIPE.fields, (Held(("recipe:pixels",)),), (), {})
            rows = {"pixels": np.zeros((4, 8, 8, 3), np.uint8)}
            long = [made.engine.submit(dear, rows) for _ in range(5)]
            for seed in range(20):
                await asyncio.wait_for(made.prepare(RECIPE, [picture(seed)]), 10)
            assert not any(each.done() for each in long)
            gate.set()
            await asyncio.gather(*long)

    run(trial)


def test_no_more_workers_are_at_work_than_there_are_cores(
    where: str, monkeypatch: pytest.MonkeyPatch, decoder: MakesPreparing
) -> None:
    if where == APART:
        pytest.skip("beside a GPU a run takes no core")
    sizes(monkeypatch, large=500)
    counting = threading.Lock()
    at_work, most = 0, 0

    @contextmanager
    def counted() -> Iterator[None]:
        nonlocal at_work, most
        with counting:
            at_work += 1
            most = max(most, at_work)
        try:
            threading.Event().wait(0.002)
            yield
        finally:
            with counting:
                at_work -= 1

    class Watched(ImageRecipe):
        def convert(self, *image: Any) -> np.ndarray:
            with counted():
                return super().convert(*image)

    class Dear(Passing):
        def run(self, values: Tensors, *, alone: bool = False, onward: bool = False) -> Tensors:
            with counted():
                given = super().run(values)
                end = thread_time() + 2 * CHEAP_S * self.batches[-1]
                while thread_time() < end:
                    pass
                return given

    async def trial() -> None:
        recipes = [Watched(8, 8), Watched(9, 9)]
        with decoder(workers=2) as made:
            for recipe in recipes:
                made.steps[recipe] = Dear(("recipe:pixels",))
            asked = [
                made.prepare(recipes[number % 2], [picture(number, side=12 + number % 24)] * (1 + number % 6))
                for number in range(40)
            ]
            rows = {"pixels": np.zeros((5, 8, 8, 3), np.uint8)}
            asked += [made.engine.submit(made.route(recipes[0]), rows) for _ in range(10)]
            await asyncio.gather(*asked)
        assert most == 2

    run(trial)


def test_every_recipe_keeps_its_own_size(decoder: MakesPreparing) -> None:
    async def trial() -> None:
        with decoder() as made:
            wide = await made.prepare(replace(RECIPE, width=12), [picture()])
        assert wide["pixels"].shape == (1, 8, 12, 3)

    run(trial)


def test_a_large_webp_picture_is_refused_from_its_header_and_other_formats_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preprocessing, "WEBP_PIXELS", 200 * 200 - 1)
    webp = io.BytesIO()
    Image.new("RGB", (200, 200)).save(webp, "WEBP", lossless=True)
    raw = RawInputs(RECIPE, (BLACK, webp.getvalue()), InputLimits(), lambda seconds: None)
    assert raw.prepare(0, Effort.LARGE)["pixels"].shape == (8, 8, 3)
    with pytest.raises(
        InputTooLarge, match="a WebP picture may have 39,999 pixels, this one is 200 x 200"
    ) as refused:
        raw.prepare(1, Effort.LARGE)
    assert refused.value.index == 1
    monkeypatch.setattr(preprocessing, "WEBP_PIXELS", 200 * 200)
    assert raw.prepare(1, Effort.LARGE)["pixels"].shape == (8, 8, 3)
