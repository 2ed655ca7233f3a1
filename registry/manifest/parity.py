"""The proof that an exported version's outputs equal the torch model's."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from registry.manifest.entry import Entry, of_type


@dataclass(frozen=True, slots=True)
class Parity:
    """The proof that an exported version's outputs equal the torch model's.

    Attributes:
        max_abs_difference: largest absolute difference per output (``features``, ``logits``).
        tolerance: allowed difference per output: 1e-4 times the larger of 1 and the output's scale.
        top1_agreement: share of inputs with the same top label, excluding near-ties; None without a head.
        inputs: number of inputs by origin (``test``, ``train``, ``synthetic``).
        batches: the tested batch sizes.
    """

    max_abs_difference: Mapping[str, float]
    tolerance: Mapping[str, float]
    top1_agreement: float | None
    inputs: Mapping[str, int]
    batches: tuple[int, ...]

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "max_abs_difference": dict(self.max_abs_difference),
            "tolerance": dict(self.tolerance),
            "top1_agreement": self.top1_agreement,
            "inputs": dict(self.inputs),
            "batches": list(self.batches),
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read the JSON form; raises ``InvalidManifest``."""
        entry = Entry("parity", value)
        parity = cls(
            entry.take("max_abs_difference", dict),
            entry.take("tolerance", dict),
            entry.optional("top1_agreement", float),
            entry.take("inputs", dict),
            tuple(of_type(size, int, "a batch size") for size in entry.take("batches", list)),
        )
        entry.close()
        return parity
