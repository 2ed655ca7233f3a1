"""A run's sessions compute the same, whichever is picked."""

import gc
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from registry.registry import Registry
from registry.runtime import Placed, Session
from registry.segments import Detached, Node, merge_detached
from registry.settings import Settings
from services.deployment.loading import LoadedVersion, VersionContents
from services.deployment.plan import Plan
from services.deployment.session_pool import PoolByBatchSize, PoolByCores, SessionPool, open_pool
from services.deployment.sessions import Sessions
from services.engine.batch_sizes import SIZES
from tests.builders import publish, tiny

SIDE = 8


def convolution(seed: int = 0) -> Detached:
    """A convolution that keeps the picture's size, its weights (1.7 KiB) apart."""
    weight = np.random.default_rng(seed).standard_normal((16, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "weight"], ["y"], pads=[1, 1, 1, 1])],
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 16, SIDE, SIDE])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return merge_detached([Node("only", model.SerializeToString(), {"x": "recipe:x"})], {"y": "only:y"})


def rows(count: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(count).standard_normal((count, 3, SIDE, SIDE)).astype(np.float32)}


def test_every_size_has_a_session_of_its_own_and_all_give_the_same() -> None:
    model = convolution()
    assert model.weights, "nothing to share"
    reference = Session(model)
    variants = PoolByBatchSize(model, "convolution", largest=32)
    assert variants.sizes == (1, 2, 4, 8, 16, 32)
    picked = [variants.pick(size, alone=False) for size in variants.sizes]
    assert len({id(session) for session in picked}) == len(picked)
    for size, session in zip(variants.sizes, picked, strict=True):
        np.testing.assert_allclose(session.run(rows(size))["y"], reference.run(rows(size))["y"], atol=1e-5)


@pytest.mark.parametrize(
    ("largest", "sizes"), [(1, (1,)), (24, (1, 2, 4, 8, 16, 32)), (64, SIZES), (99, SIZES)]
)
def test_sizes_reach_as_far_as_the_largest_batch(largest: int, sizes: tuple[int, ...]) -> None:
    assert PoolByBatchSize(convolution(), "convolution", largest=largest).sizes == sizes


def test_what_is_larger_than_the_largest_goes_to_its_session() -> None:
    variants = PoolByBatchSize(convolution(), "convolution", largest=4)
    assert variants.pick(64, alone=False) is variants.pick(4, alone=True)
    assert variants.pick(64, alone=False).run(rows(64))["y"].shape == (64, 16, SIDE, SIDE)


def test_placed_weights_live_as_long_as_a_session_on_them() -> None:
    model = convolution()
    expected = Session(model).run(rows(2))["y"]
    placed = Placed(model)
    sessions = [Session(placed) for _ in range(2)]
    del placed, model
    gc.collect()
    for session in sessions:
        np.testing.assert_allclose(session.run(rows(2))["y"], expected, atol=1e-5)
    del sessions[0]
    gc.collect()
    np.testing.assert_allclose(sessions[0].run(rows(2))["y"], expected, atol=1e-5)


def test_a_lonely_run_on_a_cpu_gets_the_session_of_all_cores() -> None:
    variants = PoolByCores(convolution(), "convolution", threads=1, cores=2)
    assert variants.pick(1, alone=True) is not variants.pick(1, alone=False)
    assert PoolByCores(convolution(), "convolution", threads=2, cores=2).wide is False


def test_sizes_are_kept_apart_only_on_a_gpu_and_only_for_convolutions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def loaded(model: Detached, largest: int) -> SessionPool:
        return open_pool(model, "run", threads=1, cores=1, largest=largest)

    assert convolution().operators() == {"Conv"}
    assert isinstance(loaded(convolution(), 32), PoolByCores)
    monkeypatch.setattr(
        "services.deployment.session_pool.usable_providers", lambda: ("CUDAExecutionProvider",)
    )
    assert isinstance(loaded(convolution(), 32), PoolByBatchSize)
    assert isinstance(loaded(convolution(), 0), PoolByCores)


@pytest.mark.parametrize("stays", [False, True], ids=["host", "device"])
def test_each_session_of_a_version_runs_before_it_answers(
    stays: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []

    class Noted(PoolByBatchSize):
        def pick(self, size: int, *, alone: bool) -> Session:
            ran.append(size)
            return super().pick(size, alone=alone)

    def sized(model: Detached, name: str, *, threads: int, cores: int, largest: int) -> SessionPool:
        return Noted(model, name, largest=largest)

    monkeypatch.setattr("services.deployment.sessions.open_pool", sized)
    registry = Registry.open(Settings.read(tmp_path, actor="tests"))
    version = publish(registry, tiny())
    contents = VersionContents.read(registry, version)
    path = Plan.of({version.digest: contents.manifest}).paths[version.digest]
    LoadedVersion.open(registry, contents, path, Sessions(threads=1, cores=1, largest=16, stays=stays))
    assert ran == [1, 2, 4, 8, 16]
