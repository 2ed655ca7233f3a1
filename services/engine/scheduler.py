"""The scheduler: decides what each worker thread does next.

On a CPU there is one worker for each core, and each takes what has waited longest: a batch, whose inputs it prepares
before it runs them, or inputs that must be prepared before they can form a batch. So no work is passed between
threads, and no more threads work than there are cores. One more worker, the quick worker, takes only inputs and runs
of a fraction of a millisecond each, so that these never wait for long runs. With a GPU the CPU has little to run:
there some workers run batches and others prepare inputs.

Of several workers that prepare, one takes no large inputs. Requests take turns: one of more rows than a batch gives
way to others after each batch, one of many large inputs after each of these.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from operator import attrgetter
from time import perf_counter
from typing import TypeAlias

from services.engine import batch_sizes
from services.engine.latency_model import CHEAP_S
from services.engine.limits import QueueLimits
from services.engine.observer import Observer
from services.engine.preparation import Effort
from services.engine.queue import RootQueue
from services.engine.request import Piece, Request, Unprepared, Waiting
from services.engine.round_robin import RoundRobin
from services.engine.route import Arrays, Route
from services.engine.threads import PrepareInput, Role, RunBatch, Work, WorkerThread, worker_threads
from services.errors import Overloaded

_RUNS = attrgetter("runs")
_PREPARES = attrgetter("prepares")
_TAKES_LARGE = attrgetter("large")
_IS_QUICK = attrgetter("quick")

_Shapes: TypeAlias = tuple[tuple[int, ...], ...]


class Scheduler:
    """Holds the waiting work and assigns it to workers.

    Args:
        limits: limits on batches and queues.
        workers: batches that run at once.
        preparing: workers that only prepare inputs; 0 where the same workers do both.
        fill: pad batches to their size: cheap on a GPU, expensive on a CPU.
        observer: notified of the number of waiting rows.
        expire: called, with the lock held, with the requests whose deadline passed while they waited.

    Attributes:
        workers: all workers.
    """

    def __init__(
        self,
        limits: QueueLimits,
        *,
        workers: int,
        preparing: int,
        fill: bool,
        observer: Observer,
        expire: Callable[[Sequence[Request]], None],
    ) -> None:
        self._limits = limits
        self._at_once = workers
        self._apart = preparing > 0
        self._fill = fill
        self._observer = observer
        self._expire = expire
        self._lock = threading.Lock()
        self._queues: dict[tuple[object, ...], RootQueue] = {}
        self._by_root: dict[str, list[RootQueue]] = {}
        self._small: deque[Request] = deque()
        self._ahead = RoundRobin()
        self._large = RoundRobin()
        self._huge = RoundRobin()
        self._huge_under_way = False
        self._large_next = True
        self._busy = 0
        self._alone = False
        self._closed = False
        self.workers = worker_threads(workers, preparing, self._lock)
        self._idle: list[WorkerThread] = []

    @property
    def queues(self) -> tuple[RootQueue, ...]:
        """All queues, including empty ones."""
        with self._lock:
            return tuple(self._queues.values())

    def find(self, route: Route, fields: Arrays) -> RootQueue | None:
        """Return the queue for some rows, or None."""
        return self._queues.get(_key(route, _shapes(route, fields)))

    def of_root(self, root: str) -> Sequence[RootQueue]:
        """Return the queues of a root."""
        return self._by_root.get(root, ())

    def put(self, piece: Piece) -> RootQueue | None:
        """Queue rows that arrived prepared; called in the event loop.

        Returns:
            The queue, if the event loop has to run its rows in the next iteration; None otherwise.

        Raises:
            Overloaded: the queue is full.
        """
        with self._lock:
            queue = self._queue_for(piece)
            queue.put(piece)
            if not self.runs_in_loop(queue):
                self._wake(_RUNS)
            elif not queue.in_loop:
                queue.in_loop = True
                return queue
        return None

    def add(self, request: Request) -> None:
        """Queue a request with unprepared inputs.

        Raises:
            Overloaded: the queue is full.
        """
        assert request.preparation is not None
        with self._lock:
            self._check_open()
            queue = self._known(request)
            if not self._apart and request.preparation.small and (queue is None or queue.latency.cheap):
                self._small.append(request)
                if queue is not None or not self._wake(_RUNS):
                    self._wake(_IS_QUICK)
            else:
                self._add(request, queue)

    def put_off(self, request: Request, index: int | None, effort: Effort) -> None:
        """Queue again an input that takes more effort than was allowed, or a whole request with such an input.

        Raises:
            Overloaded: the queue is full.
        """
        with self._lock:
            self._check_open()
            if index is None:
                self._add(request, self._known(request))
            else:
                turns = self._huge if effort == Effort.HUGE else self._large
                turns.add(request, index, perf_counter())
                self._wake(_TAKES_LARGE)

    def put_back(self, queue: RootQueue, left: Sequence[Unprepared], rests: Sequence[Unprepared]) -> None:
        """Put back rows of a batch for which there was no time.

        Args:
            queue: the queue that they came from.
            left: rows of requests that had no turn; they come first.
            rests: rows of requests that had a turn; they come last.

        Raises:
            Overloaded: the scheduler is closed.
        """
        with self._lock:
            self._check_open()
            for piece in reversed(left):
                queue.put_first(piece)
            for piece in rests:
                queue.put_last(piece, perf_counter())
            self._wake(_RUNS)

    def put_prepared(self, worker: WorkerThread, piece: Piece) -> None:
        """Queue rows that a worker prepared; at the front if they are only some rows of their request.

        Raises:
            Overloaded: the queue is full.
        """
        with self._lock:
            queue = self._queue_for(piece)
            if piece.rows == piece.request.rows:
                queue.put(piece)
            else:
                queue.put_first(piece)
            if queue.in_loop:
                return
            if self._is_quick(queue):
                self._wake(_IS_QUICK)
            elif not worker.role.runs:
                self._wake(_RUNS)

    def next(self, worker: WorkerThread) -> Work | None:
        """End a worker's current work, if ``end`` did not, and wait for the next; None when the scheduler closes."""
        with self._lock:
            self._end(worker)
            while not self._closed:
                work = self._quick_work() if worker.role.quick else self._work(worker)
                if work is not None:
                    self._begin(worker, work)
                    return work
                self._wake(self._has_work)  # for work that this worker does not take
                self._idle.append(worker)
                worker.wake.wait()
        return None

    def end(self, worker: WorkerThread) -> None:
        """End a worker's work before its results are delivered, so that follow-up requests find its core free."""
        with self._lock:
            self._end(worker)

    def take_more(self, queue: RootQueue, rows: int) -> list[Waiting]:
        """Take a share of the rows that arrived while a batch was prepared, up to the batch limit."""
        with self._lock:
            room = self.most(queue) - rows
            if room <= 0 or not queue.rows or queue.in_loop:
                return []
            return self._take(queue, self._at_once, room)

    def claim_all_cores(self, worker: WorkerThread, queue: RootQueue, route: Route, rows: int) -> None:
        """Let a worker run a batch that it prepared alone on all cores, if there is no other work."""
        with self._lock:
            if (
                self._busy == 1
                and route.wide
                and not worker.role.quick
                and not self._anything()
                and queue.latency.choose_alone(rows)
            ):
                self._alone = worker.alone = True

    def runs_in_loop(self, queue: RootQueue) -> bool:
        """Return whether rows finish sooner in the event loop than in a worker, regardless of how many wait.

        If it depended on their number, a hiccup would leave a backlog to the workers. They share the interpreter's
        lock with the busy event loop, and fell behind it until the load ended.
        """
        return queue.latency.cheap and not queue.unprepared

    def most(self, queue: RootQueue, *, alone: bool = False) -> int:
        """Return the most rows that a batch may have."""
        most = min(self._limits.batch_rows, batch_sizes.LARGEST)
        most = max(1, min(most, self._limits.batch_tokens // queue.row_tokens))
        return most if self._fill else queue.latency.worthwhile(most, alone=alone)

    def take_in_loop(self, queue: RootQueue) -> tuple[list[Piece], bool]:
        """Take a batch for the event loop; return it, and whether more remains. Rows no longer cheap are left."""
        with self._lock:
            queue.in_loop = False
            if not queue.rows:  # a worker took them first
                return [], False
            if not self.runs_in_loop(queue):
                self._wake(_RUNS)
                return [], False
            pieces = self._take(queue, 1, int(CHEAP_S / (queue.latency.work or CHEAP_S)))
            queue.in_loop = queue.rows > 0
            return [piece for piece in pieces if isinstance(piece, Piece)], queue.in_loop

    def forget(self, roots: set[str]) -> None:
        """Drop the empty queues of all other roots."""
        with self._lock:
            for key in [
                key for key, queue in self._queues.items() if queue.root not in roots and not queue.rows
            ]:
                queue = self._queues.pop(key)
                self._by_root[queue.root].remove(queue)
            self._by_root = {root: queues for root, queues in self._by_root.items() if queues}

    def close(self) -> list[Request]:
        """Stop every worker after its current work; return the waiting requests."""
        with self._lock:
            self._closed = True
            waiting = [request for queue in self._queues.values() for request in queue.drain()]
            waiting += self._small
            self._small.clear()
            for turns in (self._ahead, self._large, self._huge):
                waiting += turns.drain()
            for worker in self._idle:
                worker.wake.notify()
            self._idle.clear()
            return waiting

    def _check_open(self) -> None:
        if self._closed:
            raise Overloaded("the server is shutting down", "shutdown")

    def _check_capacity(self, queue: RootQueue, rows: int) -> None:
        waiting, tokens = queue.rows, queue.row_tokens
        if not waiting:
            return
        if waiting + rows > self._limits.queue_rows:
            raise Overloaded(f"{waiting} rows wait for this model already", "queue")
        if tokens > 1 and (waiting + rows) * tokens > self._limits.queue_tokens:
            raise Overloaded(f"{waiting * tokens} tokens wait for this model already", "queue")

    def _known(self, request: Request) -> RootQueue | None:
        """Return the queue for a request's rows, or None if their shape is not known before they are prepared."""
        shapes = request.route.shapes
        return None if shapes is None else self._queue(request.route, shapes)

    def _queue(self, route: Route, shapes: _Shapes) -> RootQueue:
        key = _key(route, shapes)
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = RootQueue(route.root, _row_tokens(route, shapes), self._at_once)
            self._by_root.setdefault(route.root, []).append(queue)
        return queue

    def _queue_for(self, piece: Piece) -> RootQueue:
        """Return the queue for prepared rows, after checking its limits."""
        self._check_open()
        queue = self._queue(piece.request.route, _shapes(piece.request.route, piece.fields))
        self._check_capacity(queue, piece.rows)
        return queue

    def _add(self, request: Request, queue: RootQueue | None) -> None:
        if queue is not None and not self._apart:
            self._check_capacity(queue, request.rows)
            queue.put(Unprepared(request, range(request.rows), request.queued_at))
            self._wake(_RUNS)
        else:
            request.gather()
            self._ahead.add_all(request)
            self._wake(_PREPARES)

    def _begin(self, worker: WorkerThread, work: Work) -> None:
        worker.work = work
        if not worker.role.quick:
            self._busy += 1
        if isinstance(work, PrepareInput) and work.most == Effort.HUGE:
            self._huge_under_way = True
        self._wake(self._has_work)

    def _end(self, worker: WorkerThread) -> None:
        work, worker.work = worker.work, None
        if work is None:
            return
        if not worker.role.quick:
            self._busy -= 1
        if isinstance(work, PrepareInput) and work.most == Effort.HUGE:
            self._huge_under_way = False
        if worker.alone:
            self._alone = worker.alone = False

    def _quick_work(self) -> Work | None:
        """Return the quick worker's next work: inputs first, so that rows share batches, until a batch is full."""
        waiting = [
            queue
            for queue in self._queues.values()
            if queue.rows and not queue.in_loop and self._is_quick(queue)
        ]
        for queue in waiting:
            if (not self._small or queue.rows >= self.most(queue)) and (pieces := self._take(queue, 1)):
                return RunBatch(queue, pieces)
        return PrepareInput(self._small.popleft(), None, Effort.SMALL) if self._small else None

    def _work(self, worker: WorkerThread) -> Work | None:
        """Return another worker's next work: the oldest, and large inputs every other time."""
        if self._alone:
            return None
        if self._large_next and (work := self._large_work(worker.role)) is not None:
            self._large_next = False
            return work
        work = self._oldest_work(worker)
        if work is None:
            return self._large_work(worker.role)
        self._large_next = True
        return work

    def _large_work(self, role: Role) -> Work | None:
        if not role.large:
            return None
        huge = not self._huge_under_way and self._huge.since < self._large.since
        if not huge and not self._large:
            return None
        request, index = (self._huge if huge else self._large).take(perf_counter())
        return PrepareInput(request, index, Effort.HUGE if huge else Effort.LARGE)

    def _oldest_work(self, worker: WorkerThread) -> Work | None:
        while True:
            queue, since = self._oldest() if worker.role.runs else (None, float("inf"))
            if worker.role.prepares:
                if self._small and self._small[0].queued_at < min(since, self._ahead.since):
                    return PrepareInput(self._small.popleft(), None, Effort.SMALL)
                if self._ahead and self._ahead.since < since:
                    request, index = self._ahead.take(perf_counter())
                    return PrepareInput(
                        request, index, Effort.LARGE if worker.role.large else Effort.MODERATE
                    )
            if queue is None:
                return None
            alone = not self._busy and self._should_run_alone(queue)
            if pieces := self._take(queue, 1 if alone else self._at_once, alone=alone):
                self._alone = worker.alone = alone
                return RunBatch(queue, pieces)

    def _oldest(self) -> tuple[RootQueue | None, float]:
        """Return the queue with the oldest rows, if any, and since when they wait; not queues of the event loop."""
        oldest, since = None, float("inf")
        for queue in self._queues.values():
            if queue.in_loop:
                continue
            age = queue.oldest()
            if age is not None and age < since:
                oldest, since = queue, age
        return oldest, since

    def _should_run_alone(self, queue: RootQueue) -> bool:
        route = queue.next_route()
        if route is None or not route.wide or queue.unprepared:
            return False  # for an unprepared batch this is decided after its preparation
        if self._small or any(each.rows for each in self._queues.values() if each is not queue):
            return False
        return queue.latency.choose_alone(min(queue.rows, self.most(queue, alone=True)))

    def _take(
        self, queue: RootQueue, workers: int, most: int = batch_sizes.LARGEST, *, alone: bool = False
    ) -> list[Waiting]:
        """Take a batch: at most an equal share, so that one worker does not take everything."""
        share = min(most, self.most(queue, alone=alone), -(-queue.rows // workers))
        pieces, expired = queue.take(share if self._fill else batch_sizes.floor(share), perf_counter())
        self._observer.queued(queue.root, queue.rows)
        if expired:
            self._expire(expired)
        return pieces

    def _anything(self) -> bool:
        """Return whether anything waits."""
        return bool(
            self._small
            or self._ahead
            or self._large
            or self._huge
            or any(queue.rows for queue in self._queues.values())
        )

    def _is_quick(self, queue: RootQueue) -> bool:
        """Return whether the quick worker runs a queue's rows when the event loop does not."""
        return not self._apart and self.runs_in_loop(queue)

    def _is_for_runners(self, queue: RootQueue) -> bool:
        """Return whether a queue has rows for which another worker must be woken."""
        return queue.rows > 0 and not queue.in_loop and not self._is_quick(queue)

    def _has_work(self, role: Role) -> bool:
        """Return whether there is work for an idle worker; cheap rows and small inputs wake the quick worker."""
        if role.quick:
            return False
        return (
            (role.runs and any(self._is_for_runners(queue) for queue in self._queues.values()))
            or (role.prepares and bool(self._ahead))
            or (role.large and bool(self._large or (self._huge and not self._huge_under_way)))
        )

    def _wake(self, fits: Callable[[Role], bool]) -> bool:
        """Wake an idle worker whose role fits; return whether there was one."""
        for number in reversed(range(len(self._idle))):  # the last one to become idle has warm caches
            role = self._idle[number].role
            if (role.quick or not self._alone) and fits(role):
                self._idle.pop(number).wake.notify()
                return True
        return False


def _key(route: Route, shapes: _Shapes) -> tuple[object, ...]:
    return (route.steps[0].key, *shapes)


def _shapes(route: Route, fields: Arrays) -> _Shapes:
    return tuple(fields[spec.name].shape[1:] for spec in route.inputs)


def _row_tokens(route: Route, shapes: _Shapes) -> int:
    """Return the tokens of one row: the length of a text, which is int64 [rows, length], or 1."""
    return shapes[0][0] if len(shapes[0]) == 1 and route.inputs[0].dtype.startswith("int") else 1
