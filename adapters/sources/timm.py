"""``timm:`` the pretrained networks that timm lists, from weights already on this machine."""

import functools
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import floor
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import huggingface_hub
import timm
import torch
import torchvision
from timm.data import ImageNetInfo, infer_imagenet_subset, resolve_data_config
from timm.models import get_pretrained_cfg, list_pretrained
from torch import Tensor, nn

from adapters.sources.checkpoints import check_file, read_checkpoint, read_safetensors
from adapters.sources.normalisation import Normalisation
from adapters.sources.own_weights import MisfitError, OwnWeights
from adapters.sources.picture_reference import timm_reference
from adapters.sources.pinned import Pinned, read_pinned
from adapters.sources.reference import Reference
from adapters.sources.source import SourceProvider
from adapters.sources.traced import TracedSource
from registry.errors import SourceUnavailable, UnknownSource
from registry.quoting import quoted, shortened
from registry.recipe import ImageRecipe
from registry.suggestion import suggestion

WEIGHTS = "model.safetensors"

FORM = "timm:MODEL, timm:MODEL.TAG or timm:MODEL@FILE"

_DATA_SET = re.compile(r"in(\d+k)")


@functools.cache
def pinned() -> Mapping[str, Pinned]:
    """Return the pinned cuts of every network that can be cut, by its architecture."""
    return read_pinned("timm_cuts.json")


@dataclass(frozen=True, kw_only=True)
class TimmSource(TracedSource):
    """A timm network with one of its sets of weights, or with those of a file.

    Attributes:
        model: timm's name of network and weights, ``architecture.tag``; beside a file, of the weights whose
            configuration it has.
    """

    model: str

    def weights_at_hand(self) -> bool:
        """Say whether the local file, or one of the two caches, holds the weights."""
        return self._weights_file() is not None

    def drawn(self) -> nn.Module:
        """Return the network, initialised at random."""
        return build(self.model)

    def pretrained(self) -> nn.Module:
        """Return the network with the weights from one of the two caches."""
        return build(self.model, self._weights())

    def reference(self) -> Reference | None:
        """Return the model as timm runs it; None where the weights are not on this machine.

        A file of one's own is read by us, and run by timm.
        """
        file = self._weights_file()
        if file is None:
            return None
        own = None if self.file is None else self.own_network
        return timm_reference(self.model, file, labelled=bool(self.labels), own=own)

    def own(self) -> OwnWeights:
        """Return the network with the weights of ``file``; those under a publisher's names are converted by timm."""
        try:
            return super().own()
        except MisfitError as error:
            # A file of this network that lacks something is not a publisher's.
            if 2 * error.misfit.present > error.misfit.needed or not error.misfit.unexpected:
                raise
            try:
                network = build(self.model, error.tensors)
            except SourceUnavailable:
                raise error from None
            assert self.file is not None, "its misfit was found"
            layer = network.get_submodule(self.head)
            outputs = None if isinstance(layer, nn.Identity) else _config(self.model).num_classes or None
            return OwnWeights(network, outputs, (f"{self.file.name}: names converted by timm",))

    def _weights_file(self) -> Path | None:
        if self.file is not None:
            return self.file if self.file.is_file() else None
        cfg = _config(self.model)
        cached = cfg.hf_hub_id and huggingface_hub.try_to_load_from_cache(cfg.hf_hub_id, WEIGHTS)
        if isinstance(cached, str):
            return Path(cached)
        checkpoint = _checkpoint(cfg)
        return checkpoint if checkpoint is not None and checkpoint.is_file() else None

    def _weights(self) -> dict[str, Tensor]:
        path = self._weights_file()
        cfg = _config(self.model)
        if path is None:
            cache = huggingface_hub.constants.HF_HUB_CACHE
            raise SourceUnavailable(
                f"expected the weights {WEIGHTS} of {cfg.hf_hub_id or self.model} in {cache}, they are not there and "
                f"nothing is downloaded; run 'hf download {cfg.hf_hub_id} {WEIGHTS} config.json' where there is a "
                f"network, copy that folder, or name a file: {self.spec.partition('@')[0]}@/path/to/{WEIGHTS}"
            )
        return read_safetensors(path) if path.suffix == ".safetensors" else read_checkpoint(path, cfg.url)


