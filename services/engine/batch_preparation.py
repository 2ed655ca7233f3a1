"""The inputs of a batch, prepared by the worker that is to run it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

from services.engine.preparation import Effort, EffortExceeded
from services.engine.request import Piece, Request, Unprepared, Waiting
from services.errors import DeadlineExceeded

MOST_S = 0.05
"""Of preparing before a batch runs: what is left then goes back, so that nobody waits for the inputs of many others."""


@dataclass(slots=True)
class PreparationOutcome:
    """What became of a batch's rows.

    Attributes:
        ready: those that can run.
        put_off: inputs that take more than may be spent here.
        left: rows of requests that had no turn, for lack of time.
        rests: rows of requests that had a turn, likewise.
        failed: requests that cannot be answered.
    """

    ready: list[Piece] = field(default_factory=list)
    put_off: list[tuple[Request, int, Effort]] = field(default_factory=list)
    left: list[Unprepared] = field(default_factory=list)
    rests: list[Unprepared] = field(default_factory=list)
    failed: list[tuple[Request, Exception]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many can run."""
        return sum(piece.rows for piece in self.ready)


def prepare(batch: Sequence[Waiting], more: Callable[[int], Sequence[Waiting]]) -> PreparationOutcome:
    """Prepare the inputs of a batch, as far as time allows; one that cannot be prepared fails its request alone.

    Args:
        batch: rows, some of which are to be prepared.
        more: returns what else may join a batch that has so many rows: what came meanwhile.
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
    """Prepare inputs, each as a piece of its own."""
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
        # Whatever a recipe raises, the request must hear of it and the worker must live on.
        except Exception as error:
            outcome.failed.append((request, error))
            return


def check_time(request: Request, now: float) -> None:
    """Check that somebody waits for a request still.

    Raises:
        DeadlineExceeded: nobody does.
    """
    if request.deadline <= now:
        raise DeadlineExceeded("the deadline passed before the inputs could be prepared")
