"""A request to the inference pipeline."""

from dataclasses import dataclass

from services.engine import NORMAL
from services.inference.inputs import Inputs


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """Inputs with a deadline and a priority.

    Attributes:
        inputs: one or more.
        deadline: ``time.perf_counter()`` after which the client no longer waits.
        priority: ``HIGH``, ``NORMAL`` or ``LOW``.
    """

    inputs: Inputs
    deadline: float
    priority: int = NORMAL
