"""The model as a Triton python backend, as Triton's documentation writes one: instances that decode a batch and run it.

Triton's server imports this as ``model.py`` of a model; ``benchmarks/peers/triton.py`` writes its configuration. Every
instance is a process with a session of one core.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

from registry.recipe import ImageRecipe, parse


class TritonPythonModel:
    """Says which label a picture has, or what its features are."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the model."""
        parameters = json.loads(args["model_config"])["parameters"]
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        path = parameters["onnx"]["string_value"]
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        recipe = parse(Path(parameters["recipe"]["string_value"]).read_bytes())
        assert isinstance(recipe, ImageRecipe)
        self._recipe = recipe
        self._decodes = parameters["takes"]["string_value"] == "pictures"
        self._output = parameters["output"]["string_value"]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests that Triton has put together: one batch."""
        given = [pb_utils.get_input_tensor_by_name(request, "input").as_numpy() for request in requests]
        if self._decodes:
            pixels = np.stack([self._recipe.decode(item) for rows in given for item in rows.ravel()])
        else:
            pixels = np.concatenate(given)
        (found,) = self._session.run([self._output], {"pixels": pixels})
        return self._answers(found, [len(rows) for rows in given])

    def _answers(self, found: np.ndarray, rows: list[int]) -> list[Any]:
        if self._output == "features":
            tensors = [("features", found)]
        else:
            scores = np.exp(found - found.max(axis=1, keepdims=True))
            scores /= scores.sum(axis=1, keepdims=True)
            labels = scores.argmax(axis=1, keepdims=True).astype(np.int32)
            tensors = [("label", labels), ("score", scores.max(axis=1, keepdims=True))]
        edges = np.cumsum(rows)[:-1]
        split = [(name, np.split(values, edges)) for name, values in tensors]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor(name, parts[number]) for name, parts in split])
            for number in range(len(rows))
        ]
