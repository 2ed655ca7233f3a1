"""``bundled:`` networks that this project trained itself and that come along with it."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from adapters.sources.glyphs import network as glyphs
from adapters.sources.glyphs.card import WEIGHTS, Card
from adapters.sources.normalisation import Normalisation
from adapters.sources.source import Provider, Source
from adapters.sources.stages import Stages
from adapters.sources.staging import stage
from registry.digests import Digest
from registry.errors import SourceUnavailable, UnknownSource
from registry.recipe import ImageRecipe

GLYPHS = Path(glyphs.__file__).parent
"""The folder that holds the weights of ``bundled:glyphs`` and their card."""


@dataclass(frozen=True, kw_only=True)
class GlyphSource(Source):
    """Letters, learnt from Debian's fonts.

    Attributes:
        folder: where weights and card are.
        digest: what the card says of the weights.
    """

    folder: Path
    digest: Digest

    def weights_at_hand(self) -> bool:
        """Say whether the file of weights is there."""
        return (self.folder / WEIGHTS).is_file()

    def load(self, seed: int | None = None) -> Stages:
        """Return the network in stages; see :meth:`Source.load`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed or 0)
            network = glyphs.GlyphNet(len(self.labels))
        if seed is None:
            network.load_state_dict(self._weights())
        return stage(
            network,
            self.cuts,
            "head",
            architecture=self.architecture,
            features_dim=self.dimension,
            input_size=self.input_size,
            normalisation=self.normalisation,
        )

    def _weights(self) -> dict[str, Tensor]:
        path = self.folder / WEIGHTS
        try:
            data = path.read_bytes()
            if Digest.of(data) != self.digest:
                raise SourceUnavailable(
                    f"expected the weights that the card beside {path} names, {self.digest}, found {Digest.of(data)}; "
                    "install Cultivar again, or run 'make glyphs'"
                )
            return load(data)
        except (OSError, SafetensorError) as error:
            raise SourceUnavailable(
                f"expected the weights of {self.spec} in {path}: {error}; install Cultivar again"
            ) from error


def glyph_source(folder: Path = GLYPHS) -> GlyphSource:
    """Return the source whose weights and card are in a folder.

    Raises:
        SourceUnavailable: there is no card.
    """
    card = Card.read(folder)
    return GlyphSource(
        spec="bundled:glyphs",
        architecture="glyphnet",
        task=card.task,
        labels=card.labels,
        recipe=ImageRecipe(glyphs.SIDE, glyphs.SIDE, interpolation="bilinear", colour="L"),
        normalisation=Normalisation.of([card.mean], [card.std]),
        cuts=glyphs.CUTS,
        dimension=glyphs.DIMENSION,
        input_size=(glyphs.SIDE, glyphs.SIDE),
        smallest=glyphs.SIDE,
        licence=card.licence,
        folder=folder,
        digest=card.weights,
    )


class BundledProvider(Provider):
    """``bundled:glyphs``."""

    scheme = "bundled"

    def specs(self) -> list[str]:
        """Return the spec of every bundled source."""
        return ["bundled:glyphs"]

    def source(self, spec: str) -> GlyphSource:
        """Return the source that a spec names.

        Raises:
            UnknownSource: nothing of that name comes along.
            SourceUnavailable: its card is missing.
        """
        if spec not in self.specs():
            raise UnknownSource(f"expected one of {', '.join(self.specs())}, got {spec!r:.100}")
        return glyph_source()
