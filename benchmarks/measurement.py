"""One measurement of a rate: how many rows a second, what they cost, and what else went on."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was seen in one window of time.

    Attributes:
        seconds: the window's length.
        rows: inputs that were answered in it; one that straddles an edge counts by its share.
        cpu_s: CPU seconds of what was measured, all processes and threads.
        generator_s: CPU seconds of the process that produced the load; 0 where there was none.
        others_s: CPU seconds of everything else on the machine.
        p50_ms: median time from question to answer.
        p99_ms: time that 99 of 100 answers took at most.
    """

    seconds: float
    rows: float
    cpu_s: float
    generator_s: float
    others_s: float
    p50_ms: float
    p99_ms: float

    @property
    def rows_per_s(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds

    @property
    def cpu_ms_per_row(self) -> float:
        """CPU milliseconds a row; equally, CPU seconds for 1000 rows."""
        return 1e3 * self.cpu_s / self.rows

    @property
    def others_cores(self) -> float:
        """Cores that the rest of the machine kept busy."""
        return self.others_s / self.seconds

    def capacity(self, cores: int) -> float:
        """Return the share of the cores, 0 to 1, that the load generator left."""
        return 1 - self.generator_s / (self.seconds * cores)

    def to_json(self) -> dict[str, float]:
        """Return the JSON form."""
        return asdict(self) | {"rows_per_s": self.rows_per_s, "cpu_ms_per_row": self.cpu_ms_per_row}
