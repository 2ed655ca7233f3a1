"""How long everything takes, and what is tried."""

from dataclasses import dataclass

from services.engine.batch_sizes import SIZES


@dataclass(frozen=True, slots=True)
class Pace:
    """How long everything takes, and what is tried.

    Attributes:
        rounds: repeats of every measurement.
        window_s: seconds of a measurement.
        warm_s: seconds of load before the engine's window.
        buckets: rows of a run, ascending.
        heads: targets on one trunk.
        clients: rows under way at once in the engine.
    """

    rounds: int = 5
    window_s: float = 1.0
    warm_s: float = 0.5
    buckets: tuple[int, ...] = SIZES
    heads: int = 20
    clients: int = 32

    @property
    def few(self) -> tuple[int, ...]:
        """The smallest, a middle and the largest bucket."""
        count = len(self.buckets)
        return tuple(dict.fromkeys((self.buckets[0], self.buckets[count // 2], self.buckets[-1])))
