"""The model as a BentoML service with adaptive batching, as BentoML's documentation writes one.

One input a request. BentoML reads an ndarray from JSON alone, half a megabyte of digits for a
picture; an uploaded ``.npy`` file is several times cheaper for it, so that is what it gets.
"""

# BentoML is not typed for strict checking.
# mypy: disable-error-code="misc, untyped-decorator"

import os
from pathlib import Path

import bentoml
import numpy as np
import onnxruntime as ort
from PIL import Image

from registry.recipe import ImageRecipe, parse

BATCH = 32


@bentoml.service(traffic={"timeout": 60})
class Photographs:
    """Says which label a picture has."""

    def __init__(self) -> None:
        self._session = ort.InferenceSession(os.environ["PEER_MODEL"], providers=["CPUExecutionProvider"])
        recipe = parse(Path(os.environ["PEER_RECIPE"]).read_bytes())
        assert isinstance(recipe, ImageRecipe)
        self._recipe = recipe

    @bentoml.api(batchable=True, max_batch_size=BATCH)
    def classify(self, pictures: list[Image.Image]) -> list[dict[str, float]]:
        """Return the best label's number and score for each picture."""
        return self._best(np.stack([self._recipe.convert(picture) for picture in pictures]))

    @bentoml.api(batchable=True, max_batch_size=BATCH)
    def classify_arrays(self, arrays: list[Path]) -> list[dict[str, float]]:
        """Return the best label's number and score for each file of pixels, uint8 [1, height, width, 3]."""
        return self._best(np.concatenate([np.load(array, allow_pickle=False) for array in arrays]))

    def _best(self, pixels: np.ndarray) -> list[dict[str, float]]:
        (logits,) = self._session.run(["logits"], {"pixels": pixels})
        scores = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
        return [{"label": int(row.argmax()), "score": float(row.max())} for row in scores]
