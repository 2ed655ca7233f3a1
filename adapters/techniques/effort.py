"""The number of a fit's operations, from which its time is estimated."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrainingEffort:
    """What a fit computes, at most.

    Attributes:
        passes: times that the whole network is run over every example, without gradients.
        steps: steps of training.
        batch_size: examples that a step trains on; pairs of them where it trains on pairs.
        checks: times that the whole network is run over the validation set, without gradients.
        searches: heads whose penalty is searched for.
        stops_early: whether training may end before that many steps.
    """

    passes: int = 0
    steps: int = 0
    batch_size: int = 0
    checks: int = 0
    searches: int = 0
    stops_early: bool = False
