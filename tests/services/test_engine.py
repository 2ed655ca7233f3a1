"""The engine, with programs that are plain functions."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TypeVar

import numpy as np
import pytest

from registry.errors import InvalidInput, RuntimeFailure
from registry.signature import TensorSpec
from services.engine import Arrays, Engine
from services.errors import DeadlineExceeded, Overloaded

T = TypeVar("T")


@dataclass(eq=False)
class Doubling:
    """Doubles its input; refuses rows that hold 13; waits where it is told to."""

    root: str = "root"
    inputs: tuple[TensorSpec, ...] = (TensorSpec("x", "float32", ("batch", 2)),)
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)
    batches: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    def run(self, fields: Arrays) -> Arrays:
        self.batches.append(fields["x"][:, 0].tolist())
        self.entered.set()
        assert self.gate.wait(10)
        if (fields["x"] == 13).any():
            raise RuntimeFailure("thirteen")
        return {"y": fields["x"] * 2}


class Ledger:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, int]] = []

    def batch(self, root: str, rows: int, waits_s: Sequence[float], run_s: float) -> None:
        assert all(wait >= 0 for wait in waits_s)
        assert run_s >= 0
        self.rows.append((root, rows))

    def queued(self, root: str, rows: int) -> None:
        assert rows >= 0


@contextmanager
def engine(max_batch_rows: int = 4, max_queue_rows: int = 100, runners: int = 1) -> Iterator[Engine]:
    made = Engine(
        max_batch_rows=max_batch_rows, max_queue_rows=max_queue_rows, runners=runners, observer=Ledger()
    )
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


async def busy(made: Engine, program: Doubling) -> "asyncio.Future[dict[str, np.ndarray]]":
    """Occupy the one runner until the program's gate opens."""
    program.gate.clear()
    program.entered.clear()
    future = made.submit(program, rows(0))
    await asyncio.to_thread(program.entered.wait, 10)
    return future


def test_outputs_belong_to_the_rows_that_were_asked_about() -> None:
    async def trial() -> None:
        program = Doubling()
        with engine(runners=2) as made:
            futures = [made.submit(program, rows(*range(n))) for n in range(1, 12)]
            for n, future in enumerate(futures, start=1):
                np.testing.assert_array_equal((await future)["y"], rows(*range(n))["x"] * 2)

    run(trial)


def test_rows_of_one_length_share_a_batch_and_others_wait_apart() -> None:
    async def trial() -> None:
        program = Doubling(inputs=(TensorSpec("x", "float32", ("batch", "seq")),))
        with engine(max_batch_rows=4) as made:
            first = await busy(made, program)
            lengths = (8, 16, 8, 16, 8)
            rest = [
                made.submit(program, {"x": np.full((1, length), number, np.float32)})
                for number, length in enumerate(lengths, start=1)
            ]
            program.gate.set()
            await first
            shapes = [(await future)["y"].shape for future in rest]
        assert program.batches == [[0], [1, 3, 5], [2, 4]]
        assert shapes == [(1, length) for length in lengths]

    run(trial)


def test_what_arrives_while_the_engine_is_busy_forms_the_next_batch() -> None:
    async def trial() -> None:
        program = Doubling()
        with engine(max_batch_rows=4) as made:
            first = await busy(made, program)
            rest = [made.submit(program, rows(value)) for value in (1, 2, 3, 4, 5)]
            program.gate.set()
            await asyncio.gather(first, *rest)
        assert program.batches == [[0], [1, 2, 3, 4], [5]]

    run(trial)


def test_a_lonely_request_runs_at_once() -> None:
    async def trial() -> None:
        program = Doubling()
        with engine(max_batch_rows=64) as made:
            await made.submit(program, rows(1))
        assert program.batches == [[1]]

    run(trial)


def test_a_request_larger_than_a_batch_is_cut_and_joined() -> None:
    async def trial() -> None:
        program = Doubling()
        with engine(max_batch_rows=4) as made:
            answer = await made.submit(program, rows(*range(11)))
        np.testing.assert_array_equal(answer["y"], rows(*range(11))["x"] * 2)
        assert [len(batch) for batch in program.batches] == [4, 4, 3]

    run(trial)


