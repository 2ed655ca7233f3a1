"""The engine, with steps that are plain functions."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from time import perf_counter, thread_time
from typing import TypeVar

import numpy as np
import pytest

from registry.digests import Digest
from registry.errors import InvalidInput, RuntimeFailure
from registry.runtime import on_host
from registry.signature import TensorSpec
from services.engine import HIGH, LOW, NORMAL, Answer, Engine, QueueLimits, Route
from services.engine.latency_model import CHEAP_S, LatencyModel
from services.engine.route import Tensors
from services.errors import DeadlineExceeded, Overloaded

T = TypeVar("T")


FIELD = TensorSpec("x", "float32", ("batch", 2))
KEYS = map(Digest.of, map(str.encode, map(str, count())))


@dataclass(eq=False)
class Doubling:
    """A step that doubles its input; refuses rows that hold 13; waits where it is told to."""

    takes: tuple[str, ...] = ("recipe:x",)
    gives: tuple[str, ...] = ("y",)
    depth: int = 1
    wide: bool = False
    sizes: tuple[int, ...] = ()
    providers: tuple[str, ...] = ("here",)
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)
    batches: list[list[float]] = field(default_factory=list)
    alone: list[bool] = field(default_factory=list)
    key: Digest = field(default_factory=lambda: next(KEYS))

    def __post_init__(self) -> None:
        self.gate.set()

    def run(self, values: Tensors, *, alone: bool = False, onward: bool = False) -> Tensors:
        (given,) = map(on_host, values.values())
        self.batches.append(given[:, 0].tolist())
        self.alone.append(alone)
        self.entered.set()
        assert self.gate.wait(10)
        if (given == 13).any():
            raise RuntimeFailure("thirteen")
        return {self.gives[0]: given * 2}


def way(step: Doubling, *more: Doubling, root: str = "root", spec: TensorSpec = FIELD) -> Route:
    """Return the route through some steps to the last one's output."""
    steps = (step, *more)
    return Route(root, (spec,), steps, (), {"y": steps[-1].gives[0]})


class Ledger:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, int]] = []

    def batch(self, root: str, rows: int, waits_s: Sequence[float], run_s: float, heads_s: float) -> None:
        assert all(wait >= 0 for wait in waits_s)
        assert run_s >= 0 <= heads_s
        self.rows.append((root, rows))

    def queued(self, root: str, rows: int) -> None:
        assert rows >= 0


@contextmanager
def engine(limits: QueueLimits | None = None, workers: int = 1) -> Iterator[Engine]:
    made = Engine(limits or QueueLimits(batch_rows=4, queue_rows=100), workers=workers, observer=Ledger())
    try:
        yield made
    finally:
        made.close()


def rows(*values: float) -> dict[str, np.ndarray]:
    return {"x": np.array([[value, value] for value in values], np.float32)}


def run(trial: Callable[[], Awaitable[T]]) -> T:
    async def within() -> T:
        return await asyncio.wait_for(trial(), 20)

    return asyncio.run(within())


async def busy(made: Engine, step: Doubling) -> Answer:
    """Occupy the one lane until the step's gate opens."""
    step.gate.clear()
    step.entered.clear()
    future = made.submit(way(step), rows(0))
    await asyncio.to_thread(step.entered.wait, 10)
    return future


def test_outputs_belong_to_the_rows_that_were_asked_about() -> None:
    async def trial() -> None:
        route = way(Doubling())
        with engine(workers=2) as made:
            futures = [made.submit(route, rows(*range(n))) for n in range(1, 12)]
            for n, future in enumerate(futures, start=1):
                np.testing.assert_array_equal((await future)["y"], rows(*range(n))["x"] * 2)

    run(trial)


def test_rows_of_one_length_share_a_batch_and_others_wait_apart() -> None:
    async def trial() -> None:
        step = Doubling()
        route = way(step, spec=TensorSpec("x", "float32", ("batch", "seq")))
        with engine() as made:
            first = await busy(made, step)
            lengths = (8, 16, 8, 16, 8, 8)
            rest = [
                made.submit(route, {"x": np.full((1, length), number, np.float32)})
                for number, length in enumerate(lengths, start=1)
            ]
            step.gate.set()
            await first
            shapes = [(await future)["y"].shape for future in rest]
        assert step.batches == [[0], [1, 3, 5, 6], [2, 4]]
        assert shapes == [(1, length) for length in lengths]

    run(trial)


