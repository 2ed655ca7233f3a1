"""The engine: rows in, futures out.

Plain arrays; it knows nothing of HTTP. Rows wait in one queue for each root segment and row
shape, bounded in rows. As soon as a runner is free it takes the oldest rows and whatever else
waits for the same program, up to a batch and its share, and runs them: nothing ever waits for
company. What was cancelled or has outlived its deadline leaves the queue before it costs
anything. A batch that fails is cut in halves and run again, so that only the guilty request
fails.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Protocol, TypeAlias

import numpy as np

from registry.errors import InvalidInput, RuntimeFailure
from registry.signature import TensorSpec
from services.errors import DeadlineExceeded, Overloaded

Arrays: TypeAlias = Mapping[str, np.ndarray]
Answer: TypeAlias = "asyncio.Future[dict[str, np.ndarray]]"


class Runnable(Protocol):
    """What the engine runs.

    Attributes:
        root: name of the queue: the digest of the first segment that rows pass through.
        inputs: the tensors of a batch; every first dimension is the batch.
    """

    root: str
    inputs: tuple[TensorSpec, ...]

    def run(self, fields: Arrays) -> Arrays:
        """Compute every output for a batch; rows do not see one another."""
        ...


class Observer(Protocol):
    """Whoever wants to know what the engine does; called from its threads."""

    def batch(self, root: str, rows: int, waits_s: Sequence[float], run_s: float) -> None:
        """A batch of one root ran: its rows, how long each part of it waited, how long it ran."""
        ...

    def queued(self, root: str, rows: int) -> None:
        """The number of rows that wait for a root changed."""
        ...


class _Request:
    """All the rows of one call, and where their outputs gather."""

    __slots__ = ("deadline", "fields", "future", "left", "parts")

    def __init__(self, fields: Arrays, future: Answer, deadline: float, pieces: int) -> None:
        self.fields = fields
        self.future = future
        self.deadline = deadline
        self.parts: list[Arrays | None] = [None] * pieces
        self.left = pieces


class _Piece:
    """As many rows of a request as one batch takes."""

    __slots__ = ("number", "program", "queued_at", "request", "rows", "start")

    def __init__(
        self, request: _Request, program: Runnable, number: int, start: int, rows: int, now: float
    ) -> None:
        self.request = request
        self.program = program
        self.number = number
        self.start = start
        self.rows = rows
        self.queued_at = now

    def fields(self) -> Arrays:
        """This piece's rows of every field."""
        fields = self.request.fields
        if len(self.request.parts) == 1:
            return fields
        return {name: array[self.start : self.start + self.rows] for name, array in fields.items()}


class RootQueue:
    """The rows that wait for one root segment in one shape, oldest first."""

    __slots__ = ("_pieces", "root", "rows")

    def __init__(self, root: str) -> None:
        self.root = root
        self.rows = 0
        self._pieces: deque[_Piece] = deque()

    def put(self, piece: _Piece) -> None:
        """Add a piece at the end."""
        self._pieces.append(piece)
        self.rows += piece.rows

    def oldest(self) -> float | None:
        """When the oldest piece arrived, or None where nothing waits."""
        return self._pieces[0].queued_at if self._pieces else None

    def take(self, max_rows: int, now: float) -> tuple[list[_Piece], list[_Piece]]:
        """Remove the next batch: the oldest live piece and those of its program that fit with it.

        Returns:
            The batch, and the pieces met on the way whose deadline had passed.
        """
        batch: list[_Piece] = []
        expired: list[_Piece] = []
        passed: list[_Piece] = []
        room = max_rows
        pieces = self._pieces
        while pieces and room > 0:
            piece = pieces.popleft()
            if piece.request.future.done():
                self.rows -= piece.rows
            elif piece.request.deadline <= now:
                self.rows -= piece.rows
                expired.append(piece)
            elif batch and (piece.program is not batch[0].program or piece.rows > room):
                passed.append(piece)
            else:
                self.rows -= piece.rows
                room -= piece.rows
                batch.append(piece)
        pieces.extendleft(reversed(passed))
        return batch, expired

    def drain(self) -> list[_Piece]:
        """Remove everything."""
        pieces = list(self._pieces)
        self._pieces.clear()
        self.rows = 0
        return pieces


