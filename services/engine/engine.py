"""The engine: runs queued rows in batches and distributes the outputs to their requests.

There is one queue for each root and shape, whatever the target, stage or operation, so all rows that share a root
can form one batch. A free worker takes the oldest rows and others from the same queue at once, up to the batch size
and its share. It never waits for a batch to fill. The scheduler decides which worker does what. The worker that runs
a batch also prepares its inputs, if the shape of their rows is known beforehand. A batch runs on one core. If nothing
else is running, and measurements favour it, the batch runs alone on all cores instead. Rows that arrive prepared and
cost less than passing them to a thread run in the event loop.

Requests that were cancelled or are past their deadline leave the queue before they cost anything. A batch that fails
is split in halves and run again, so that only the faulty request fails.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter, thread_time
from typing import Any

from registry.errors import InvalidInput
from services.engine.batch import Batch
from services.engine.batch_preparation import check_time, prepare
from services.engine.latency_model import CHEAP_S
from services.engine.limits import QueueLimits
from services.engine.observer import Observer
from services.engine.preparation import Effort, EffortExceeded, Preparation
from services.engine.queue import NORMAL, RootQueue
from services.engine.request import Answer, Piece, Request, Waiting
from services.engine.route import Arrays, Route
from services.engine.scheduler import Scheduler
from services.engine.threads import PrepareInput, RunBatch, WorkerThread
from services.engine.wait_estimate import WaitEstimate
from services.errors import DeadlineExceeded, Overloaded

Settled = Sequence[tuple[Piece, Arrays | Exception]]


class Engine:
    """Runs routes in batches on its own threads.

    ``submit`` and ``wait_estimate`` are called in the event loop that the engine was created in. The futures belong
    to that loop.

    Args:
        limits: limits on batches and queues.
        workers: batches that run at once, one core each.
        preparing: threads that only prepare inputs, for use with a GPU; with 0 the workers prepare what they run.
        fill: pad batches to their size: cheap on a GPU, expensive on a CPU.
        observer: notified of every batch.
    """

    def __init__(
        self, limits: QueueLimits, *, workers: int, preparing: int = 0, fill: bool = False, observer: Observer
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._limits = limits
        # A thread's CPU time covers a whole run only if neither a device nor other threads take part.
        self._counts_work = not fill
        self._observer = observer
        self._estimates: dict[str, WaitEstimate] = {}
        self._cheap: list[RootQueue] = []
        self._at_once_s = 0.0
        self._closed = False
        self._scheduler = Scheduler(
            limits,
            workers=workers,
            preparing=preparing,
            fill=fill,
            observer=observer,
            expire=lambda requests: self._tell(_expire, requests),
        )
        self._threads = [
            threading.Thread(target=self._serve, args=(worker,), name=worker.name, daemon=True)
            for worker in self._scheduler.workers
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self,
        route: Route,
        inputs: Arrays | Preparation,
        deadline: float = float("inf"),
        priority: int = NORMAL,
    ) -> Answer:
        """Queue the rows of one request.

        Args:
            route: the route to run them through.
            inputs: an array for every input of the route, whose first dimension is the rows, 1 or more; or inputs to
                prepare.
            deadline: ``time.perf_counter()`` after which the client no longer waits.
            priority: ``HIGH``, ``NORMAL`` or ``LOW``.

        Returns:
            A future of every output, whose first dimension is the rows; cancel it to withdraw the request.
            It fails with ``DeadlineExceeded``, with what a session raised, or with an ``InvalidInput`` whose ``index``
            names the input that cannot be prepared.

        Raises:
            InvalidInput: the arrays are not what the route takes.
            Overloaded: the queue is full.
        """
        future: Answer = self._loop.create_future()
        now = perf_counter()
        if isinstance(inputs, Preparation):
            self._scheduler.add(Request(route, len(inputs), future, deadline, now, priority, inputs))
            return future
        rows = _count(route, inputs)
        piece = Piece(Request(route, rows, future, deadline, now, priority), 0, rows, inputs, now)
        if self._at_once_s > 0 and self._run_at_once(piece):
            return future
        queue = self._scheduler.put(piece)
        if queue is not None:
            self._cheap.append(queue)
            if len(self._cheap) == 1:
                self._loop.call_soon(self._run_turn)
        return future

    def wait_estimate(self, route: Route) -> WaitEstimate:
        """Return the wait estimate of a route's root."""
        estimate = self._estimates.get(route.root)
        if estimate is None:
            estimate = self._estimates[route.root] = WaitEstimate(
                self._limits.line_s, self._limits.batch_rows
            )
        return estimate

    @property
    def queues(self) -> tuple[RootQueue, ...]:
        """All queues, including empty ones."""
        return self._scheduler.queues

    def row_seconds(self, root: str) -> float:
        """Return the seconds that a row of a root costs; 0.0 before any measurement. Call it in the event loop."""
        costs = [queue.latency.row_seconds for queue in self._scheduler.of_root(root)]
        return max((cost for cost in costs if cost is not None), default=0.0)

    def forget(self, roots: set[str]) -> None:
        """Drop the empty queues of all other roots, whose sessions are gone."""
        self._scheduler.forget(roots)
        for root in [
            root for root, estimate in self._estimates.items() if root not in roots and not estimate.rows
        ]:
            del self._estimates[root]

    def close(self) -> None:
        """Stop the workers after their current work; waiting requests are refused."""
        self._closed = True
        self._tell(_refuse, self._scheduler.close())
        for thread in self._threads:
            thread.join()

    def _serve(self, worker: WorkerThread) -> None:
        while (work := self._scheduler.next(worker)) is not None:
            if isinstance(work, RunBatch):
                self._run_batch(worker, work.queue, work.pieces)
            else:
                self._prepare(worker, work)

    def _run_batch(self, worker: WorkerThread, queue: RootQueue, batch: Sequence[Waiting]) -> None:
        pieces = [piece for piece in batch if isinstance(piece, Piece)]
        if len(pieces) < len(batch):
            pieces = self._prepared(worker, queue, batch)
        if pieces:
            settled = self._run(queue, pieces, alone=worker.alone)
            self._scheduler.end(worker)
            self._tell(_settle, settled)

    def _prepared(self, worker: WorkerThread, queue: RootQueue, batch: Sequence[Waiting]) -> list[Piece]:
        """Prepare the inputs of a batch; return the pieces that can run."""
        outcome = prepare(batch, partial(self._scheduler.take_more, queue))
        for request, error in outcome.failed:
            self._tell(request.fail, error)
        for request, index, effort in outcome.put_off:
            self._put_off(request, index, effort)
        if outcome.left or outcome.rests:
            try:
                self._scheduler.put_back(queue, outcome.left, outcome.rests)
            except Overloaded:  # the engine is closing
                self._tell(_refuse, [piece.request for piece in (*outcome.left, *outcome.rests)])
        if outcome.ready:
            self._scheduler.claim_all_cores(worker, queue, outcome.ready[0].request.route, outcome.rows)
        return outcome.ready

    def _prepare(self, worker: WorkerThread, work: PrepareInput) -> None:
        """Prepare one input, or all inputs of a request if they are small, and queue the rows that can run now."""
        request, index = work.request, work.index
        preparation = request.preparation
        if request.over or preparation is None:
            return
        try:
            check_time(request, perf_counter())
            if index is None:
                first, rows = 0, [preparation.prepare(each, Effort.SMALL) for each in range(request.rows)]
            else:
                row = preparation.prepare(index, work.most)
                whole = None if request.prepared is None else request.prepared.add(index, row)
                if request.prepared is not None and whole is None:
                    return
                first, rows = (index, [row]) if whole is None else (0, whole)
            piece = Piece(request, first, len(rows), preparation.collate(rows), request.queued_at)
            self._scheduler.put_prepared(worker, piece)
        except EffortExceeded as error:
            self._put_off(request, index, error.effort)
        # Whatever a recipe raises, the request must fail with it and the worker must survive.
        except Exception as error:
            self._tell(request.fail, error)

    def _put_off(self, request: Request, index: int | None, effort: Effort) -> None:
        try:
            self._scheduler.put_off(request, index, effort)
        except Overloaded as error:
            self._tell(request.fail, error)

    def _run_at_once(self, piece: Piece) -> bool:
        """Run a request in the event loop at once if it is cheap and no other waits, or return False.

        This saves two iterations of the loop, but requests that arrive together then share no batch. So it is done
        only after an iteration in which requests arrived alone, and until they took ``CHEAP_S`` together. More in one
        iteration would block the loop, and hide that requests arrive together.
        """
        request = piece.request
        queue = self._scheduler.find(request.route, piece.fields)
        if queue is None or queue.rows or self._cheap or self._closed or not queue.latency.cheap:
            return False
        if request.rows > min(CHEAP_S / (queue.latency.work or CHEAP_S), self._scheduler.most(queue)):
            return False
        if request.deadline <= request.queued_at:
            return False
        _settle(self._run(queue, (piece,), alone=False))
        self._at_once_s -= perf_counter() - request.queued_at
        return True

    def _run_turn(self) -> None:
        """Run the cheap requests that arrived in one iteration of the event loop; others wait for a worker.

        Also note whether requests shared a batch: if none did, the next ones need not wait for an iteration.
        """
        cheap, self._cheap = self._cheap, []
        company = False
        for queue in cheap:
            pieces, again = self._scheduler.take_in_loop(queue)
            if again:
                self._cheap.append(queue)
            if pieces:
                company |= again or len(pieces) > 1
                _settle(self._run(queue, pieces, alone=False))
        if self._cheap:
            self._loop.call_soon(self._run_turn)
        self._at_once_s = 0.0 if company else CHEAP_S

    def _run(self, queue: RootQueue, pieces: Sequence[Piece], *, alone: bool) -> Settled:
        batch = Batch(pieces)
        counts = self._counts_work and not alone
        measures = counts and queue.latency.doubted
        worked = thread_time() if measures else 0.0
        began = perf_counter()
        settled = _attempt(batch, alone=alone)
        run_s = perf_counter() - began
        work = thread_time() - worked if measures else None
        queue.latency.observe(batch.rows, run_s, alone=alone)
        if counts:
            queue.latency.weigh(batch.rows, run_s, work)
        waits = [began - piece.request.queued_at for piece in batch.pieces]
        self._observer.batch(queue.root, batch.rows, waits, run_s - batch.heads_s, batch.heads_s)
        return settled

    def _tell(self, what: Callable[[Any], None], settled: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(what, settled)


def _attempt(batch: Batch, *, alone: bool) -> Settled:
    """Run a batch; if it fails, run its halves."""
    try:
        return list(zip(batch.pieces, batch.run(alone=alone), strict=True))
    # Whatever a session raises, the request must fail with it and the worker must survive.
    except Exception as error:
        pieces = batch.pieces
        if len(pieces) == 1:
            return [(pieces[0], error)]
        middle = len(pieces) // 2
        return [
            *_attempt(Batch(pieces[:middle]), alone=alone),
            *_attempt(Batch(pieces[middle:]), alone=alone),
        ]


def _settle(settled: Settled) -> None:
    for piece, outcome in settled:
        if isinstance(outcome, Exception):
            piece.request.fail(outcome)
        else:
            piece.request.settle(piece.start, piece.rows, outcome)


def _refuse(requests: Sequence[Request]) -> None:
    for request in requests:
        request.fail(Overloaded("the server is shutting down", "shutdown"))


def _expire(requests: Sequence[Request]) -> None:
    for request in requests:
        request.fail(DeadlineExceeded("the deadline passed before a model was free"))


def _count(route: Route, fields: Arrays) -> int:
    """Check arrays against a route's inputs; return their number of rows."""
    counts = set()
    for spec in route.inputs:
        array = fields.get(spec.name)
        if array is None or not spec.accepts(array):
            came = "nothing" if array is None else f"{array.dtype} {list(array.shape)}"
            raise InvalidInput(f"{spec.name} is {spec.dtype} {list(spec.shape)}, got {came}")
        counts.add(len(array))
    if len(counts) != 1 or not (rows := counts.pop()):
        raise InvalidInput("a request holds one row or more, the same number in every field")
    return rows