def test_what_arrives_while_the_engine_is_busy_forms_the_next_batch_of_a_power_of_two() -> None:
    async def trial() -> None:
        step = Doubling()
        with engine() as made:
            first = await busy(made, step)
            rest = [made.submit(way(step), rows(value)) for value in range(1, 8)]
            step.gate.set()
            await asyncio.gather(first, *rest)
        assert step.batches == [[0], [1, 2, 3, 4], [5, 6], [7]]

    run(trial)


def test_a_lonely_request_runs_at_once() -> None:
    async def trial() -> None:
        step = Doubling()
        with engine(QueueLimits(batch_rows=64)) as made:
            await made.submit(way(step), rows(1))
        assert step.batches == [[1]]

    run(trial)


def test_a_request_larger_than_a_batch_is_cut_and_joined() -> None:
    async def trial() -> None:
        step = Doubling()
        with engine() as made:
            answer = await made.submit(way(step), rows(*range(11)))
        np.testing.assert_array_equal(answer["y"], rows(*range(11))["x"] * 2)
        assert [len(batch) for batch in step.batches] == [4, 4, 2, 1]

    run(trial)


def test_whoever_shares_a_root_shares_its_batch_and_branches_take_their_own_rows() -> None:
    async def trial() -> None:
        root = Doubling(gives=("h",))
        left, right = (Doubling(takes=("h",), gives=(name,), depth=2) for name in ("left", "right"))
        ways = [way(root, left), way(root, right), way(root)]
        with engine(QueueLimits(batch_rows=8)) as made:
            first = await busy(made, root)
            asked = [(ways[value % 3], value) for value in range(1, 9)]
            rest = [made.submit(route, rows(value)) for route, value in asked]
            root.gate.set()
            await first
            answers = [(await future)["y"][0, 0] for future in rest]
        assert len(root.batches) == 2
        assert sorted(root.batches[1]) == list(range(1, 9))
        assert (left.batches, right.batches) == ([[6, 12]], [[2, 8, 14]])
        assert answers == [value * (2 if value % 3 == 2 else 4) for value in range(1, 9)]

    run(trial)


def test_the_oldest_queue_is_served_first() -> None:
    async def trial() -> None:
        log: list[list[float]] = []
        busy_one, old, new = (Doubling(batches=log) for _ in range(3))
        with engine() as made:
            first = await busy(made, busy_one)
            asked = ((1, old), (2, new), (3, old))
            rest = [made.submit(way(step), rows(value)) for value, step in asked]
            busy_one.gate.set()
            await asyncio.gather(first, *rest)
        assert log == [[0], [1, 3], [2]]

    run(trial)


def test_a_higher_priority_goes_first_and_a_lower_one_last() -> None:
    async def trial() -> None:
        step = Doubling()
        with engine(QueueLimits(batch_rows=1)) as made:
            first = await busy(made, step)
            asked = ((1, LOW), (2, NORMAL), (3, HIGH), (4, NORMAL))
            rest = [made.submit(way(step), rows(value), priority=level) for value, level in asked]
            step.gate.set()
            await asyncio.gather(first, *rest)
        assert step.batches == [[0], [3], [2], [4], [1]]

    run(trial)


def test_a_guilty_request_fails_alone() -> None:
    async def trial() -> None:
        step = Doubling()
        with engine(QueueLimits(batch_rows=32)) as made:
            first = await busy(made, step)
            futures = [made.submit(way(step), rows(13 if value == 20 else value)) for value in range(14, 46)]
            step.gate.set()
            await first
            outcomes = await asyncio.gather(*futures, return_exceptions=True)
        assert len(next(batch for batch in step.batches if 13 in batch)) > 1
        failed = [index for index, outcome in enumerate(outcomes) if isinstance(outcome, RuntimeFailure)]
        assert failed == [6]

    run(trial)


def test_a_step_that_answers_too_few_rows_fails() -> None:
    class Short(Doubling):
        def run(self, values: Tensors, *, alone: bool = False, onward: bool = False) -> Tensors:
            return {"y": on_host(values["recipe:x"])[:1]}

    async def trial() -> None:
        with engine() as made, pytest.raises(RuntimeFailure, match="one row for each"):
            await made.submit(way(Short()), rows(1, 2))

    run(trial)


