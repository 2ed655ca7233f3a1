"""Pictures as torchvision and timm prepare and classify them."""

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
from PIL import Image
from timm.data import create_transform, resolve_data_config
from timm.models import get_pretrained_cfg
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from adapters.sources.checkpoints import SAFETENSORS, read_checkpoint
from adapters.sources.reference import Given, Reference


class PictureReference(Reference):
    """A network of pictures by its provider's own transform, loading and ``forward``.

    Args:
        provider: name that the provider's package is installed under.
        file: the weights.
        transform: from a picture, RGB, to float32 [C, H, W].
        load: returns the network with its weights.
        features: from network and float32 [1, C, H, W] to what the output layer takes, [1, D], and logits, [1, N].
        labelled: whether logits are answered.
    """

    def __init__(
        self,
        provider: str,
        file: Path,
        transform: Callable[[Image.Image], Tensor],
        load: Callable[[], nn.Module],
        features: Callable[[nn.Module, Tensor], tuple[Tensor, Tensor]],
        *,
        labelled: bool,
    ) -> None:
        self.libraries = {name: version(name) for name in sorted({provider, "pillow", "torchvision"})}
        self._file = file
        self._transform = transform
        self._load = load
        self._features = features
        self._labelled = labelled

    def files(self) -> Sequence[Path]:
        """Return the file of weights."""
        return [self._file] if self._file.is_file() else []

    def prepare(self, given: Given) -> Mapping[str, np.ndarray]:
        """Scale, crop and normalise a picture; see :meth:`Reference.prepare`."""
        return {"pixels": self._tensor(given).numpy()}

    def run(self, given: Sequence[Given]) -> Mapping[str, np.ndarray]:
        """Run pictures through the network, one by one; see :meth:`Reference.run`."""
        with torch.random.fork_rng(devices=[]):
            network = self._load().eval()
        with torch.no_grad():
            pairs = [self._features(network, self._tensor(each)[None]) for each in given]
        features, logits = (torch.cat(each).numpy() for each in zip(*pairs, strict=True))
        return {"features": features} | ({"logits": logits} if self._labelled else {})

    def _tensor(self, given: Given) -> Tensor:
        if not isinstance(given, Image.Image):
            raise TypeError(f"expected a picture, got {type(given).__name__}")
        return self._transform(given)


def torchvision_reference(
    model: str,
    weights: WeightsEnum,
    file: Path,
    head: str,
    *,
    labelled: bool,
    own: Callable[[], nn.Module] | None = None,
) -> PictureReference:
    """Return a model as torchvision runs it: ``get_model`` with its weights, and their own ``transforms()``.

    Args:
        model: torchvision's name.
        weights: its weights; they lie in torch's hub cache.
        file: the file there.
        head: module path of the output layer, whose input is taken; a map is averaged.
        labelled: whether logits are answered.
        own: returns torchvision's network with the weights of ``file``, where that is a file of one's own: torchvision
            has no reading of what may stand around such weights. None lets torchvision load them.
    """

    def load() -> nn.Module:
        if own is not None:
            return own()
        # torchvision unpickles; a file that holds tensors alone runs nothing.
        read_checkpoint(file, weights.url)
        network: nn.Module = torchvision.models.get_model(model, weights=weights, progress=False)
        return network

    def features(network: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
        taken: list[Tensor] = []
        handle = network.get_submodule(head).register_forward_pre_hook(
            lambda _, inputs: taken.append(inputs[0])
        )
        with handle:
            logits = network(pixels)
        (value,) = taken
        return (value.mean((2, 3)) if value.ndim == 4 else value), logits

    return PictureReference("torchvision", file, weights.transforms(), load, features, labelled=labelled)


def timm_reference(
    model: str, file: Path, *, labelled: bool, own: Callable[[], nn.Module] | None = None
) -> PictureReference:
    """Return a model as timm runs it: ``create_model`` with its own reading of the file, and ``create_transform``.

    Args:
        model: timm's name of network and weights.
        file: the weights, out of a cache.
        labelled: whether logits are answered.
        own: as in :func:`torchvision_reference`.
    """
    data = resolve_data_config(pretrained_cfg=get_pretrained_cfg(model).to_dict(), verbose=False)

    def load() -> nn.Module:
        if own is not None:
            return own()
        if file.suffix != SAFETENSORS:
            read_checkpoint(file, get_pretrained_cfg(model).url)
        network: nn.Module = timm.create_model(
            model, pretrained=True, pretrained_cfg_overlay={"file": str(file), "source": ""}
        )
        return network

    def features(network: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
        below = network.forward_features(pixels)  # type: ignore[operator]  # every network of timm's has it
        return network.forward_head(below, pre_logits=True), network(pixels)  # type: ignore[operator]  # and this

    return PictureReference("timm", file, create_transform(**data), load, features, labelled=labelled)
