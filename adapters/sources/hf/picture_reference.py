"""Pictures as transformers prepares and runs them."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification

from adapters.sources.hf.checkpoint import quiet
from adapters.sources.hf.text_reference import LOCAL, classified, folder_files
from adapters.sources.reference import Given, Reference

_AUTO: Any = AutoImageProcessor
"""transformers' own has no types."""


class ProviderPictureReference(Reference):
    """An encoder of pictures, or a classifier.

    Pictures are prepared by transformers' processors on Pillow, which networks were trained and published
    with. Those on torchvision's tensors, its default of late, differ from them by a grey level, and by two
    where noise is enlarged with the bicubic filter.

    Args:
        path: the checkpoint's folder.
        classifies: whether it is a classifier.
    """

    def __init__(self, path: Path, *, classifies: bool) -> None:
        self.libraries = {name: version(name) for name in ("pillow", "transformers")}
        self._path = path
        self._classifies = classifies
        self._opened: Any = None

    def files(self) -> Sequence[Path]:
        """Return the files of the checkpoint's folder."""
        return folder_files(self._path)

    def prepare(self, given: Given) -> Mapping[str, np.ndarray]:
        """Process a picture; see :meth:`Reference.prepare`."""
        return {"pixels": self._processed(given)[0].numpy()}

    def run(self, given: Sequence[Given]) -> Mapping[str, np.ndarray]:
        """Run pictures through the network; see :meth:`Reference.run`."""
        auto = AutoModelForImageClassification if self._classifies else AutoModel
        with quiet():
            network: Any = auto.from_pretrained(
                self._path, dtype=torch.float32, use_safetensors=True, **LOCAL
            ).eval()
        with torch.no_grad():
            if self._classifies:
                return classified(network, ({"pixel_values": self._processed(each)} for each in given))
            left = [network(pixel_values=self._processed(each)) for each in given]
        return {"features": np.concatenate([_pooled(each) for each in left])}

    def _processed(self, given: Given) -> torch.Tensor:
        if self._opened is None:
            with quiet():
                self._opened = _AUTO.from_pretrained(self._path, backend="pil", **LOCAL)
        pixels: torch.Tensor = self._opened(images=given, return_tensors="pt")["pixel_values"]
        return pixels


def _pooled(output: Any) -> np.ndarray:
    """Return the first token of a transformer, or what a convolutional network pools, [1, D]."""
    if output.last_hidden_state.ndim == 3:
        first: np.ndarray = output.last_hidden_state[:, 0].numpy()
        return first
    pooled: np.ndarray = output.pooler_output.flatten(1).numpy()
    return pooled
