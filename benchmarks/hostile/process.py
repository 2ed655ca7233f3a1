"""Attacks in a process of their own, so that they do not share an interpreter with honest clients."""

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

JOIN_S = 5
LOWEST_PRIORITY = 19
"""Attackers stand for other machines: what they compute to attack must not take the server's processors."""


@contextmanager
def striking(strike: Callable[[], Counter[str]]) -> Iterator[Counter[str]]:
    """Strike in another process, forked from this one, while the block runs.

    Args:
        strike: returns how often there was which outcome, by itself and soon after the block has ended.

    Yields:
        The outcomes; they are there after the block.
    """
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sending, strike), daemon=True)
    process.start()
    outcomes: Counter[str] = Counter()
    try:
        yield outcomes
        outcomes.update(receiving.recv())
    finally:
        process.join(JOIN_S)
        process.kill()


def _send(sending: Connection, strike: Callable[[], Counter[str]]) -> None:
    os.nice(LOWEST_PRIORITY)
    sending.send(dict(strike()))
