"""A small source of every family, with random weights saved as the family saves its own, and data for each."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from adapters.sources.providers import find
from adapters.sources.source import Source
from adapters.sources.timm import build as build_timm
from adapters.sources.torchvision import TorchvisionSource
from adapters.sources.torchvision import build as build_torchvision
from registry.recipe import ImageRecipe
from tests.adapters.test_hf import PICTURE_CONFIGURATIONS, WORDS, checkpoint, config_of, prepared
from tests.adapters.tiny import SHAPES, shape, write_shapes

MOODS = ("dull", "fair", "glad")
SQUEEZENET = "torchvision:squeezenet1_1"
RESNET = "test_resnet"
SIDE = 64
"""Side of the pictures that a network is given where its own 224 pixels would cost minutes."""


def settled(network: nn.Module) -> dict[str, Tensor]:
    """Return a network's state with batch statistics of pictures.

    Those that it begins with let random weights lose a picture's differences from layer to layer.
    """
    draw = torch.Generator().manual_seed(5)
    network.train()
    with torch.no_grad():
        for _ in range(20):
            network(
                nn.functional.interpolate(torch.rand(8, 3, 8, 8, generator=draw) * 4 - 2, size=(SIDE, SIDE))
            )
    return network.state_dict()


def torchvision_source(folder: Path, patch: pytest.MonkeyPatch) -> Source:
    """Write SqueezeNet's weights into a cache of torch's hub, under the name that their hash gives them."""
    checkpoints = folder / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    patch.setenv("TORCH_HOME", str(folder))
    source = find(SQUEEZENET)
    assert isinstance(source, TorchvisionSource)
    torch.manual_seed(0)
    written = checkpoints / "weights"
    torch.save(build_torchvision(source.model, source.weights).state_dict(), written)
    digest = hashlib.sha256(written.read_bytes()).hexdigest()[:8]
    name = f"squeezenet1_1-{digest}.pth"
    written.rename(checkpoints / name)
    # Published hashes are those of weights that are not here.
    patch.setattr(source.weights.value, "url", f"https://download.pytorch.org/models/{name}")
    return source


def smaller(source: Source) -> Source:
    """Return a source of pictures that is given fewer pixels, so that no provider's code prepares them alike."""
    kind = type(f"Smaller{type(source).__name__}", (type(source),), {"reference": lambda _: None})
    values = {each.name: getattr(source, each.name) for each in fields(source)}
    made: Source = kind(**values | {"recipe": ImageRecipe(SIDE, SIDE), "input_size": (SIDE, SIDE)})
    return made


def timm_source(folder: Path, model: str) -> Source:
    """Save a timm network's weights as timm publishes them."""
    torch.manual_seed(0)
    file = folder / f"{model}.safetensors"
    network = build_timm(model)
    save_file(settled(network) if model == RESNET else network.state_dict(), file)
    return find(f"timm:{model}@{file}")


def text_source(folder: Path, **values: Any) -> Source:
    """Save a tiny BERT, a classifier where labels are given."""
    auto = transformers.AutoModelForSequenceClassification if values else transformers.AutoModel
    checkpoint(folder, config_of("bert", num_hidden_layers=2, **values), auto)
    return find(f"hf:{folder}")


def picture_source(folder: Path) -> Source:
    """Save a tiny vision transformer that takes 32 pixels."""
    config = transformers.AutoConfig.for_model(
        "vit", **PICTURE_CONFIGURATIONS["vit"] | {"num_hidden_layers": 2}
    )
    checkpoint(folder, config)
    return prepared(folder)


def vectors_source(folder: Path) -> Source:
    """Write a file of word vectors."""
    values = np.random.default_rng(0).normal(size=(len(WORDS), 12))
    lines = [
        f"{len(WORDS)} 12",
        *(f"{word} {' '.join(f'{x:.6f}' for x in row)}" for word, row in zip(WORDS, values, strict=True)),
    ]
    file = folder / "words.vec"
    file.write_text("\n".join(lines) + "\n")
    return find(f"vectors:{file}")


def sentence(words: Sequence[str], draw: np.random.Generator) -> str:
    """Return a few words in any order, and one that says nothing."""
    return " ".join([*draw.choice(words, size=draw.integers(3, 9)), str(draw.choice(WORDS))])


def write_texts(file: Path, per_class: int) -> Path:
    """Write texts of three moods, each of words of its own for the most part."""
    draw = np.random.default_rng(1)
    rows = [
        {"text": sentence(WORDS[13 * number : 13 * (number + 1)], draw), "label": mood}
        for number, mood in enumerate(MOODS)
        for _ in range(per_class)
    ]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


def write_texts_of_several(file: Path, count: int) -> Path:
    """Write texts of up to two moods."""
    draw = np.random.default_rng(2)
    rows = []
    for number in range(count):
        moods = draw.choice(3, size=number % 3, replace=False)
        words = [sentence(WORDS[13 * mood : 13 * (mood + 1)], draw) for mood in moods]
        words = words or [sentence(WORDS[39:], draw) + f" w{number}"]
        rows.append({"text": " ".join(words), "labels": [MOODS[mood] for mood in moods]})
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


def write_shapes_of_several(folder: Path, count: int) -> Path:
    """Write pictures of up to two shapes, drawn over each other, and the table that names them."""
    lines = ["image,labels"]
    for number in range(count):
        names = [SHAPES[(number + step) % 3] for step in range(number % 3)]
        values = [np.asarray(shape(name, number)) for name in names]
        picture = np.max(values, axis=0) if values else np.full((12, 12), number, np.uint8)
        Image.fromarray(picture).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{'|'.join(names)}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder / "table.csv"


class Families:
    """Sources and data by family, each made when it is first asked for.

    Args:
        home: where files are written.
        patch: undone when they are no longer needed.
    """

    TEXTS = ("hf, texts", "hf, labelled", "vectors")

    def __init__(self, home: Path, patch: pytest.MonkeyPatch) -> None:
        self._home = home
        self._made: dict[str, Source] = {}
        self._makers: Mapping[str, Callable[[], Source]] = {
            "glyphs": lambda: find("bundled:glyphs"),
            "torchvision": lambda: torchvision_source(self._folder("torch"), patch),
            "torchvision, smaller": lambda: smaller(self.source("torchvision")),
            "timm, convolutions": lambda: timm_source(self._folder("convolutions"), RESNET),
            "timm, smaller": lambda: smaller(self.source("timm, convolutions")),
            "timm, transformer": lambda: timm_source(self._folder("transformer"), "test_vit3"),
            "hf, texts": lambda: text_source(self._folder("encoder")),
            "hf, labelled": lambda: text_source(self._folder("classifier"), id2label=dict(enumerate(MOODS))),
            "hf, pictures": lambda: picture_source(self._folder("pictures")),
            "vectors": lambda: vectors_source(self._folder("vectors")),
        }
        self._data = {
            ("pictures", False): write_shapes(self._folder("shapes"), per_class=10),
            ("pictures", True): write_shapes_of_several(self._folder("several"), 40),
            ("texts", False): write_texts(home / "texts.jsonl", per_class=12),
            ("texts", True): write_texts_of_several(home / "several.jsonl", 45),
        }

    def source(self, family: str) -> Source:
        """Return the source of a family."""
        if family not in self._made:
            self._made[family] = self._makers[family]()
        return self._made[family]

    def data(self, family: str, several: bool = False) -> str:
        """Return where the data of a family lie: of one label each, or of several."""
        return str(self._data["texts" if family in self.TEXTS else "pictures", several])

    def _folder(self, name: str) -> Path:
        path = self._home / name
        path.mkdir()
        return path
