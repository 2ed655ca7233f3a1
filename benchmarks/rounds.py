"""Interleaved rounds: everything once a round, each round in another order; and ratios within a round."""

import random
from collections.abc import Callable, Mapping, Sequence

from benchmarks.contender import say
from benchmarks.measurement import Measurement
from benchmarks.spread import Spread

Rounds = dict[str, list[Measurement]]


def run_rounds(jobs: Mapping[str, Callable[[], Measurement]], rounds: int, seed: int) -> Rounds:
    """Measure everything once a round, each round in another order."""
    order = random.Random(seed)
    results: Rounds = {name: [] for name in jobs}
    for number in range(1, rounds + 1):
        for name in order.sample(list(jobs), len(jobs)):
            measured = jobs[name]()
            results[name].append(measured)
            say(
                f"  [{number}/{rounds}] {measured.rows_per_s:7.1f} rows/s  {measured.cpu_ms_per_row:6.2f} CPU ms/row"
                f"  others {measured.others_cores:.2f} cores  {name}"
            )
    return results


def arithmetic(raw: Sequence[Measurement], decode: Sequence[Measurement]) -> list[float]:
    """Return, by round, the rows a second that all cores can decode and run: each row costs the time of both."""
    return [1 / (1 / r.rows_per_s + 1 / d.rows_per_s) for r, d in zip(raw, decode, strict=True)]


def limits(
    raw: Sequence[Measurement], decode: Sequence[Measurement], together: Sequence[Measurement]
) -> list[float]:
    """Return, by round, the rows a second of pictures without a server: the larger of arithmetic and of a pipeline."""
    pipeline = [each.rows_per_s for each in together]
    return max((pipeline, arithmetic(raw, decode)), key=lambda rates: Spread.of(rates).median)


def ratios(measured: Sequence[Measurement], limit: Sequence[float], cores: int) -> Spread:
    """Return served rows over what the cores that the load generator left can do, round by round."""
    return Spread.of(
        [each.rows_per_s / (rate * each.capacity(cores)) for each, rate in zip(measured, limit, strict=True)]
    )
