"""Small files that compute huge tensors: a run fails, the process stays, what was served goes on."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from numpy.typing import ArrayLike
from onnx import NodeProto, TensorProto, helper, numpy_helper

from registry.registry import Registry
from registry.segments import canonical
from registry.settings import Settings
from services.process.server import Server, free_port
from services.settings import ServeSettings
from tests.builders import picture, publish, tiny, trunk, with_segment
from tests.contracts.http import PNG, Running, worker_pids

LIMIT = 256 << 20
MANY = 1 << 30
SIDE = 1 << 15

Parts = tuple[list[NodeProto], dict[str, ArrayLike]]


def node(operator: str, *inputs: str, output: str = "huge", **attributes: Any) -> NodeProto:
    return helper.make_node(operator, inputs, [output], **attributes)


ONE = np.ones(1, np.float32)
HUGE: dict[str, Parts] = {
    "ConstantOfShape": ([node("ConstantOfShape", "size")], {"size": np.array([MANY])}),
    "Expand": ([node("Expand", "one", "size")], {"size": np.array([MANY]), "one": ONE}),
    "Tile": ([node("Tile", "one", "size")], {"size": np.array([MANY]), "one": ONE}),
    "Range": (
        [node("Range", "start", "size", "step", output="whole"), node("Cast", "whole", to=TensorProto.FLOAT)],
        {"start": np.array(0), "size": np.array(MANY), "step": np.array(1)},
    ),
    "Pad": ([node("Pad", "one", "size")], {"size": np.array([0, MANY]), "one": ONE}),
    "Resize": (
        [node("Resize", "one", "", "size", mode="nearest")],
        {"size": np.full(2, SIDE, np.float32), "one": ONE.reshape(1, 1)},
    ),
    "OneHot": (
        [node("OneHot", "index", "size", "values")],
        {"size": np.array([MANY]), "index": np.array([1]), "values": np.array([0, 1], np.float32)},
    ),
    "MatMul": (
        [
            node("Expand", "one", "tall", output="column"),
            node("Expand", "one", "flat", output="row"),
            node("MatMul", "column", "row"),
        ],
        {"one": ONE.reshape(1, 1), "tall": np.array([SIDE, 1]), "flat": np.array([1, SIDE])},
    ),
    "by the batch": (
        [
            node("Shape", "pixels", output="shape"),
            node("Gather", "shape", "first", output="rows"),
            node("Mul", "rows", "size", output="many"),
            node("ConstantOfShape", "many"),
        ],
        {"first": np.array([0]), "size": np.array([MANY])},
    ),
}
BY_THE_PICTURE: Parts = (
    [
        node("Cast", "pixels", output="whole", to=TensorProto.INT64),
        node("ReduceMax", "whole", output="brightest", keepdims=0),
        node("Mul", "brightest", "size", output="count"),
        node("Unsqueeze", "count", "first", output="many"),
        node("ConstantOfShape", "many"),
    ],
    {"size": np.array(MANY >> 7), "first": np.array([0])},
)


def with_huge(parts: Parts) -> bytes:
    """Return the trunk of tiny versions, with the mean of a huge tensor added to its features."""
    model = onnx.load_from_string(trunk())
    nodes, constants = parts
    final = model.graph.node[-1].output[0]
    model.graph.node[-1].output[0] = "plain"
    model.graph.node.extend(nodes)
    model.graph.node.append(node("ReduceMean", "huge", output="mean", keepdims=0))
    # The mean of nothing is no number.
    model.graph.node.append(node("Max", "mean", "least", output="finite"))
    model.graph.node.append(node("Add", "plain", "finite", output=final))
    values = {name: np.asarray(value) for name, value in constants.items()} | {"least": np.float32(0)}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in values.items())
    return canonical(model)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("huge")
    registry = Settings.read(folder / "home", actor="tests", environment={})
    with Registry.open(registry) as opened:
        opened.promote(publish(opened, tiny()).ref, "production")
    log = folder / "log"
    settings = ServeSettings(port=free_port(), tensor_bytes=LIMIT)
    with log.open("wb") as file, Server(settings, registry, file.fileno()) as server:
        server.wait_until_ready(60)
        yield Running(server, registry, log)


@pytest.mark.parametrize("kind", HUGE)
def test_a_version_that_needs_too_much_is_refused_and_the_other_serves(running: Running, kind: str) -> None:
    data = with_huge(HUGE[kind])
    assert len(data) < 4096
    pids = worker_pids(running.server.pid)
    promote(running, data)
    until(lambda: refused(running) == {"digits": "RuntimeFailure"})
    assert classified(running).headers["X-Cultivar-Version"] == "letters/digits@1"
    assert worker_pids(running.server.pid) == pids
    assert peak_bytes(pids[0]) < 4 * LIMIT
    said = [line for line in running.log.read_text().splitlines() if " is refused: " in line][-1]
    assert "tensors of this process may take" in said or "exceeds the supported maximum" in said
    with Registry.open(running.registry) as registry:
        registry.promote("digits@1", "production")
    until(lambda: refused(running) == {})


def test_a_request_that_makes_a_version_need_too_much_fails_alone(running: Running) -> None:
    pids = worker_pids(running.server.pid)
    promote(running, with_huge(BY_THE_PICTURE))
    until(lambda: classified(running).status_code == 500)
    assert httpx.get(f"{running.url}/readyz").status_code == 200
    assert worker_pids(running.server.pid) == pids
    assert peak_bytes(pids[0]) < 4 * LIMIT
    with Registry.open(running.registry) as registry:
        registry.promote("digits@1", "production")
    until(lambda: classified(running).status_code == 200)


def test_constants_that_are_computed_when_a_version_is_opened_are_limited_together(running: Running) -> None:
    """Each is within the limit; ONNX Runtime would keep all of them."""
    pids = worker_pids(running.server.pid)
    nodes, sums = [], ["base"]
    constants: dict[str, ArrayLike] = {"one": ONE, "base": np.zeros(1, np.float32)}
    for number in range(40):
        constants[f"size {number}"] = np.array([(64 << 18) + number])
        nodes += [
            node("Expand", "one", f"size {number}", output=f"wide {number}"),
            node("Mul", f"wide {number}", "first", output=f"scaled {number}"),
            node("ReduceMean", f"scaled {number}", output=f"mean {number}"),
            node("Add", sums[-1], f"mean {number}", output=f"sum {number}"),
        ]
        sums.append(f"sum {number}")
    nodes.insert(0, node("ReduceMean", "plain", output="first", keepdims=0))
    nodes.append(node("Identity", sums[-1]))
    promote(running, with_huge((nodes, constants)))
    until(lambda: classified(running).headers.get("X-Cultivar-Version") != "letters/digits@1")
    assert worker_pids(running.server.pid) == pids
    assert peak_bytes(pids[0]) < 4 * LIMIT


def promote(running: Running, data: bytes) -> None:
    with Registry.open(running.registry) as registry:
        registry.promote(publish(registry, with_segment(tiny(), "pool", data)).ref, "production")


def refused(running: Running) -> dict[str, str]:
    entries = httpx.get(f"{running.url}/readyz").json()["refused"]
    return {entry["target"]: entry["reason"] for entry in entries}


def classified(running: Running) -> httpx.Response:
    return httpx.post(f"{running.url}/v1/classify/digits", content=picture(), headers=PNG)


def peak_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