class TimmProvider(SourceProvider):
    """``timm:MODEL`` with the model's default weights, ``timm:MODEL.TAG`` with others, ``…@FILE`` with yours.

    A file is given the configuration of the default weights, or of those that the tag names.
    """

    scheme = "timm"

    def specs(self) -> list[str]:
        """Return the spec of every set of weights that timm has published for a network that can be cut."""
        return [f"{self.scheme}:{name}" for name in list_pretrained() if _offered(name)]

    def source(self, spec: str) -> TimmSource:
        """Return the source that a spec names; its own spec always says which weights.

        Raises:
            UnknownSource: timm has no such model or weights, it cannot be cut into stages, its
                recipe is none of ours, or the file's suffix is of no format that is read.
        """
        _, _, rest = spec.partition(":")
        name, at, file = rest.partition("@")
        path = check_file(file, FORM) if at else None
        architecture, _, tag = name.partition(".")
        if not timm.is_model(architecture):
            raise UnknownSource(
                f"expected {FORM} with one of timm's models ('cultivar sources --provider timm'), got {quoted(spec)}"
                f"{suggestion(architecture, pinned())}"
            )
        if architecture not in pinned():
            raise UnknownSource(
                f"{architecture} cannot be cut into stages that carry one tensor each; choose another model"
            )
        try:
            cfg = _config(name)
        except RuntimeError as error:
            raise UnknownSource(
                f"{architecture} has no weights {quoted(tag)} in timm {timm.__version__}"
                f"{suggestion(tag, _tags(architecture))}"
            ) from error
        model = f"{architecture}.{cfg.tag}" if cfg.tag else architecture
        data = resolve_data_config(pretrained_cfg=cfg.to_dict(), verbose=False)
        channels, height, width = data["input_size"]
        cuts = pinned()[architecture]
        labels, task = ((), None) if at else _learnt(cfg)
        return TimmSource(
            spec=spec if at else f"{self.scheme}:{model}",
            architecture=f"{self.scheme}/{architecture}",
            task=task,
            labels=labels,
            recipe=_recipe(model, data),
            normalisation=Normalisation.of(data["mean"][:channels], data["std"][:channels]),
            cuts=cuts.cuts,
            dimension=cuts.dimension,
            input_size=(height, width),
            smallest=min(height, width) if cfg.fixed_input_size else min(cuts.smallest, height, width),
            licence=None if at else cfg.license,
            model=model,
            head=cuts.head,
            file=path,
            configuration=model,
        )


def build(model: str, weights: dict[str, Tensor] | None = None) -> nn.Module:
    """Return a timm network, randomly initialised, or with weights as they are published.

    Published weights go through timm's own conversion. Nothing is downloaded.

    Raises:
        SourceUnavailable: the weights are of another network.
    """
    if weights is None:
        return cast(nn.Module, timm.create_model(model, pretrained=False))
    try:
        return cast(
            nn.Module,
            timm.create_model(
                model, pretrained=True, pretrained_cfg_overlay={"state_dict": weights, "source": ""}
            ),
        )
    # What weights of another network raise is up to timm's conversions.
    except Exception as error:
        raise SourceUnavailable(
            f"expected weights of {model}, these are of another network: {shortened(error)}"
        ) from error


def _tags(architecture: str) -> list[str]:
    """List the tags of an architecture's published weights."""
    return [each.partition(".")[2] for each in list_pretrained(f"{architecture}.*")]


def _config(model: str) -> Any:
    return get_pretrained_cfg(model, allow_unregistered=False)


def _checkpoint(cfg: Any) -> Path | None:
    """Say where torch's hub cache would keep weights that are published as a state dictionary."""
    name = Path(urlsplit(cfg.url or "").path).name
    return (
        Path(torch.hub.get_dir()) / "checkpoints" / name
        if name.endswith(".pth") and not cfg.custom_load
        else None
    )


def _offered(model: str) -> bool:
    architecture = model.partition(".")[0]
    return architecture in pinned() and _mapped(resolve_data_config(pretrained_cfg=_config(model).to_dict()))


def _mapped(data: Mapping[str, Any]) -> bool:
    """Say whether timm's evaluation transform is one of our recipes."""
    _, height, width = data["input_size"]
    if data["crop_mode"] == "squash":
        return bool(data["crop_pct"] == 1.0)
    return bool(data["crop_mode"] == "center" and height == width)


def _recipe(model: str, data: Mapping[str, Any]) -> ImageRecipe:
    if not _mapped(data):
        raise UnknownSource(
            f"{model} wants pictures of {data['input_size'][1:]} by crop mode {data['crop_mode']!r} of "
            f"{data['crop_pct']}, which recipes do not support; choose other weights"
        )
    channels, height, width = data["input_size"]
    return ImageRecipe(
        height=height,
        width=width,
        # timm scales the shorter side to this length, then crops.
        resize=None if data["crop_mode"] == "squash" else floor(height / data["crop_pct"]),
        interpolation=data["interpolation"],
        colour="L" if channels == 1 else "RGB",
    )


def _learnt(cfg: Any) -> tuple[tuple[str, ...], str | None]:
    """Return labels and task of a set of weights; neither where timm does not know the classes."""
    sets = _DATA_SET.findall(cfg.tag or "")
    if not sets or not cfg.num_classes:
        return (), None
    if cfg.num_classes == 1000 and sets[-1] == "1k":
        return _thousand(), "imagenet-1k"
    subset = infer_imagenet_subset(cfg.to_dict())
    if subset is None:
        return (), None
    return _labels(subset), f"imagenet-{sets[-1]}"


@functools.cache
def _thousand() -> tuple[str, ...]:
    """Return the labels of imagenet-1k as torchvision has them: one task, one list."""
    return tuple(torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"])


@functools.cache
def _labels(subset: str) -> tuple[str, ...]:
    """Return a subset's descriptions, with the synset where two are alike."""
    info = ImageNetInfo(subset)
    names, synsets = info.label_descriptions(), info.label_names()
    alike = {name for name, times in Counter(names).items() if times > 1}
    return tuple(f"{n} ({s})" if n in alike else n for n, s in zip(names, synsets, strict=True))