def test_a_cancelled_request_costs_nothing() -> None:
    async def trial() -> None:
        step = Doubling()
        with engine() as made:
            first = await busy(made, step)
            gone, stays = made.submit(way(step), rows(1)), made.submit(way(step), rows(2))
            gone.cancel()
            step.gate.set()
            await asyncio.gather(first, stays)
        assert step.batches == [[0], [2]]

    run(trial)


def test_an_expired_request_costs_nothing_and_is_told() -> None:
    async def trial() -> None:
        step = Doubling()
        with engine() as made:
            first = await busy(made, step)
            late = made.submit(way(step), rows(1), deadline=perf_counter())
            stays = made.submit(way(step), rows(2))
            step.gate.set()
            await asyncio.gather(first, stays)
            with pytest.raises(DeadlineExceeded):
                await late
        assert step.batches == [[0], [2]]

    run(trial)


def test_the_queue_is_bounded_in_rows() -> None:
    async def trial() -> None:
        step, other = Doubling(), Doubling()
        with engine(QueueLimits(batch_rows=4, queue_rows=5)) as made:
            first = await busy(made, step)
            waiting = [made.submit(way(step), rows(1, 2, 3)), made.submit(way(step), rows(4, 5))]
            with pytest.raises(Overloaded) as refused:
                made.submit(way(step), rows(6))
            assert refused.value.reason == "queue"
            waiting.append(made.submit(way(other, root="elsewhere"), rows(7)))
            step.gate.set()
            await asyncio.gather(first, *waiting)

    run(trial)


def test_the_queue_and_the_batch_of_texts_are_bounded_in_tokens() -> None:
    async def trial() -> None:
        step = Doubling()
        route = way(step, spec=TensorSpec("x", "int64", ("batch", "seq")))
        with engine(QueueLimits(batch_rows=8, batch_tokens=32, queue_tokens=64)) as made:
            first = await busy(made, step)
            texts = [{"x": np.full((1, 16), value)} for value in range(1, 6)]
            waiting = [made.submit(route, text) for text in texts[:4]]
            with pytest.raises(Overloaded, match="tokens"):
                made.submit(route, texts[4])
            step.gate.set()
            await asyncio.gather(first, *waiting)
        assert step.batches == [[0], [1, 2], [3, 4]]

    run(trial)


def test_a_row_costs_what_it_costs_in_the_best_way_there_is() -> None:
    clock = LatencyModel(workers=2)
    random = np.random.default_rng(0)
    for _ in range(200):
        clock.observe(int(2 ** random.integers(4)), random.uniform(0.001, 0.1), alone=random.random() < 0.5)
        ways = {
            (rows, alone): cost / rows / (1 if alone else 2)
            for rows in (1, 2, 4, 8)
            for alone in (True, False)
            if (cost := clock.expect(rows, alone=alone)) is not None
        }
        assert clock.row_seconds == pytest.approx(min(ways.values()))


@pytest.mark.parametrize(
    ("fixed_s", "row_s", "sizes", "expected"),
    [
        pytest.param(0.0, 0.0, (), 8, id="nothing-measured"),
        pytest.param(0.0001, 0.001, (1,), 32, id="cheap"),
        pytest.param(0.001, 0.015, (1, 2, 4), 8, id="dear"),
        pytest.param(0.001, 0.015, (8,), 8, id="dear-and-always-many"),
        pytest.param(0.0, 0.2, (1, 2), 1, id="dearer-than-a-long-batch"),
        pytest.param(0.2, 0.01, (1,), 2, id="long-for-a-reason-that-is-not-known"),
        pytest.param(0.2, 0.01, (1, 2), 4, id="no-more-than-twice-what-was-measured"),
        pytest.param(0.2, 0.01, (1, 2, 4, 8, 16), 32, id="costs-much-apart-from-its-rows"),
        pytest.param(0.2, 0.2, (1, 2, 4, 8, 16), 16, id="until-the-rows-outweigh-it"),
    ],
)
@pytest.mark.parametrize("alone", (False, True))
def test_a_batch_has_more_rows_for_as_long_as_that_pays(
    fixed_s: float, row_s: float, sizes: Sequence[int], expected: int, alone: bool
) -> None:
    clock = LatencyModel()
    for size in [*sizes] * 3:
        clock.observe(size, fixed_s + size * row_s, alone=alone)
    assert clock.worthwhile(32, alone=alone) == expected
    assert clock.worthwhile(1, alone=alone) == 1


