"""Queues, lanes, and what runs next.

Rows wait in one queue for each root and shape, whatever their target, stage or operation: all
that share a root form one batch. As soon as a lane is free it takes the oldest rows and what else
waits beside them, up to a size and to its share: nothing ever waits for company. A lane is a
thread that runs one batch at a time on one core; where nothing else is under way and measurements
say so, a batch runs alone on all cores instead. What costs less than handing it to a thread runs in the
event loop itself.

What was cancelled or has outlived its deadline leaves the queue before it costs anything. A
batch that fails is cut in halves and run again, so that only the guilty request fails.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter, thread_time
from typing import Any, Protocol

from registry.errors import InvalidInput
from services.engine import buckets
from services.engine.batch import Batch
from services.engine.line import Line
from services.engine.queue import NORMAL, RootQueue
from services.engine.request import Answer, Piece, Request
from services.engine.route import Arrays, Route
from services.errors import DeadlineExceeded, Overloaded

INLINE_S = 0.0002
"""Batches that take less run in the event loop: waking a thread and being woken costs about 0.1 ms."""

_WAITS = 50
"""What takes this many times as long waits for something, whatever its own work is, and has no place there."""

Key = tuple[object, ...]
Settled = Sequence[tuple[Piece, Arrays | Exception]]


class Observer(Protocol):
    """Whoever wants to know what the engine does; called from its threads."""

    def batch(self, root: str, rows: int, waits_s: Sequence[float], run_s: float, heads_s: float) -> None:
        """A batch ran: its rows, how long each part of it waited, how long it ran, linear heads apart."""
        ...

    def queued(self, root: str, rows: int) -> None:
        """The number of rows that wait for a root changed."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the engine takes on.

    Attributes:
        batch_rows: rows of one batch, at most 64.
        batch_tokens: rows times length of one batch of texts.
        queue_rows: rows that may wait for one root in one shape.
        queue_tokens: rows times length of the texts that may wait likewise.
        line_s: seconds that a request may be expected to take when it is let in, where the line is longer than
            a batch, or somebody was refused of late.
    """

    batch_rows: int = 32
    batch_tokens: int = 16_384
    queue_rows: int = 2048
    queue_tokens: int = 1 << 20
    line_s: float = 3.0


class Engine:
    """Runs routes in batches on its own threads.

    ``submit`` and ``line`` belong to the event loop that the engine was made in; the futures are that
    loop's.

    Args:
        limits: how much it takes on.
        lanes: batches under way at once, a core each.
        fill: batches are filled up to their size: cheap on a GPU, dear on a CPU.
        observer: told of every batch.
    """

    def __init__(self, limits: Limits, *, lanes: int, fill: bool = False, observer: Observer) -> None:
        self._loop = asyncio.get_running_loop()
        self._limits = limits
        self._lanes = lanes
        self._fill = fill
        # A thread's own seconds are all of a run's only where neither a device nor other threads take part.
        self._counts_work = not fill
        self._observer = observer
        self._queues: dict[Key, RootQueue] = {}
        self._by_root: dict[str, list[RootQueue]] = {}
        self._lines: dict[str, Line] = {}
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._idle = 0
        self._busy = 0
        self._alone = False
        self._cheap: list[RootQueue] = []
        self._at_once_s = 0.0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"lane-{number}", daemon=True)
            for number in range(lanes)
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self, route: Route, fields: Arrays, deadline: float = float("inf"), priority: int = NORMAL
    ) -> Answer:
        """Queue the rows of one request.

        Args:
            route: what to run them through.
            fields: an array for every input of the route, first dimension the rows, 1 or more.
            deadline: ``time.perf_counter()`` after which nobody waits for the answer any more.
            priority: ``HIGH``, ``NORMAL`` or ``LOW``.

        Returns:
            A future of every output, first dimension the rows; cancel it to withdraw the request.
            It fails with ``DeadlineExceeded``, or with what a session raised.

        Raises:
            InvalidInput: the arrays are not what the route takes.
            Overloaded: too many rows wait already.
        """
        rows = _count(route, fields)
        key = (route.steps[0].key, *[fields[spec.name].shape[1:] for spec in route.inputs])
        request = Request(route, fields, rows, self._loop.create_future(), deadline, perf_counter())
        if self._at_once_s > 0 and self._run_at_once(key, request):
            return request.future
        with self._lock:
            if self._closed:
                raise Overloaded("the server is shutting down", "shutdown")
            queue = self._queues.get(key)
            if queue is None:
                queue = self._queues[key] = RootQueue(route.root, _row_tokens(route, fields), self._lanes)
                self._by_root.setdefault(route.root, []).append(queue)
            self._check_room(queue, rows)
            queue.put(request, priority)
            inline = self._runs_inline(queue)
            if not inline and self._idle and not self._alone:
                self._work.notify()
        if inline and queue not in self._cheap:
            self._cheap.append(queue)
            if len(self._cheap) == 1:
                self._loop.call_soon(self._run_turn)
        return request.future

    def line(self, route: Route) -> Line:
        """Return the line that a route's rows stand in until they are answered."""
        line = self._lines.get(route.root)
        if line is None:
            line = self._lines[route.root] = Line(self._limits.line_s, self._limits.batch_rows)
        return line

    @property
    def queues(self) -> tuple[RootQueue, ...]:
        """The queues there are, empty ones too."""
        with self._lock:
            return tuple(self._queues.values())

    def row_seconds(self, root: str) -> float:
        """Return the seconds that a row of a root costs, 0.0 where nothing was measured; the event loop's business."""
        costs = [queue.clock.row_seconds for queue in self._by_root.get(root, ())]
        return max((cost for cost in costs if cost is not None), default=0.0)

    def forget(self, roots: set[str]) -> None:
        """Drop the empty queues of every root but these: their sessions are gone."""
        with self._lock:
            for key in [
                key for key, queue in self._queues.items() if queue.root not in roots and not queue.rows
            ]:
                queue = self._queues.pop(key)
                self._by_root[queue.root].remove(queue)
            self._by_root = {root: queues for root, queues in self._by_root.items() if queues}
        for root in [root for root, line in self._lines.items() if root not in roots and not line.rows]:
            del self._lines[root]

    def close(self) -> None:
        """Stop the lanes after the batches under way; what waits is refused."""
        with self._lock:
            self._closed = True
            waiting = [request for queue in self._queues.values() for request in queue.drain()]
            self._work.notify_all()
        self._tell(_refuse, waiting)
        for thread in self._threads:
            thread.join()

    def _check_room(self, queue: RootQueue, rows: int) -> None:
        waiting, tokens = queue.rows, queue.row_tokens
        if not waiting:
            return
        if waiting + rows > self._limits.queue_rows:
            raise Overloaded(f"{waiting} rows wait for this model already", "queue")
        if tokens > 1 and (waiting + rows) * tokens > self._limits.queue_tokens:
            raise Overloaded(f"{waiting * tokens} tokens wait for this model already", "queue")

    def _serve(self) -> None:
        while (work := self._next()) is not None:
            queue, pieces, alone = work
            settled = self._run(queue, pieces, alone=alone)
            with self._lock:
                self._busy -= 1
                if alone:
                    self._alone = False
                    if self._idle:
                        self._work.notify_all()
            self._tell(_settle, settled)

    def _next(self) -> tuple[RootQueue, list[Piece], bool] | None:
        """Wait for the next batch, and whether it runs alone; None when the engine closes."""
        with self._lock:
            while not self._closed:
                queue = None if self._alone else self._oldest()
                if queue is None:
                    self._idle += 1
                    self._work.wait()
                    self._idle -= 1
                    continue
                alone = not self._busy and self._should_run_alone(queue)
                pieces = self._take(queue, 1 if alone else self._lanes, alone=alone)
                if pieces:
                    self._busy += 1
                    self._alone = alone
                    if not alone and self._idle and self._oldest() is not None:
                        self._work.notify()
                    return queue, pieces, alone
        return None

    def _oldest(self) -> RootQueue | None:
        """Return the queue that a lane has to serve next: not one that the event loop is about to."""
        oldest, since = None, float("inf")
        for queue in self._queues.values():
            if queue in self._cheap:
                continue
            age = queue.oldest()
            if age is not None and age < since:
                oldest, since = queue, age
        return oldest

    def _should_run_alone(self, queue: RootQueue) -> bool:
        route = queue.next_route()
        if route is None or not route.wide:
            return False
        if any(each.rows for each in self._queues.values() if each is not queue):
            return False
        return queue.clock.choose_alone(min(queue.rows, self._most(queue, alone=True)))

    def _most(self, queue: RootQueue, *, alone: bool = False) -> int:
        """Return the rows that a batch may have."""
        most = min(self._limits.batch_rows, buckets.LARGEST)
        most = max(1, min(most, self._limits.batch_tokens // queue.row_tokens))
        return most if self._fill else queue.clock.worthwhile(most, alone=alone)

    def _take(
        self, queue: RootQueue, lanes: int, most: int = buckets.LARGEST, *, alone: bool = False
    ) -> list[Piece]:
        """Take a batch: an equal share, or one lane would have all and the others scraps."""
        share = min(most, self._most(queue, alone=alone), -(-queue.rows // lanes))
        pieces, expired = queue.take(share if self._fill else buckets.floor(share), perf_counter())
        self._observer.queued(queue.root, queue.rows)
        if expired:
            self._tell(_expire, expired)
        return pieces

    def _runs_inline(self, queue: RootQueue) -> bool:
        """Tell whether rows are done sooner here than handed over, however many wait.

        Were it to depend on their number, then a hiccup would leave a backlog to the lanes, who share the
        interpreter's lock with a busy event loop: they fell behind it until the load ended.
        """
        work, lasts = queue.clock.work, queue.clock.row_seconds
        return work is not None and lasts is not None and work < INLINE_S and lasts < _WAITS * INLINE_S

    def _run_at_once(self, key: Key, request: Request) -> bool:
        """Run a request here and now where it is cheap and nothing waits beside it, or return False.

        That spares the loop two turns, and those who come beside it a batch. So after a turn in which one
        request came alone the next ones run at once, until they took ``INLINE_S`` together: many of them in one
        turn would keep the loop from everything else, and nobody would see that they have company.
        """
        queue = self._queues.get(key)  # only this thread adds any
        if queue is None or queue.rows or self._cheap or self._closed or not self._runs_inline(queue):
            return False
        if request.rows > min(INLINE_S / (queue.clock.work or INLINE_S), self._most(queue)):
            return False
        if request.deadline <= request.queued_at:
            return False
        _settle(self._run(queue, (Piece(request, 0, request.rows),), alone=False))
        self._at_once_s -= perf_counter() - request.queued_at
        return True

    def _run_turn(self) -> None:
        """Run what is cheap of what came in a turn of the event loop; the rest has to wait for a lane.

        And learn whether requests shared a batch: where one came alone, the next ones need not wait out a turn.
        """
        cheap, self._cheap = self._cheap, []
        company = False
        for queue in cheap:
            with self._lock:
                if not queue.rows:  # a lane was there first
                    continue
                if not self._runs_inline(queue):
                    if self._idle:
                        self._work.notify()
                    continue
                pieces = self._take(queue, 1, int(INLINE_S / (queue.clock.work or INLINE_S)))
                again = queue.rows > 0
            if again:
                self._cheap.append(queue)
            if pieces:
                company |= again or len(pieces) > 1
                _settle(self._run(queue, pieces, alone=False))
        if self._cheap:
            self._loop.call_soon(self._run_turn)
        self._at_once_s = 0.0 if company else INLINE_S

    def _run(self, queue: RootQueue, pieces: Sequence[Piece], *, alone: bool) -> Settled:
        batch = Batch(pieces)
        counts = self._counts_work and not alone
        measures = counts and queue.clock.doubted
        worked = thread_time() if measures else 0.0
        began = perf_counter()
        settled = _attempt(batch, alone=alone)
        run_s = perf_counter() - began
        work = thread_time() - worked if measures else None
        queue.clock.observe(batch.rows, run_s, alone=alone)
        if counts:
            queue.clock.weigh(batch.rows, run_s, work, INLINE_S)
        waits = [began - piece.request.queued_at for piece in batch.pieces]
        self._observer.batch(queue.root, batch.rows, waits, run_s - batch.heads_s, batch.heads_s)
        return settled

    def _tell(self, what: Callable[[Any], None], settled: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(what, settled)


def _attempt(batch: Batch, *, alone: bool) -> Settled:
    """Run a batch; where it fails, its halves."""
    try:
        return list(zip(batch.pieces, batch.run(alone=alone), strict=True))
    # Whatever a session raises, the request must hear of it and the lane must live on.
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


def _row_tokens(route: Route, fields: Arrays) -> int:
    """Return what one row weighs: the length of a text, which is int64 [rows, length], or 1."""
    first = fields[route.inputs[0].name]
    return first.shape[1] if first.ndim == 2 and first.dtype.kind == "i" else 1


def _count(route: Route, fields: Arrays) -> int:
    """Check arrays against a route's inputs; return how many rows they hold."""
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
