"""``torchvision:`` every classification model that torchvision lists, from weights already on this machine."""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import WeightsEnum
from torchvision.transforms._presets import ImageClassification

from adapters.sources.checkpoints import check_file, names_file, read_checkpoint
from adapters.sources.normalisation import Normalisation
from adapters.sources.picture_reference import torchvision_reference
from adapters.sources.pinned import Pinned, read_pinned
from adapters.sources.reference import Reference
from adapters.sources.source import SourceProvider
from adapters.sources.traced import TracedSource
from registry.errors import UnknownSource
from registry.quoting import quoted
from registry.recipe import ImageRecipe
from registry.suggestion import suggestion

_AUXILIARY = re.compile(r"(aux1|aux2|AuxLogits)\.")
_OLD_DENSE_LAYER = re.compile(r"(.*denselayer\d+\.(?:norm|conv))\.([12]\..*)")
_OLD_PERCEPTRON = re.compile(r"(.*\.mlp)\.linear_([12])\.(weight|bias)")

FORM = "torchvision:MODEL, torchvision:MODEL@WEIGHTS or torchvision:MODEL@FILE"


@functools.cache
def pinned() -> Mapping[str, Pinned]:
    """Return the pinned cuts of every model, by its name."""
    return read_pinned("torchvision_cuts.json")


def build(name: str, weights: WeightsEnum, **options: Any) -> nn.Module:
    """Return the network that some weights fit, randomly initialised.

    Auxiliary heads, which only ever run in training, are left out.
    """
    options = {"num_classes": len(weights.meta["categories"]), **options}
    side = weights.meta["min_size"][0]
    if name.startswith("vit_"):
        options["image_size"] = side
    elif name.startswith("maxvit_"):
        options["input_size"] = (side, side)
    elif name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "transform_input": True, "init_weights": True}
    return cast(nn.Module, torchvision.models.get_model(name, weights=None, **options))


@dataclass(frozen=True, kw_only=True)
class TorchvisionSource(TracedSource):
    """A torchvision model with one of its sets of weights, or with those of a file.

    Attributes:
        model: torchvision's name of the model.
        weights: torchvision's description of the weights; beside a file, of those whose design and transforms it has.
    """

    model: str
    weights: WeightsEnum = field(repr=False)

    @property
    def weights_file(self) -> Path:
        """Path of these weights in torch's hub cache."""
        return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(self.weights.url).path).name

    def weights_at_hand(self) -> bool:
        """Say whether the file is there, or the weights lie in torch's hub cache."""
        return (self.file or self.weights_file).is_file()

    def drawn(self) -> nn.Module:
        """Return the network, initialised at random."""
        return build(self.model, self.weights)

    def pretrained(self) -> nn.Module:
        """Return the network with the weights from torch's hub cache."""
        state = read_checkpoint(self.weights_file, self.weights.url)
        network = build(self.model, self.weights)
        fill(network, state)
        return network

    def reference(self) -> Reference | None:
        """Return the model as torchvision runs it; a file of one's own is read by us, and run by torchvision."""
        file, own = (self.weights_file, None) if self.file is None else (self.file, self.own_network)
        return torchvision_reference(
            self.model, self.weights, file, self.head, labelled=bool(self.labels), own=own
        )

    def renamed(self, name: str) -> str | None:
        """Return the name that torchvision uses today; None for heads that only ever run in training."""
        return today(name)


class TorchvisionProvider(SourceProvider):
    """``torchvision:MODEL`` with the model's default weights, ``…@WEIGHTS`` with others, ``…@FILE`` with yours.

    What stands behind ``@`` is a file where it has a slash or a suffix. It is given design and transforms of
    the model's default weights, or of those named before it: ``torchvision:MODEL@WEIGHTS@FILE``.
    """

    scheme = "torchvision"

    def specs(self) -> list[str]:
        """Return the spec of every model that torchvision lists, in alphabetical order."""
        return [f"{self.scheme}:{name}" for name in torchvision.models.list_models(module=torchvision.models)]

    def source(self, spec: str) -> TorchvisionSource:
        """Return the source that a spec names; its own spec always says which weights.

        Raises:
            UnknownSource: torchvision has no such model, or no such weights for it.
        """
        _, _, rest = spec.partition(":")
        name, _, behind = rest.partition("@")
        if name not in pinned():
            raise UnknownSource(
                f"expected {FORM} with one of torchvision's {len(pinned())} classification models "
                f"(see 'cultivar sources'), got {quoted(spec)}{suggestion(name, pinned())}"
            )
        member, file = ("", behind) if names_file(behind.partition("@")[0]) else behind.partition("@")[::2]
        choices = whole_weights(name)
        if member and member not in choices:
            raise UnknownSource(
                f"{name} has the weights {', '.join(choices)}, got {quoted(member)}{suggestion(member, choices)}; "
                "a file has a suffix, or a slash before its name"
            )
        path = check_file(file, FORM) if file else None
        weights = choices[member] if member else torchvision.models.get_model_weights(name).DEFAULT
        transforms = cast(ImageClassification, weights.transforms())
        cuts = pinned()[name]
        (side,) = transforms.crop_size
        return TorchvisionSource(
            spec=spec if file else f"{self.scheme}:{name}@{weights.name}",
            architecture=f"{self.scheme}/{name}",
            task=None if file else "imagenet-1k",
            labels=() if file else tuple(weights.meta["categories"]),
            recipe=ImageRecipe(
                height=side,
                width=side,
                resize=transforms.resize_size[0],
                interpolation=transforms.interpolation.value,
            ),
            normalisation=Normalisation.of(transforms.mean, transforms.std),
            cuts=cuts.cuts,
            dimension=cuts.dimension,
            input_size=(side, side),
            smallest=max(cuts.smallest, weights.meta["min_size"][0]),
            licence=None if file else weights.meta.get("license"),
            # SqueezeNet classifies by convolution: its vector is a pool that staging adds.
            pooling="avg" if name.startswith("squeezenet") else "penultimate",
            model=name,
            weights=weights,
            head=cuts.head,
            file=path,
            configuration=f"{name}@{weights.name}",
        )


def whole_weights(model: str) -> Mapping[str, WeightsEnum]:
    """Return the weights of a model by name, without those that come without the upper layers.

    VGG-16's ``IMAGENET1K_FEATURES`` are such: what stands in place of its classifier are not numbers.
    """
    choices = torchvision.models.get_model_weights(model)
    return {weights.name: weights for weights in choices if weights.meta["categories"] is not None}


def fill(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Load a state dictionary, as published, into a network of :func:`build`; the dictionary is used up.

    Its names are brought up to date, in place: a state dictionary carries its versions beside its items.
    """
    for name in list(state):
        ours = today(name)
        if ours is None:
            del state[name]
        elif ours != name:
            state[ours] = state.pop(name)
    network.load_state_dict(state)


def today(name: str) -> str | None:
    """Return the name of a tensor that was published under an older one; None for heads that only training uses."""
    if _AUXILIARY.match(name):
        return None
    if old := _OLD_DENSE_LAYER.fullmatch(name):
        return old[1] + old[2]
    if old := _OLD_PERCEPTRON.fullmatch(name):
        # torchvision numbers them among activation and dropout.
        return f"{old[1]}.{3 * (int(old[2]) - 1)}.{old[3]}"
    return name
