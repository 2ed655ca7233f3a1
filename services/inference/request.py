"""What the pipeline is asked."""

from dataclasses import dataclass

from services.engine import NORMAL
from services.inference.inputs import Inputs


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """Inputs, and when their results are wanted.

    Attributes:
        inputs: one or more.
        deadline: ``time.perf_counter()`` after which nobody waits any more.
        priority: ``HIGH``, ``NORMAL`` or ``LOW``.
    """

    inputs: Inputs
    deadline: float
    priority: int = NORMAL