class Engine:
    """Runs programs in batches on its own threads.

    ``submit`` belongs to the event loop that the engine was made in; the futures that it returns
    are that loop's.

    Args:
        max_batch_rows: rows of one run.
        max_queue_rows: rows that may wait for one root.
        runners: runs under way at once.
        observer: told of every batch.
    """

    def __init__(self, *, max_batch_rows: int, max_queue_rows: int, runners: int, observer: Observer) -> None:
        self._loop = asyncio.get_running_loop()
        self._max_batch_rows = max_batch_rows
        self._max_queue_rows = max_queue_rows
        self._observer = observer
        self._queues: dict[tuple[object, ...], RootQueue] = {}
        self._work = threading.Condition(threading.Lock())
        self._idle = 0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"engine-{number}", daemon=True)
            for number in range(runners)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, program: Runnable, fields: Arrays, deadline: float = float("inf")) -> Answer:
        """Queue the rows of one request.

        Args:
            program: what to run them through.
            fields: an array for every input of the program, first dimension the rows, 1 or more.
            deadline: ``time.perf_counter()`` after which nobody waits for the answer any more.

        Returns:
            A future of every output, first dimension the rows; cancel it to withdraw the request.
            It fails with ``DeadlineExceeded``, or with what the program raised.

        Raises:
            InvalidInput: the arrays are not what the program takes.
            Overloaded: too many rows wait already.
        """
        rows = _count(program, fields)
        key = (program.root, *(fields[spec.name].shape[1:] for spec in program.inputs))
        now = perf_counter()
        future: Answer = self._loop.create_future()
        step = self._max_batch_rows
        request = _Request(fields, future, deadline, -(-rows // step))
        with self._work:
            if self._closed:
                raise Overloaded("the server is shutting down", "shutdown")
            queue = self._queues.get(key)
            if queue is None:
                queue = self._queues[key] = RootQueue(program.root)
            if queue.rows and queue.rows + rows > self._max_queue_rows:
                raise Overloaded(f"{queue.rows} rows wait for this model already", "queue")
            for number, start in enumerate(range(0, rows, step)):
                queue.put(_Piece(request, program, number, start, min(step, rows - start), now))
            if self._idle:
                self._work.notify(min(self._idle, len(request.parts)))
        return future

    @property
    def queues(self) -> tuple[RootQueue, ...]:
        """The queues there are, empty ones too."""
        with self._work:
            return tuple(self._queues.values())

    def forget(self, roots: set[str]) -> None:
        """Drop the empty queues of every root but these: their programs are gone."""
        with self._work:
            for key in [
                key for key, queue in self._queues.items() if queue.root not in roots and not queue.rows
            ]:
                del self._queues[key]

    def close(self) -> None:
        """Stop the runners after the batches under way; what waits is refused."""
        with self._work:
            self._closed = True
            waiting = [piece for queue in self._queues.values() for piece in queue.drain()]
            self._work.notify_all()
        self._tell(self._refuse, waiting)
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        while batch := self._next():
            started = perf_counter()
            settled = self._run(batch)
            finished = perf_counter()
            self._tell(self._settle, settled)
            root = batch[0].program.root
            self._observer.batch(
                root,
                sum(piece.rows for piece in batch),
                [started - piece.queued_at for piece in batch],
                finished - started,
            )

    def _next(self) -> list[_Piece]:
        """Wait for the next batch; empty when the engine closes."""
        with self._work:
            while not self._closed:
                ages = [
                    (age, queue) for queue in self._queues.values() if (age := queue.oldest()) is not None
                ]
                if not ages:
                    self._idle += 1
                    self._work.wait()
                    self._idle -= 1
                    continue
                queue = min(ages, key=_age)[1]
                # An equal share of what waits, or one runner would take all and leave the others scraps.
                share = -(-queue.rows // len(self._threads))
                batch, expired = queue.take(min(self._max_batch_rows, share), perf_counter())
                self._observer.queued(queue.root, queue.rows)
                if expired:
                    self._tell(self._expire, expired)
                if batch:
                    return batch
        return []

    def _run(self, batch: Sequence[_Piece]) -> list[tuple[_Piece, Arrays | Exception]]:
        try:
            return _split(batch, batch[0].program.run(_gather(batch)))
        # Whatever a program raises, the request must hear of it and the thread must live on.
        except Exception as error:
            if len(batch) == 1:
                return [(batch[0], error)]
            middle = len(batch) // 2
            return self._run(batch[:middle]) + self._run(batch[middle:])

    def _tell(self, what: object, settled: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(what, settled)  # type: ignore[arg-type]

    @staticmethod
    def _settle(settled: Sequence[tuple[_Piece, Arrays | Exception]]) -> None:
        for piece, outcome in settled:
            request = piece.request
            if isinstance(outcome, Exception):
                _fail(request.future, outcome)
                continue
            request.parts[piece.number] = outcome
            request.left -= 1
            if not request.left and not request.future.done():
                request.future.set_result(_join(request.parts))

    @staticmethod
    def _refuse(pieces: Sequence[_Piece]) -> None:
        for piece in pieces:
            _fail(piece.request.future, Overloaded("the server is shutting down", "shutdown"))

    @staticmethod
    def _expire(pieces: Sequence[_Piece]) -> None:
        for piece in pieces:
            _fail(piece.request.future, DeadlineExceeded("the deadline passed before a model was free"))


def _age(entry: tuple[float, RootQueue]) -> float:
    return entry[0]


def _count(program: Runnable, fields: Arrays) -> int:
    """Check arrays against a program's inputs; return how many rows they hold."""
    counts = set()
    for spec in program.inputs:
        array = fields.get(spec.name)
        if array is None or not spec.accepts(array):
            came = "nothing" if array is None else f"{array.dtype} {list(array.shape)}"
            raise InvalidInput(f"{spec.name} is {spec.dtype} {list(spec.shape)}, got {came}")
        counts.add(len(array))
    if len(counts) != 1 or not (rows := counts.pop()):
        raise InvalidInput("a request holds one row or more, the same number in every field")
    return rows


def _gather(batch: Sequence[_Piece]) -> Arrays:
    if len(batch) == 1:
        return batch[0].fields()
    parts = [piece.fields() for piece in batch]
    return {
        spec.name: np.concatenate([part[spec.name] for part in parts]) for spec in batch[0].program.inputs
    }


def _split(batch: Sequence[_Piece], outputs: Arrays) -> list[tuple[_Piece, Arrays | Exception]]:
    rows = sum(piece.rows for piece in batch)
    for name, array in outputs.items():
        if len(array) != rows:
            raise RuntimeFailure(f"output {name!r} has one row for each of {rows} inputs, got {len(array)}")
    if len(batch) == 1:
        return [(batch[0], outputs)]
    settled: list[tuple[_Piece, Arrays | Exception]] = []
    start = 0
    for piece in batch:
        stop = start + piece.rows
        settled.append((piece, {name: array[start:stop] for name, array in outputs.items()}))
        start = stop
    return settled


def _join(parts: Sequence[Arrays | None]) -> dict[str, np.ndarray]:
    whole = [part for part in parts if part is not None]
    if len(whole) == 1:
        return dict(whole[0])
    return {name: np.concatenate([part[name] for part in whole]) for name in whole[0]}


def _fail(future: Answer, error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
