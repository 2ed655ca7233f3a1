"""Trains the bundled source: ``python -m adapters.sources.glyphs.train``, or ``make glyphs``.

Renders the pinned fonts' letters, learns to read them from ever new pictures, measures on families of fonts
that were never trained on, and replaces weights and card, each in one step, at the end: an interrupted run
keeps the old ones.
"""

import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from safetensors.torch import save
from torch import nn

from adapters.sources.glyphs.card import CARD, SKETCH, WEIGHTS, Card
from adapters.sources.glyphs.fonts import FOLDER, FontFamily, Package, families, pinned
from adapters.sources.glyphs.handwriting import write
from adapters.sources.glyphs.letters import LABELS
from adapters.sources.glyphs.network import GlyphNet
from adapters.sources.glyphs.render import Renders, render
from adapters.sources.normalisation import Normalisation, Normalise
from adapters.sources.sketch import FeatureSketch
from registry.digests import Digest
from registry.errors import CultivarError
from registry.manifest import Json
from registry.progress import Bars, Progress

TASK = "letters"
LICENCE = "Apache-2.0"
MEAN, STD = 0.75, 0.3
"""Of the training pictures, rounded."""

_SKETCHED = 2000
"""Letters that the sketch is taken over."""

_VIEWS = 4
"""How often each held-out render is written by hand to measure accuracy."""

_INTERRUPTED = 130
_LIBRARIES = ("numpy", "pillow", "safetensors", "torch")


@dataclass(frozen=True, slots=True)
class Lessons:
    """How to train.

    Attributes:
        steps: batches to learn from.
        batch_size: pictures a batch.
        learning_rate: peak of a one-cycle schedule (Smith and Topin, "Super-Convergence", 2018), with AdamW.
        weight_decay: of convolutions and the head's weights.
        seed: of initial weights, order and handwriting.
        threads: of torch: another number rounds differently, and so ends in other weights.
    """

    steps: int = 1200
    batch_size: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    seed: int = 0
    threads: int = 2


def normalise() -> Normalise:
    """Return the network's normalisation."""
    return Normalise(Normalisation.of([MEAN], [STD]))


