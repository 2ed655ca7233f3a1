"""Features of inputs that were asked about before are not computed again, and answers stay the same."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest

from registry.errors import UndecodableInput
from registry.registry import Registry
from registry.settings import Settings
from services.deployment.sessions import RunStep, Sessions
from services.deployment.snapshot import Selector
from services.deployment.watcher import DeploymentWatcher
from services.engine.route import Tensors
from services.inference import pipeline as module
from services.inference.feature_cache import FeatureCache, Key
from services.inference.inputs import IMAGE, Inputs
from services.inference.pipeline import InferencePipeline
from services.inference.request import InferenceRequest
from services.settings import ServeSettings
from tests.builders import DIMENSION, chain, picture, publish

ROW = np.arange(DIMENSION, dtype=np.float32)


def key(number: int) -> Key:
    return "wire", "recipe", "provider", bytes([number])


def test_a_vector_comes_back_as_it_was_put() -> None:
    remembered = FeatureCache(10_000)
    row = ROW.copy()
    remembered.put(key(1), row)
    row[:] = 0
    found = remembered.get(key(1))
    assert found is not None
    np.testing.assert_array_equal(found, ROW)
    assert remembered.get(key(2)) is None


def test_what_was_not_asked_for_longest_goes_first() -> None:
    remembered = FeatureCache(3 * (ROW.nbytes + 600))
    for number in (1, 2, 3):
        remembered.put(key(number), ROW)
    remembered.get(key(1))
    remembered.put(key(4), ROW)
    assert [remembered.get(key(number)) is not None for number in (1, 2, 3, 4)] == [True, False, True, True]
    assert remembered.bytes <= 3 * (ROW.nbytes + 600)


def test_without_room_nothing_is_kept() -> None:
    remembered = FeatureCache(0)
    remembered.put(key(1), ROW)
    assert (len(remembered), remembered.bytes) == (0, 0)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry.open(Settings.read(tmp_path, actor="tests")) as registry:
        for number, target in enumerate(("one", "two")):
            registry.promote(
                publish(registry, chain(f"letters/{target}", [1, 2], seed=number)).ref, "production"
            )
        yield registry


@pytest.fixture
def rows_run(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let everything be worth remembering, and note the rows that sessions run."""
    noted: list[int] = []
    whole = RunStep.run

    def run(self: RunStep, values: Tensors, *, alone: bool = False, onward: bool = False) -> Tensors:
        noted.append(len(next(iter(values.values()))))
        return whole(self, values, alone=alone, onward=onward)

    monkeypatch.setattr(module, "WORTH_REMEMBERING_S", 0.0)
    monkeypatch.setattr(RunStep, "run", run)
    return noted


def serve(
    registry: Registry,
    rows_run: list[int],
    trial: Callable[[InferencePipeline], Awaitable[None]],
    **settings: int,
) -> None:
    async def within() -> None:
        deployment = DeploymentWatcher(
            lambda: registry, stages=("production",), sessions=Sessions(threads=1, cores=1)
        )
        deployment.look()
        rows_run.clear()
        inference = InferencePipeline(ServeSettings(**settings), deployment, 1)  # type: ignore[arg-type]  # whole numbers alone
        try:
            await trial(inference)
        finally:
            inference.close()

    asyncio.run(within())


def pictures(*seeds: int) -> Inputs:
    return Inputs(IMAGE, [picture(seed) for seed in seeds])


def asking(inputs: Inputs) -> InferenceRequest:
    return InferenceRequest(inputs, perf_counter() + 20)


def test_every_head_and_the_feature_endpoint_find_what_one_of_them_computed(
    registry: Registry, rows_run: list[int]
) -> None:
    async def trial(inference: InferencePipeline) -> None:
        one, two = (inference.snapshot.pick(name, Selector()) for name in ("one", "two"))
        await inference.classify(one, asking(pictures(1, 2)), 3)
        before = list(rows_run)
        await inference.classify(two, asking(pictures(2, 1)), 3)
        await inference.embed(one, asking(pictures(1)))
        await inference.classify_all({"one": one, "two": two}, asking(pictures(1, 2)), 3)
        assert rows_run == before

    serve(registry, rows_run, trial)


def test_only_what_is_new_is_computed_and_all_rows_stay_in_their_order(
    registry: Registry, rows_run: list[int]
) -> None:
    async def trial(inference: InferencePipeline) -> None:
        one = inference.snapshot.pick("one", Selector())
        fresh = {seed: (await inference.embed(one, asking(pictures(seed))))[0] for seed in range(6)}
        inference._feature_cache = FeatureCache(1 << 20)
        await inference.embed(one, asking(pictures(1, 4)))
        rows_run.clear()
        mixed = await inference.embed(one, asking(pictures(0, 1, 2, 3, 4, 5)))
        assert sum(rows_run) == 4
        np.testing.assert_allclose(mixed, np.stack([fresh[seed] for seed in range(6)]), atol=1e-5)

    serve(registry, rows_run, trial)


def test_a_broken_input_is_named_by_its_place_in_the_request(registry: Registry, rows_run: list[int]) -> None:
    async def trial(inference: InferencePipeline) -> None:
        one = inference.snapshot.pick("one", Selector())
        await inference.embed(one, asking(pictures(1, 2)))
        broken = Inputs(IMAGE, [picture(1), picture(2), b"no picture"])
        with pytest.raises(UndecodableInput) as raised:
            await inference.embed(one, asking(broken))
        assert raised.value.index == 2

    serve(registry, rows_run, trial)


def test_switched_off_everything_is_computed(registry: Registry, rows_run: list[int]) -> None:
    async def trial(inference: InferencePipeline) -> None:
        one = inference.snapshot.pick("one", Selector())
        for _ in range(2):
            await inference.embed(one, asking(pictures(1)))
        assert rows_run == [1, 1]

    serve(registry, rows_run, trial, feature_cache_bytes=0)