def test_a_batch_alone_on_all_cores_has_as_many_rows_as_one_on_a_lane() -> None:
    clock = LatencyModel(workers=2)
    for size in (1, 2, 4, 8) * 3:
        clock.observe(size, size * 0.015, alone=False)
        clock.observe(size, size * 0.0075, alone=True)
    assert (clock.worthwhile(32, alone=False), clock.worthwhile(32, alone=True)) == (8, 8)


def test_no_single_measurement_decides_on_the_size_of_batches() -> None:
    for size in (1, 2, 4, 8, 16):
        for factor in (0.5, 2.0, 100.0):
            clock = LatencyModel()
            for each in (1, 2, 4, 8) * 4:
                clock.observe(each, 0.001 + each * 0.015, alone=False)
            clock.observe(size, factor * (0.001 + size * 0.015), alone=False)
            assert clock.worthwhile(32, alone=False) == 8


def test_noisy_measurements_leave_the_size_of_batches_as_it_is() -> None:
    random = np.random.default_rng(0)
    clock = LatencyModel()
    for _ in range(300):
        size = int(2 ** random.integers(4))
        clock.observe(size, (0.001 + size * 0.015) * random.lognormal(0.0, 0.1), alone=False)
        if random.random() < 0.05:
            clock.observe(size, 1.0, alone=False)
    assert clock.worthwhile(32, alone=False) in (8, 16)


def test_until_a_size_was_measured_three_times_batches_stay_small() -> None:
    clock = LatencyModel()
    chosen = []
    for _ in range(3):
        for size in (1, 2, 4, 8):
            clock.observe(size, 0.2 + size * 0.01, alone=False)
        chosen.append(clock.worthwhile(32, alone=False))
    assert chosen == [8, 8, 16]


def test_work_is_measured_where_it_is_unknown_and_after_a_run_that_took_long() -> None:
    clock = LatencyModel()
    assert clock.doubted
    clock.weigh(2, 0.00015, 0.0001)
    assert (clock.doubted, clock.work) == (False, 0.00005)
    clock.weigh(2, 0.00004, None)
    assert (clock.doubted, clock.work) == (False, 0.00002)
    clock.weigh(1, 0.01, None)  # it waited, perhaps, or became dear
    assert (clock.doubted, clock.work) == (True, 0.00002)
    clock.weigh(1, 0.01, 0.009)
    assert (clock.doubted, clock.work) == (True, 0.009)


def slowly(step: Doubling) -> Doubling:
    """Make a step cost more than what runs in the event loop."""
    return spending(step, 2 * CHEAP_S)


def spending(step: Doubling, seconds: float) -> Doubling:
    """Make a step cost some seconds of a core."""
    whole = step.run

    def run(values: Tensors, *, alone: bool = False, onward: bool = False) -> Tensors:
        end = thread_time() + seconds
        while thread_time() < end:
            pass
        return whole(values, alone=alone)

    step.run = run  # type: ignore[method-assign]  # watched from outside
    return step


def test_a_request_by_itself_has_all_cores_once_both_ways_were_tried() -> None:
    async def trial() -> None:
        step = slowly(Doubling(wide=True))
        with engine(workers=2) as made:
            for value in range(2):
                await made.submit(way(step), rows(value))
            assert step.alone == [False, True]

    run(trial)


def test_nothing_runs_beside_what_has_all_cores() -> None:
    async def trial() -> None:
        step = slowly(Doubling(wide=True))
        with engine(workers=2) as made:
            await made.submit(way(step), rows(1))
            step.gate.clear()
            first = made.submit(way(step), rows(2))
            await asyncio.sleep(0.01)
            rest = [made.submit(way(step), rows(value)) for value in range(3, 9)]
            await asyncio.sleep(0.05)
            assert step.alone == [False, True]
            step.gate.set()
            await asyncio.gather(first, *rest)

    run(trial)


def watched(step: Doubling) -> tuple[Doubling, list[bool]]:
    """Note of each run of a step whether it is in the event loop's thread."""
    here: list[bool] = []
    whole = step.run

    def run(values: Tensors, *, alone: bool = False, onward: bool = False) -> Tensors:
        here.append(threading.current_thread() is threading.main_thread())
        return whole(values, alone=alone)

    step.run = run  # type: ignore[method-assign]  # watched from outside
    return step, here


