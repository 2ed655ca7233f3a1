"""ONNX Runtime behind one door."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from registry.errors import RuntimeFailure
from registry.runtime import CPU, Session, cpu_quota, usable_providers
from registry.signature import TensorSpec


def doubling() -> bytes:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "doubling", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def test_a_session_runs_and_describes_its_ports() -> None:
    session = Session(doubling(), providers=[CPU])
    assert session.inputs == (TensorSpec("x", "float32", ("batch", 3)),)
    result = session.run({"x": np.ones((2, 3), np.float32)})
    assert result["y"].tolist() == [[2.0] * 3] * 2
    assert session.providers == (CPU,)


def test_threads_that_wait_awake_compute_the_same() -> None:
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    awake = Session(doubling(), providers=[CPU], threads=2, spin_us=100).run({"x": rows})
    assert np.array_equal(awake["y"], Session(doubling(), providers=[CPU], threads=2).run({"x": rows})["y"])


def test_a_damaged_model_is_refused_in_one_line() -> None:
    with pytest.raises(RuntimeFailure, match="cannot open flowers") as caught:
        Session(doubling()[:-20], name="flowers")
    assert "\n" not in str(caught.value)


def test_inputs_of_another_shape_are_refused() -> None:
    with pytest.raises(RuntimeFailure, match="cannot run"):
        Session(doubling()).run({"x": np.ones((2, 4), np.float32)})


def test_the_processor_is_always_among_the_providers() -> None:
    assert usable_providers()[-1] == CPU
    assert cpu_quota() >= 1
