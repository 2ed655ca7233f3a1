"""Prepares the inputs of a batch, in the worker thread that runs it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

from services.engine.preparation import Effort, EffortExceeded
from services.engine.request import Piece, Request, Unprepared, Waiting
from services.errors import DeadlineExceeded

MOST_S = 0.05
"""Seconds of preparation before a batch runs. Then the remaining inputs are put back, so that the ready ones run."""


@dataclass(slots=True)
class PreparationOutcome:
    """The result of preparing a batch.

    Attributes:
        ready: rows that can run.
        put_off: inputs that take more effort than is allowed here.
        left: rows of requests that had no turn before the time was up.
        rests: remaining rows of requests that had a turn.
        failed: requests that cannot be answered.
    """

    ready: list[Piece] = field(default_factory=list)
    put_off: list[tuple[Request, int, Effort]] = field(default_factory=list)
    left: list[Unprepared] = field(default_factory=list)
    rests: list[Unprepared] = field(default_factory=list)
    failed: list[tuple[Request, Exception]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """The number of rows that can run."""
        return sum(piece.rows for piece in self.ready)


def prepare(batch: Sequence[Waiting], more: Callable[[int], Sequence[Waiting]]) -> PreparationOutcome:
    """Prepare the inputs of a batch, as far as time allows. An input that cannot be prepared fails only its request.

    Args:
        batch: rows, some of them unprepared.
        more: given the number of rows that are ready, returns newly arrived rows that may join the batch.
    """
    outcome = PreparationOutcome()
    until = perf_counter() + MOST_S
    while batch:
        for piece in batch:
            if isinstance(piece, Piece):
                outcome.ready.append(piece)
            else:
                _prepare(piece, until, outcome)
        batch = more(outcome.rows) if perf_counter() < until else ()
    if outcome.failed:
        over = {request for request, _ in outcome.failed}
        outcome.ready = [piece for piece in outcome.ready if piece.request not in over]
        outcome.put_off = [entry for entry in outcome.put_off if entry[0] not in over]
    return outcome


def _prepare(piece: Unprepared, until: float, outcome: PreparationOutcome) -> None:
    """Prepare inputs, each as its own piece."""
    request = piece.request
    assert request.preparation is not None
    for number, index in enumerate(piece.indices):
        now = perf_counter()
        if request.over:
            return
        if outcome.ready and now >= until:
            piece.indices = piece.indices[number:]
            (outcome.rests if number else outcome.left).append(piece)
            return
        try:
            check_time(request, now)
            row = request.preparation.prepare(index, Effort.MODERATE)
            fields = request.preparation.collate((row,))
            outcome.ready.append(Piece(request, index, 1, fields, piece.since))
        except EffortExceeded as error:
            outcome.put_off.append((request, index, error.effort))
        # Whatever a recipe raises, the request must fail with it and the worker must survive.
        except Exception as error:
            outcome.failed.append((request, error))
            return


def check_time(request: Request, now: float) -> None:
    """Check that a request's deadline has not passed.

    Raises:
        DeadlineExceeded: it has.
    """
    if request.deadline <= now:
        raise DeadlineExceeded("the deadline passed before the inputs could be prepared")