def test_programs_of_one_root_take_turns_by_age() -> None:
    async def trial() -> None:
        log: list[list[float]] = []
        one, two = Doubling(batches=log), Doubling(batches=log)
        with engine(max_batch_rows=4) as made:
            first = await busy(made, one)
            rest = [
                made.submit(program, rows(value))
                for value, program in ((1, two), (2, one), (3, two), (4, one))
            ]
            one.gate.set()
            await asyncio.gather(first, *rest)
        assert log == [[0], [1, 3], [2, 4]]

    run(trial)


def test_the_oldest_queue_is_served_first() -> None:
    async def trial() -> None:
        log: list[list[float]] = []
        busy_one, old, new = (
            Doubling("a", batches=log),
            Doubling("b", batches=log),
            Doubling("c", batches=log),
        )
        with engine() as made:
            first = await busy(made, busy_one)
            rest = [made.submit(program, rows(value)) for value, program in ((1, old), (2, new), (3, old))]
            busy_one.gate.set()
            await asyncio.gather(first, *rest)
        assert log == [[0], [1, 3], [2]]

    run(trial)


def test_a_guilty_request_fails_alone() -> None:
    async def trial() -> None:
        program = Doubling()
        with engine(max_batch_rows=32) as made:
            first = await busy(made, program)
            futures = [made.submit(program, rows(value)) for value in (1, 2, 13, 4, 5, 6, 7)]
            program.gate.set()
            await first
            outcomes = await asyncio.gather(*futures, return_exceptions=True)
        assert [isinstance(outcome, RuntimeFailure) for outcome in outcomes].count(True) == 1
        assert isinstance(outcomes[2], RuntimeFailure)

    run(trial)


def test_a_program_that_answers_too_few_rows_fails() -> None:
    class Short(Doubling):
        def run(self, fields: Arrays) -> Arrays:
            return {"y": fields["x"][:1]}

    async def trial() -> None:
        with engine() as made, pytest.raises(RuntimeFailure, match="one row for each"):
            await made.submit(Short(), rows(1, 2))

    run(trial)


def test_a_cancelled_request_costs_nothing() -> None:
    async def trial() -> None:
        program = Doubling()
        with engine() as made:
            first = await busy(made, program)
            gone, stays = made.submit(program, rows(1)), made.submit(program, rows(2))
            gone.cancel()
            program.gate.set()
            await asyncio.gather(first, stays)
        assert program.batches == [[0], [2]]

    run(trial)


def test_an_expired_request_costs_nothing_and_is_told() -> None:
    async def trial() -> None:
        program = Doubling()
        with engine() as made:
            first = await busy(made, program)
            late, stays = (
                made.submit(program, rows(1), deadline=perf_counter()),
                made.submit(program, rows(2)),
            )
            program.gate.set()
            await asyncio.gather(first, stays)
            with pytest.raises(DeadlineExceeded):
                await late
        assert program.batches == [[0], [2]]

    run(trial)


def test_the_queue_is_bounded_in_rows() -> None:
    async def trial() -> None:
        program, other = Doubling(), Doubling("elsewhere")
        with engine(max_queue_rows=5) as made:
            first = await busy(made, program)
            waiting = [made.submit(program, rows(1, 2, 3)), made.submit(program, rows(4, 5))]
            with pytest.raises(Overloaded) as refused:
                made.submit(program, rows(6))
            assert refused.value.reason == "queue"
            waiting.append(made.submit(other, rows(7)))
            program.gate.set()
            await asyncio.gather(first, *waiting)

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
        program = Doubling()
        with engine() as made, pytest.raises(InvalidInput):
            made.submit(program, fields)
        assert program.batches == []

    run(trial)


def test_closing_refuses_what_waits_and_finishes_what_runs() -> None:
    async def trial() -> None:
        program = Doubling()
        with engine() as made:
            first = await busy(made, program)
            waiting = made.submit(program, rows(1))
            closing = asyncio.create_task(asyncio.to_thread(made.close))
            with pytest.raises(Overloaded):
                await waiting
            program.gate.set()
            await first
            await closing
            with pytest.raises(Overloaded):
                made.submit(program, rows(2))

    run(trial)


def test_queues_of_released_programs_are_forgotten() -> None:
    async def trial() -> None:
        with engine() as made:
            await made.submit(Doubling("old"), rows(1))
            await made.submit(Doubling("kept"), rows(1))
            made.forget({"kept"})
            assert {queue.root for queue in made.queues} == {"kept"}

    run(trial)
