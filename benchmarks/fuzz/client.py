"""Sends trials over real connections, some at a time, and says what is wrong with what comes back."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import httptools

from benchmarks.connection import HOST
from benchmarks.fuzz.answers import Answer, Answers
from benchmarks.fuzz.case import Case
from benchmarks.fuzz.framing import HALF_CLOSE, LEAVE, WAIT
from benchmarks.fuzz.request import Request

ANSWERS = frozenset({200, 204, 400, 401, 403, 404, 405, 408, 409, 413, 415, 417, 422, 431, 501, 505})
"""Statuses that a request may have at a server that is not full."""

IMPATIENT = frozenset({503, 504})
"""Those of requests that say how long they wait."""

HANG_S = 20.0
"""Twice the deadline that the server under test is given."""

_PAUSE_S = 0.002
_LEAKS = (b"Traceback", b'File "', b"site-packages")
_LABEL = re.compile(rb'"labels":\[\{"label":"([^"]*)"')
_TIMEOUT = b"x-cultivar-timeout"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a trial.

    Attributes:
        number: of the trial.
        level: what was spoilt.
        statuses: of the answers.
        seconds: until the last of them.
        problem: what is wrong with them; empty where nothing is.
        began: the first bytes that were sent, where something is wrong.
    """

    number: int
    level: str
    statuses: tuple[int, ...]
    seconds: float
    problem: str = ""
    began: str = ""


class Clients:
    """So many clients, each with one connection at a time.

    Args:
        port: where the server listens on this machine.
        forbidden: texts that no answer may hold besides tracebacks.
    """

    def __init__(self, port: int, forbidden: Sequence[bytes] = ()) -> None:
        self._port = port
        self._forbidden = (*_LEAKS, *forbidden)
        self._expected: Mapping[int, tuple[int, bytes]] = {}

    async def learn(self, corpus: Sequence[Request]) -> Mapping[int, int]:
        """Send every well-formed request alone and keep its answer to compare with; return the statuses."""
        expected = {}
        for number, request in enumerate(corpus):
            async with self._connected() as (reader, writer):
                writer.write(request.to_bytes())
                answers = Answers(request.method == b"HEAD")
                await asyncio.wait_for(_read(reader, answers, 1), HANG_S)
                expected[number] = _essence(answers.whole[0])
        self._expected = expected
        return {number: status for number, (status, _) in expected.items()}

    async def run(self, cases: Iterable[Case], clients: int) -> AsyncIterator[Outcome]:
        """Send trials from several clients; yield outcomes as they come."""
        source = iter(cases)
        done: asyncio.Queue[Outcome | None] = asyncio.Queue(4 * clients)
        tasks = [asyncio.create_task(self._client(source, done)) for _ in range(clients)]
        try:
            left = clients
            while left:
                outcome = await done.get()
                if outcome is None:
                    left -= 1
                else:
                    yield outcome
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _client(self, cases: Iterator[Case], done: "asyncio.Queue[Outcome | None]") -> None:
        """Send one trial after the other, on one connection for as long as that is in order."""
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            for case in cases:
                began = time.perf_counter()
                if connection is None:
                    connection = await asyncio.open_connection(HOST, self._port)
                answers = Answers(b"HEAD " in case.sent.data)
                problem = await self._send(*connection, case, answers)
                problem = problem or self._wrong(case, answers)
                whole = answers.whole
                keeps = (
                    case.sent.intact
                    and case.then == WAIT
                    and not problem
                    and len(whole) == case.sent.answers
                    and not answers.partial
                    and not answers.without_bodies
                    and not whole[-1].closes
                )
                if not keeps:
                    await _close(connection[1], abruptly=case.then == LEAVE)
                    connection = None
                await done.put(
                    Outcome(
                        case.number,
                        case.level,
                        tuple(answer.status for answer in whole),
                        time.perf_counter() - began,
                        problem,
                        repr(case.sent.data[:400]) if problem else "",
                    )
                )
        finally:
            if connection is not None:
                await _close(connection[1])
            await done.put(None)

    async def _send(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, case: Case, answers: Answers
    ) -> str:
        """Send a trial and wait for its answers; return what went wrong with that."""
        reading = asyncio.ensure_future(_read(reader, answers, case.sent.answers))
        try:
            async with asyncio.timeout(HANG_S):
                with suppress(OSError):  # a server may refuse, and close, what it has not read
                    for number, piece in enumerate(case.pieces):
                        if number:
                            await asyncio.sleep(_PAUSE_S)
                        writer.write(piece)
                        await writer.drain()
                    if case.then == HALF_CLOSE:
                        writer.write_eof()
                if case.then == LEAVE:
                    return ""
                await reading
        except TimeoutError:
            return "hang"
        except ConnectionError as error:
            return "" if case.then == HALF_CLOSE else f"reset after {len(answers.whole)} answers: {error}"
        except httptools.HttpParserError as error:
            return f"no HTTP: {error}"
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError, ConnectionError, httptools.HttpParserError):
                await reading
        if case.then == WAIT and not answers.whole:
            return "no answer"
        return ""

    def _wrong(self, case: Case, answers: Answers) -> str:
        """Return what is wrong with the answers."""
        impatient = _TIMEOUT in case.sent.data.lower()
        for answer in answers.whole:
            status = answer.status
            if status not in ANSWERS and not (impatient and status in IMPATIENT):
                return f"status {status}: {answer.body[:200]!r}"
            for word in self._forbidden:
                if word in answer.body:
                    return f"status {status} shows {word!r}"
            if status >= 400 and not answers.without_bodies and (wrong := _wrong_error(answer)):
                return f"status {status}: {wrong}: {answer.body[:200]!r}"
        if case.is_good:
            expected = [self._expected[case.asked]] * case.sent.answers
            found = [_essence(answer) for answer in answers.whole]
            if answers.without_bodies:
                expected, found = expected[:1], found[:1]
            if found != expected:
                return f"expected {expected[0]}, got {found}"
        return ""

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection(HOST, self._port)
        try:
            yield reader, writer
        finally:
            await _close(writer)


async def stalls(port: int, every_s: float, seconds: list[float]) -> None:
    """Ask ``/livez`` over and over on a connection of its own; note how long each answer took."""
    request = Request(b"GET", b"/livez", headers=((b"Host", HOST.encode()),)).to_bytes()
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        while True:
            began = time.perf_counter()
            writer.write(request)
            await _read(reader, Answers(), 1)
            seconds.append(time.perf_counter() - began)
            await asyncio.sleep(every_s)
    finally:
        await _close(writer)


async def _read(reader: asyncio.StreamReader, answers: Answers, count: int) -> None:
    """Read until there are so many answers, or the server hangs up."""
    while len(answers.whole) < count and (data := await reader.read(1 << 16)):
        answers.feed(data)


async def _close(writer: asyncio.StreamWriter, *, abruptly: bool = False) -> None:
    if abruptly:
        writer.transport.abort()
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def _essence(answer: Answer) -> tuple[int, bytes]:
    """Return what is the same whenever a request is sent: the status, and the best labels."""
    return answer.status, b",".join(_LABEL.findall(answer.body))


def _wrong_error(answer: Answer) -> str:
    """Return in what an error is not as the interface says."""
    try:
        error = json.loads(answer.body)["error"]
    except (ValueError, KeyError, TypeError):
        return "no error document"
    if isinstance(error, dict) and all(error.get(name) for name in ("code", "message", "hint")):
        return ""
    return "code, message or hint is missing"
