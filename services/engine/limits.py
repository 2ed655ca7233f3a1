"""Limits on the engine's batches and queues."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Limits on the engine's batches and queues.

    Attributes:
        batch_rows: rows of one batch, at most 64.
        batch_tokens: rows times length of one batch of texts.
        queue_rows: rows that may wait for one root and shape.
        queue_tokens: rows times length of the texts that may wait for one root and shape.
        line_s: the longest wait estimate at which a request is admitted, in seconds; applies if more than one batch
            waits, or a request was refused recently.
    """

    batch_rows: int = 32
    batch_tokens: int = 16_384
    queue_rows: int = 2048
    queue_tokens: int = 1 << 20
    line_s: float = 3.0
