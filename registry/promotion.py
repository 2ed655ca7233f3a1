"""The result of a promotion or rollback, and the outcomes of its gates."""

from collections.abc import Mapping
from dataclasses import dataclass

from registry.errors import InvalidValue
from registry.manifest import Json
from registry.names import Ref

PASS = "pass"
FAIL = "fail"
INCONCLUSIVE = "inconclusive"
OUTCOMES = (PASS, FAIL, INCONCLUSIVE)


@dataclass(frozen=True, slots=True)
class PromotionOutcome:
    """The outcome of one gate.

    Attributes:
        name: the gate.
        outcome: ``pass``, ``fail`` or ``inconclusive``; only ``pass`` allows a promotion.
        numbers: the measured values.
    """

    name: str
    outcome: str
    numbers: Mapping[str, Json]

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise InvalidValue(f"a gate's outcome is one of {', '.join(OUTCOMES)}, got {self.outcome!r}")

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {"name": self.name, "outcome": self.outcome, "numbers": dict(self.numbers)}


@dataclass(frozen=True, slots=True)
class Promotion:
    """A stage that moved.

    Attributes:
        target: the target task.
        stage: the stage.
        ref: the version that is there now.
        previous: the version that was there before, or None.
        event: id of the target's last stage event; pass it as ``expect`` for the next move.
        gates: the outcomes of the gates.
    """

    target: str
    stage: str
    ref: Ref
    previous: Ref | None
    event: int
    gates: tuple[PromotionOutcome, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "target": self.target,
            "stage": self.stage,
            "ref": str(self.ref),
            "previous": None if self.previous is None else str(self.previous),
            "event": self.event,
            "gates": [gate.to_json() for gate in self.gates],
        }
