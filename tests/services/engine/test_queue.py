"""Rows that wait for one root: which are taken first."""

import asyncio
from typing import cast

import numpy as np

from services.engine.queue import HIGH, LOW, NORMAL, RootQueue
from services.engine.request import Answer, Piece, Request
from services.engine.route import Route


def piece(loop: asyncio.AbstractEventLoop, priority: int, since: float) -> Piece:
    answer: Answer = loop.create_future()
    request = Request(cast("Route", None), 1, answer, float("inf"), since, priority)
    return Piece(request, 0, 1, {"x": np.zeros((1, 1))}, since)


def test_low_priorities_wait_five_seconds_longer_and_never_starve() -> None:
    """However many requests of normal priority keep coming."""
    loop = asyncio.new_event_loop()
    try:
        queue = RootQueue("root")
        low = piece(loop, LOW, 0.0)
        queue.put(low)
        taken_after = None
        for second in range(20):
            for _ in range(3):  # more than are taken, so that there is always one of normal priority
                queue.put(piece(loop, NORMAL, float(second)))
            batch, _ = queue.take(1, float(second))
            if low in batch:
                taken_after = second
                break
        # Of normal priority two of three are left each second: what is oldest of them falls behind.
        assert taken_after is not None and taken_after >= 5
    finally:
        loop.close()


def test_a_high_priority_is_worth_five_seconds() -> None:
    loop = asyncio.new_event_loop()
    try:
        queue = RootQueue("root")
        early, high, late = piece(loop, NORMAL, 0.0), piece(loop, HIGH, 4.9), piece(loop, HIGH, 5.1)
        for each in (early, high, late):
            queue.put(each)
        order = [queue.take(1, 6.0)[0][0] for _ in range(3)]
        assert order == [high, early, late]
    finally:
        loop.close()
