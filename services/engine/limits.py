"""How much the engine takes on."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much the engine takes on.

    Attributes:
        batch_rows: rows of one batch, at most 64.
        batch_tokens: rows times length of one batch of texts.
        queue_rows: rows that may wait for one root in one shape.
        queue_tokens: rows times length of the texts that may wait likewise.
        line_s: seconds that a request may be expected to take when it is let in, where the line is longer than
            a batch, or somebody was refused of late.
    """

    batch_rows: int = 32
    batch_tokens: int = 16_384
    queue_rows: int = 2048
    queue_tokens: int = 1 << 20
    line_s: float = 3.0
