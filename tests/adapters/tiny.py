"""A source small enough to train in a blink: two stages of convolution and batch norm, then a pool."""

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from adapters.datasets import Dataset, load
from adapters.sources.normalisation import Normalisation, Normalise
from adapters.sources.source import Source
from adapters.sources.stages import Stages
from registry.recipe import ImageRecipe, Recipe

SIDE = 12
DIMENSION = 8
SHAPES = ("bars", "checks", "disc")


class Pool(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean(dim=(2, 3))


@dataclass(frozen=True, kw_only=True)
class TinySource(Source):
    spec: str = "tiny:shapes"
    architecture: str = "tiny"
    task: str = "shapes"
    labels: tuple[str, ...] = ("bars", "checks", "disc", "ring")
    recipe: Recipe = field(default_factory=lambda: ImageRecipe(SIDE, SIDE, colour="L"))
    normalisation: Normalisation = field(default_factory=lambda: Normalisation.of([0.5], [0.5]))
    cuts: tuple[str, ...] = ("low", "high", "pool")
    dimension: int = DIMENSION
    input_size: tuple[int, int] = (SIDE, SIDE)
    smallest: int = SIDE

    def weights_at_hand(self) -> bool:
        return True

    def load(self, seed: int | None = None) -> Stages:
        with torch.random.fork_rng():
            torch.manual_seed(7 if seed is None else 1000 + seed)
            stages = OrderedDict(
                low=nn.Sequential(Normalise(self.normalisation), _block(1, 6)),
                high=nn.Sequential(_block(6, DIMENSION), nn.Dropout(0.1)),
                pool=Pool(),
            )
            head = nn.Linear(DIMENSION, len(self.labels))
        return Stages(
            self.architecture,
            OrderedDict[str, nn.Module](stages),
            features_dim=DIMENSION,
            input_size=self.input_size,
            normalisation=self.normalisation,
            head=head,
        ).eval()


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride=2), nn.BatchNorm2d(outputs), nn.ReLU())


def shape(name: str, seed: int) -> Image.Image:
    """Draw one of the shapes, noisy, grey, 12 x 12."""
    random = np.random.default_rng([SHAPES.index(name), seed])
    across, down = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    offset = random.integers(0, 4)
    drawn = {
        "bars": (across + offset) % 4 < 2,
        "checks": ((across + offset) // 2 + down // 2) % 2 == 0,
        "disc": (across - 5.5) ** 2 + (down - 5.5) ** 2 < 9 + 4 * offset,
    }[name]
    return Image.fromarray(
        np.clip(np.where(drawn, 220, 40) + random.normal(0, 12, (SIDE, SIDE)), 0, 255).astype(np.uint8)
    )


def write_shapes(folder: Path, per_class: int, start: int = 0) -> Path:
    """Write a folder of class folders."""
    for name in SHAPES:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for seed in range(start, start + per_class):
            shape(name, seed).save(folder / name / f"{seed}.png")
    return folder


def shapes(folder: Path, per_class: int = 30) -> Dataset:
    """Return a dataset of three shapes."""
    return load(write_shapes(folder, per_class), TinySource().recipe)
