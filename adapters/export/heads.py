"""Linear heads, written as ONNX directly: no exporter is needed for one Gemm."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from registry.errors import InvalidSegment
from registry.segments import canonical


def linear_head(weight: np.ndarray, bias: np.ndarray) -> bytes:
    """Return the segment ``logits = features @ weight.T + bias``.

    Args:
        weight: float32 [C, D], as in ``torch.nn.Linear``.
        bias: float32 [C].

    Raises:
        InvalidSegment: the arrays do not fit together.
    """
    if (
        weight.ndim != 2
        or bias.shape != weight.shape[:1]
        or weight.dtype != np.float32
        or bias.dtype != np.float32
    ):
        raise InvalidSegment(
            f"a linear head is float32 [C, D] and [C], got {weight.dtype} {weight.shape} and {bias.dtype} {bias.shape}"
        )
    classes, dimension = weight.shape
    gemm = helper.make_node("Gemm", ["features", "weight", "bias"], ["logits"], transB=1)
    graph = helper.make_graph(
        [gemm],
        "head",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", dimension])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    return canonical(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