async def prove_cheap(made: Engine, step: Doubling) -> None:
    """Run a step until its engine has seen that it is cheap, however busy the machine is with other things."""
    for _ in range(50):
        await made.submit(way(step), rows(0))


def test_what_is_cheap_runs_in_the_event_loop_together_with_what_came_beside_it() -> None:
    async def trial() -> None:
        step, here = watched(Doubling())
        with engine() as made:
            await prove_cheap(made, step)
            await asyncio.gather(*(made.submit(way(step), rows(value)) for value in (1, 2, 3, 4)))
        assert not here[0]
        assert all(here[50:])
        assert [value for batch in step.batches[50:] for value in batch] == [1, 2, 3, 4]

    run(trial)


def test_a_cheap_request_that_has_no_company_is_answered_at_once() -> None:
    async def trial() -> None:
        step = Doubling()
        with engine() as made:
            await prove_cheap(made, step)
            at_once = 0
            for value in range(100, 150):
                answer = made.submit(way(step), rows(value))
                at_once += answer.done()
                assert (await answer)["y"][0, 0] == 2 * value
        assert at_once

    run(trial)


def test_many_cheap_requests_in_one_turn_of_the_event_loop_share_batches() -> None:
    async def trial() -> None:
        step = spending(Doubling(), CHEAP_S / 4)
        with engine(QueueLimits(batch_rows=4, queue_rows=4000)) as made:
            await prove_cheap(made, step)
            before = len(step.batches)
            answers = [made.submit(way(step), rows(value)) for value in range(100, 200)]
            assert sum(answer.done() for answer in answers) <= 4
            await asyncio.gather(*answers)
        assert [value for batch in step.batches[before:] for value in batch] == list(range(100, 200))
        assert len(step.batches) - before < 60

    run(trial)


def test_a_cheap_request_that_came_too_late_costs_nothing_and_is_told() -> None:
    async def trial() -> None:
        step = Doubling()
        with engine() as made:
            await prove_cheap(made, step)
            for _ in range(10):
                with pytest.raises(DeadlineExceeded):
                    await made.submit(way(step), rows(100), deadline=perf_counter())
                await made.submit(way(step), rows(0))
        assert [100] not in step.batches

    run(trial)


def test_a_backlog_of_cheap_rows_stays_in_the_event_loop() -> None:
    async def trial() -> None:
        step, here = watched(Doubling())
        with engine(QueueLimits(batch_rows=4, queue_rows=4000)) as made:
            await prove_cheap(made, step)
            await asyncio.gather(*(made.submit(way(step), rows(*range(100, 200))) for _ in range(40)))
        assert len(here) >= 50 + 4000 / 4
        assert sum(here[50:]) > 0.9 * len(here[50:])  # a run that had a hiccup sends the next one to a lane

    run(trial)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"x": np.zeros((1, 3), np.float32)},
        {"x": np.zeros((1, 2), np.float64)},
        {"x": np.zeros(2, np.float32)},
        {"x": np.zeros((0, 2), np.float32)},
    ],
    ids=["missing", "shape", "dtype", "dimensions", "empty"],
)
def test_arrays_are_checked_before_they_are_queued(fields: dict[str, np.ndarray]) -> None:
    async def trial() -> None:
        step = Doubling()
        with engine() as made, pytest.raises(InvalidInput):
            made.submit(way(step), fields)
        assert step.batches == []

    run(trial)


def test_closing_refuses_what_waits_and_finishes_what_runs() -> None:
    async def trial() -> None:
        step = Doubling()
        with engine() as made:
            first = await busy(made, step)
            waiting = made.submit(way(step), rows(1))
            closing = asyncio.create_task(asyncio.to_thread(made.close))
            with pytest.raises(Overloaded):
                await waiting
            step.gate.set()
            await first
            await closing
            with pytest.raises(Overloaded):
                made.submit(way(step), rows(2))

    run(trial)


def test_queues_of_released_sessions_are_forgotten() -> None:
    async def trial() -> None:
        with engine() as made:
            await made.submit(way(Doubling(), root="old"), rows(1))
            await made.submit(way(Doubling(), root="kept"), rows(1))
            made.forget({"kept"})
            assert {queue.root for queue in made.queues} == {"kept"}

    run(trial)