def train(renders: Renders, lessons: Lessons, progress: Progress) -> GlyphNet:
    """Train a network; it is left in eval mode. Torch's global generator ends as it began."""
    generator = torch.Generator().manual_seed(lessons.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(lessons.seed)
        network = GlyphNet(len(LABELS))
    reader = nn.Sequential(normalise(), network).train()
    groups: list[dict[str, Any]] = [
        {"params": [each for each in network.parameters() if each.ndim > 1]},
        {"params": [each for each in network.parameters() if each.ndim == 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lessons.learning_rate, weight_decay=lessons.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, lessons.learning_rate, lessons.steps, pct_start=0.15
    )
    pictures, labels = torch.from_numpy(renders.pictures), torch.from_numpy(renders.labels)
    weights = torch.from_numpy(_weights(renders))
    smoothed = 0.0
    with progress.step("training", lessons.steps) as step:
        for number in range(lessons.steps):
            chosen = torch.multinomial(weights, lessons.batch_size, replacement=True, generator=generator)
            logits = reader(write(pictures[chosen], generator))
            loss = F.cross_entropy(logits, labels[chosen])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch's has no types
            optimiser.step()
            schedule.step()
            smoothed = loss.item() if number == 0 else 0.98 * smoothed + 0.02 * loss.item()
            step.advance(1, f"loss {smoothed:.3f}")
    reader.train(False)
    return network


def _weights(renders: Renders) -> np.ndarray:
    """Return how often each render is drawn, float64 [N]: every label equally often.

    Within a label a family counts by the square root of its faces: they are alike, but not the same.
    """
    shares = 1 / np.sqrt(np.bincount(renders.families)[renders.families])
    totals = np.bincount(renders.labels, shares)
    return np.asarray(shares / totals[renders.labels])


@torch.no_grad()
def accuracy(
    network: GlyphNet, renders: Renders, families: Sequence[FontFamily], seed: int
) -> dict[str, float]:
    """Return the share of right answers on renders written by hand, by family, rounded to 4 digits."""
    generator = torch.Generator().manual_seed(seed)
    reader = nn.Sequential(normalise(), network)
    right = np.zeros(len(renders), np.float64)
    for _ in range(_VIEWS):
        for rows in np.array_split(np.arange(len(renders)), max(1, len(renders) // 256)):
            pixels = write(torch.from_numpy(renders.pictures[rows]), generator)
            right[rows] += (reader(pixels).argmax(1).numpy() == renders.labels[rows]) / _VIEWS
    found = {families[number].name: right[renders.families == number] for number in set(renders.families)}
    return {"all": round(float(right.mean()), 4)} | {
        name: round(float(rows.mean()), 4) for name, rows in sorted(found.items())
    }


@torch.no_grad()
def sketch(network: GlyphNet, renders: Renders, seed: int) -> FeatureSketch:
    """Return mean and covariance of features of renders written by hand, drawn as in training."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.from_numpy(_weights(renders))
    chosen = torch.multinomial(weights, _SKETCHED, replacement=True, generator=generator)
    pixels = write(torch.from_numpy(renders.pictures)[chosen], generator)
    taken: list[torch.Tensor] = []
    hook = network.head.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0]))
    try:
        network(normalise()(pixels))
    finally:
        hook.remove()
    return FeatureSketch.of(taken[0].numpy())


def make(
    packages: Sequence[Package], lessons: Lessons, fonts: Path, output: Path, progress: Progress
) -> Card:
    """Render, train, measure, and put weights and card into a folder.

    Raises:
        SourceUnavailable: a font is not on this machine.
    """
    torch.set_num_threads(lessons.threads)
    found = families(packages, fonts)
    renders = render(found, fonts)
    held_out = [number for number, family in enumerate(found) if family.held_out]
    trained_on = [number for number in range(len(found)) if number not in held_out]
    start = time.perf_counter()
    network = train(renders.of(trained_on), lessons, progress)
    seconds = time.perf_counter() - start
    measured = accuracy(network, renders.of(held_out or trained_on), found, lessons.seed + 1)
    weights = save(network.state_dict())
    card = Card(
        task=TASK,
        licence=LICENCE,
        labels=LABELS,
        mean=MEAN,
        std=STD,
        weights=Digest.of(weights),
        training={
            **asdict(lessons),
            "seconds": round(seconds),
            "families": len(trained_on),
            "faces": sum(len(found[number].faces) for number in trained_on),
            "renders": len(renders.of(trained_on)),
        },
        accuracy={"all": measured.pop("all"), "families": dict(measured)},
        libraries={"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
        fonts=tuple(_facts(package) for package in packages),
    )
    output.mkdir(parents=True, exist_ok=True)
    _replace(output / SKETCH, sketch(network, renders.of(trained_on), lessons.seed + 2).to_bytes())
    _replace(output / WEIGHTS, weights)
    _replace(output / CARD, card.to_bytes())
    return card


def _facts(package: Package) -> Json:
    families: list[Json] = [
        {"name": each.name, "faces": len(each.faces), "held_out": each.held_out} for each in package.families
    ]
    return {
        "package": package.name,
        "version": package.version,
        "licence": package.licence,
        "families": families,
    }


def _replace(path: Path, data: bytes) -> None:
    """Put a whole file in place of another, or leave that one as it is."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@click.command("glyphs")
@click.option("--steps", type=click.IntRange(2), default=Lessons().steps, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=Lessons().seed, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=Lessons().threads, show_default=True)
@click.option(
    "--fonts",
    type=click.Path(path_type=Path),
    default=FOLDER,
    show_default=True,
    help="Where Debian's fonts are.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path(__file__).parent,
    help="Folder to put weights and card in; by default that of the bundled ones.",
)
def main(steps: int, seed: int, threads: int, fonts: Path, output: Path) -> None:
    """Train the bundled source on printed letters, and replace its weights and card."""
    lessons = Lessons(steps=steps, seed=seed, threads=threads)
    try:
        card = make(pinned(), lessons, fonts, output, Bars(Console(stderr=True)))
    except CultivarError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("interrupted; weights and card are as they were", err=True)
        sys.exit(_INTERRUPTED)
    click.echo(
        f"{output / WEIGHTS}: {len(card.labels)} letters, {card.accuracy['all']:.1%} right in fonts never seen, "
        f"{card.training['seconds']} s; {card.weights}"
    )


if __name__ == "__main__":
    main()
