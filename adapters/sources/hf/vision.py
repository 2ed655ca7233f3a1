"""Encoders of pictures: transformers' checkpoints of a few families, cut as their modules are built."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from transformers import AutoModel, AutoModelForImageClassification

from adapters.sources.hf.checkpoint import architecture_of, labels_of, load_checkpoint
from adapters.sources.hf.families import groups
from adapters.sources.hf.folder import ModelFolder
from adapters.sources.hf.picture_reference import ProviderPictureReference
from adapters.sources.hf.preprocessing import preprocessing
from adapters.sources.normalisation import Normalise
from adapters.sources.pooling import FirstPool
from adapters.sources.reference import Reference
from adapters.sources.source import Source
from adapters.sources.stages import Stages
from registry.errors import UnknownSource

CLASSIFIER = "ForImageClassification"
RGB = 3

POOLER = "pooler."

LEAST_SIDE = 32
"""Smallest input worth running through a convolutional network, in pixels."""


@dataclass(frozen=True, slots=True)
class VisionFamily:
    """How the networks of one ``model_type`` are taken apart.

    Attributes:
        cuts: returns the stages' names, from a configuration alone.
        stages: returns the modules behind those names, out of an encoder.
        dimension: returns the length of a feature vector, from a configuration.
        pooling: how a map becomes features.
        shape: names of the configuration's values that say what the network computes, beside the
            shapes of its weights.
        fixed: whether the network takes pictures of one size alone, ``config.image_size``.
    """

    cuts: Callable[[Any], tuple[str, ...]]
    stages: Callable[[Any], list[nn.Module]]
    dimension: Callable[[Any], int]
    pooling: str
    shape: tuple[str, ...]
    fixed: bool


class _Tokens(nn.Module):
    """Layers that take tokens of patches, and the norm that ends them."""

    def __init__(self, layers: Sequence[nn.Module], norm: nn.Module | None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = norm

    def forward(self, h: Tensor) -> Tensor:
        for layer in self.layers:
            h = layer(h, None)
        return h if self.norm is None else self.norm(h)


class _Average(nn.Module):
    """The mean of a map [N, C, H, W], and ConvNeXt's norm of it."""

    def __init__(self, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, h: Tensor) -> Tensor:
        pooled = h.mean((2, 3))
        return pooled if self.norm is None else self.norm(pooled)


def _transformer_cuts(config: Any) -> tuple[str, ...]:
    stops = (stop for _, stop in groups(config.num_hidden_layers))
    return ("embeddings", *(f"layers.{stop - 1}" for stop in stops), "pool-cls")


def _transformer_stages(encoder: Any) -> list[nn.Module]:
    layers = list(encoder.layers)
    divided = groups(len(layers))
    inner = [
        _Tokens(layers[start:stop], encoder.layernorm if stop == len(layers) else None)
        for start, stop in divided
    ]
    return [encoder.embeddings, *inner, FirstPool()]


def _convolution_cuts(config: Any) -> tuple[str, ...]:
    return (*(f"encoder.stages.{number}" for number in range(len(config.depths))), "pool")


def _convolution_stages(encoder: Any) -> list[nn.Module]:
    first, *others = encoder.encoder.stages
    stem = getattr(encoder, "embeddings", None) or encoder.embedder
    return [nn.Sequential(stem, first), *others, _Average(getattr(encoder, "layernorm", None))]


_VIT = VisionFamily(
    cuts=_transformer_cuts,
    stages=_transformer_stages,
    dimension=lambda config: int(config.hidden_size),
    pooling="cls",
    shape=("num_hidden_layers", "num_attention_heads", "hidden_act", "layer_norm_eps", "patch_size"),
    fixed=True,
)

PICTURES: Mapping[str, VisionFamily] = {
    "convnext": VisionFamily(
        cuts=_convolution_cuts,
        stages=_convolution_stages,
        dimension=lambda config: int(config.hidden_sizes[-1]),
        pooling="avg",
        shape=("depths", "hidden_act", "layer_norm_eps", "patch_size"),
        fixed=False,
    ),
    "resnet": VisionFamily(
        cuts=_convolution_cuts,
        stages=_convolution_stages,
        dimension=lambda config: int(config.hidden_sizes[-1]),
        pooling="avg",
        shape=("depths", "hidden_act", "layer_type", "downsample_in_first_stage", "downsample_in_bottleneck"),
        fixed=False,
    ),
    "deit": _VIT,
    "vit": _VIT,
}


@dataclass(frozen=True, kw_only=True)
class PictureSource(Source):
    """An encoder of pictures.

    Attributes:
        folder: where its files lie.
        config: transformers' configuration of it.
    """

    folder: ModelFolder
    config: Any = field(repr=False)

    def weights_at_hand(self) -> bool:
        """Say whether the folder holds weights in the safetensors format."""
        return self.folder.has_weights()

    def reference(self) -> Reference:
        """Return the checkpoint as transformers runs it."""
        return ProviderPictureReference(self.folder.path, classifies=bool(self.labels))

    def load(self, seed: int | None = None) -> Stages:
        """Return the network in stages; see :meth:`Source.load`."""
        assert self.normalisation is not None, "a picture's source has one"
        auto = AutoModelForImageClassification if self.labels else AutoModel
        model: Any = load_checkpoint(auto, self.folder, self.config, seed, spare=(POOLER,))
        first, *others = PICTURES[self.config.model_type].stages(model.base_model)
        stages = [nn.Sequential(Normalise(self.normalisation), first), *others]
        head = None
        if self.labels:
            head = next(module for module in model.classifier.modules() if isinstance(module, nn.Linear))
        return Stages(
            self.architecture,
            OrderedDict(zip(self.cuts, stages, strict=True)),
            features_dim=self.dimension,
            input_size=self.input_size,
            normalisation=self.normalisation,
            head=head,
        ).eval()


def picture_source(folder: ModelFolder, config: Any, spec: str) -> PictureSource:
    """Return the source in a folder.

    Args:
        folder: the checkpoint.
        config: its configuration, of a known ``model_type``.
        spec: the source's spec.

    Raises:
        UnknownSource: its pictures are prepared in a way that no recipe does, or of another size
            than the network takes.
    """
    family = PICTURES[config.model_type]
    if config.num_channels != RGB:
        raise UnknownSource(
            f"{folder.name} takes pictures of {config.num_channels} channels (num_channels), recipes of "
            f"transformers' pictures have {RGB}; choose another model"
        )
    recipe, normalisation = preprocessing(folder)
    size = (recipe.height, recipe.width)
    if family.fixed and size != (config.image_size, config.image_size):
        raise UnknownSource(
            f"{folder.name} takes pictures of {config.image_size} pixels, its recipe gives {size}"
        )
    classifier = (config.architectures or [""])[0].endswith(CLASSIFIER)
    return PictureSource(
        spec=spec,
        architecture=architecture_of(config, family.shape),
        task=None,
        labels=labels_of(config) if classifier else (),
        recipe=recipe,
        normalisation=normalisation,
        cuts=family.cuts(config),
        dimension=family.dimension(config),
        input_size=size,
        smallest=min(size) if family.fixed else min(LEAST_SIDE, *size),
        licence=folder.licence,
        pooling=family.pooling,
        folder=folder,
        config=config,
    )
