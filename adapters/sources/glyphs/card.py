"""The card that lies beside the weights: what they are, and how they came to be."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from registry.digests import Digest
from registry.errors import SourceUnavailable
from registry.manifest import Json

CARD = "card.json"
SKETCH = "sketch.safetensors"
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True, slots=True)
class Card:
    """Facts about one file of weights; no dates, so that equal weights have equal cards.

    Attributes:
        task: what was learnt.
        licence: of the weights.
        labels: in the order of the logits.
        mean: of the training pictures, 0 to 1.
        std: of the training pictures, above 0.
        weights: digest of the file of weights.
        training: seed, steps and the like, and the seconds that it took.
        accuracy: on families of fonts that were never trained on: ``all`` and, in ``families``, each.
        libraries: versions that had a part in it.
        fonts: packages with version, licence and families.
    """

    task: str
    licence: str
    labels: tuple[str, ...]
    mean: float
    std: float
    weights: Digest
    training: Mapping[str, Json]
    accuracy: Mapping[str, Json]
    libraries: Mapping[str, Json]
    fonts: tuple[Json, ...]

    def to_bytes(self) -> bytes:
        """Return the card as JSON that a person can read."""
        facts = {name: getattr(self, name) for name in self.__slots__}
        return (json.dumps(facts, indent=2, ensure_ascii=False) + "\n").encode()

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the card in a folder.

        Raises:
            SourceUnavailable: there is none, or it is not one.
        """
        try:
            value = json.loads((folder / CARD).read_bytes())
        except (OSError, ValueError) as error:
            raise SourceUnavailable(
                f"expected the card of the bundled source, {CARD}, in {folder}: {error}; "
                "install Cultivar again, or run 'make glyphs'"
            ) from error
        match value:
            case {
                "task": str(task),
                "licence": str(licence),
                "labels": [*labels],
                "mean": float(mean),
                "std": float(std),
                "weights": str(weights),
                "training": dict(training),
                "accuracy": dict(accuracy),
                "libraries": dict(libraries),
                "fonts": [*fonts],
                **rest,
            } if not rest:
                digest = Digest(weights)
                names = tuple(str(label) for label in labels)
                return cls(
                    task, licence, names, mean, std, digest, training, accuracy, libraries, tuple(fonts)
                )
        raise SourceUnavailable(
            f"{folder / CARD} is no card of a bundled source; install Cultivar again, or run 'make glyphs'"
        )
