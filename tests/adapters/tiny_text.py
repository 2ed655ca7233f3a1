"""A source of texts small enough to train in a blink: words, a layer, attention, and a mean."""

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from adapters.sources.source import Source
from adapters.sources.stages import Stages
from registry.recipe import Recipe
from tests.builders import WORDS, text_recipe

DIMENSION = 8
MOODS = {"glad": ("good", "bright"), "sad": ("bad", "dark")}
NEUTRAL = ("a", "the", "day", "night", "is", "was", ".", ",", "!")
MOST_WORDS = 28
MASK = ("attention_mask",)


class Low(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(DIMENSION), nn.Linear(DIMENSION, 12), nn.GELU(), nn.Dropout(0.1),
            nn.Linear(12, DIMENSION),
        )  # fmt: skip

    def forward(self, words: Tensor) -> Tensor:
        grown: Tensor = words + self.layers(words)
        return grown


class High(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(DIMENSION, DIMENSION, bias=False)
        self.key = nn.Linear(DIMENSION, DIMENSION, bias=False)
        self.value = nn.Linear(DIMENSION, DIMENSION)

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        scores = self.query(words) @ self.key(words).transpose(1, 2) / DIMENSION**0.5
        scores = scores.masked_fill(mask.unsqueeze(1) == 0, -1e9)
        mixed: Tensor = words + scores.softmax(dim=-1) @ self.value(words)
        return mixed


class Mean(nn.Module):
    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        counted = mask.unsqueeze(-1).to(words.dtype)
        return (words * counted).sum(1) / counted.sum(1).clamp(min=1.0)


@dataclass(frozen=True, kw_only=True)
class TinyTextSource(Source):
    spec: str = "tiny:moods"
    architecture: str = "tiny-text"
    task: str = "words"
    labels: tuple[str, ...] = ()
    recipe: Recipe = field(default_factory=text_recipe)
    cuts: tuple[str, ...] = ("embeddings", "low", "high", "pool")
    dimension: int = DIMENSION
    pooling: str = "mean"

    def weights_at_hand(self) -> bool:
        return True

    def load(self, seed: int | None = None) -> Stages:
        with torch.random.fork_rng():
            torch.manual_seed(7 if seed is None else 1000 + seed)
            stages = OrderedDict[str, nn.Module](
                embeddings=nn.Embedding(len(WORDS), DIMENSION), low=Low(), high=High(), pool=Mean()
            )
        return Stages(
            self.architecture,
            stages,
            features_dim=DIMENSION,
            inputs=self.recipe.fields,
            sides=[(), (), MASK, MASK],
        ).eval()


def text(mood: str, seed: int) -> str:
    """Write one to some thirty words, a third of which, or more, tell the mood."""
    random = np.random.default_rng([sorted(MOODS).index(mood), seed])
    count = int(random.integers(1, MOST_WORDS + 1))
    telling = max(1, round(count / 3))
    words = [*random.choice(MOODS[mood], telling), *random.choice(NEUTRAL, count - telling)]
    return " ".join(random.permutation(words))


def write_texts(path: Path, per_class: int, start: int = 0) -> Path:
    """Write a csv file of different texts, a column ``text`` and a column ``label``."""
    lines = {text(mood, seed): mood for mood in sorted(MOODS) for seed in range(start, start + 2 * per_class)}
    chosen = [
        each for mood in sorted(MOODS) for each in [t for t, m in lines.items() if m == mood][:per_class]
    ]
    path.write_text("text,label\n" + "".join(f'"{each}",{lines[each]}\n' for each in chosen))
    return path


def write_words(path: Path, count: int) -> Path:
    """Write a csv file of texts with a column ``labels``: which of three words are in them."""
    random = np.random.default_rng(5)
    told = ("good", "bad", "bright")
    seen: dict[str, str] = {}
    while len(seen) < count:
        there = [word for word in told if random.random() < 0.5]
        more = random.choice(NEUTRAL, int(random.integers(1, 8)))
        seen[" ".join(random.permutation([*there * 2, *more]))] = "|".join(there)
    path.write_text("text,labels\n" + "".join(f'"{each}",{labels}\n' for each, labels in seen.items()))
    return path
