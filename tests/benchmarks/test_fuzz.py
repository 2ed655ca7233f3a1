import asyncio
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from benchmarks.fuzz.answers import Answers
from benchmarks.fuzz.case import LEVELS, case
from benchmarks.fuzz.client import Clients, Outcome
from benchmarks.fuzz.corpus import Served, corpus
from tests.builders import SIDE
from tests.contracts.http.running import Running, memory_bytes, serving

SERVED = Served("digits", (SIDE, SIDE, 3), "moods")
REQUESTS = corpus(SERVED)
TRIALS = 1200
PATIENT = {"deadline_s": 30.0, "line_s": 30.0, "head_s": 1.0, "body_s": 1.0}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("fuzz"), **PATIENT) as server:
        yield server


def outcomes(running: Running, first: int, count: int) -> list[Outcome]:
    port = urlsplit(running.url).port
    assert port is not None
    clients = Clients(port, [str(running.registry.home).encode()])

    async def run() -> list[Outcome]:
        statuses = await clients.learn(REQUESTS)
        assert set(statuses.values()) <= {200, 204, 404, 405}
        cases = (case(7, number, REQUESTS) for number in range(first, first + count))
        return [outcome async for outcome in clients.run(cases, 8)]

    return asyncio.run(run())


def test_mutated_requests_have_answers_of_the_interface_and_leave_no_traceback(running: Running) -> None:
    found = outcomes(running, 0, TRIALS)
    assert len(found) == TRIALS
    assert not [outcome for outcome in found if outcome.problem]
    statuses = Counter(status for outcome in found for status in outcome.statuses)
    assert statuses.keys() >= {200, 204, 400, 404, 405, 408, 413, 415, 417, 422, 431, 501, 505}
    assert b"Traceback" not in running.log.read_bytes()


def test_they_leave_no_memory_behind(running: Running) -> None:
    outcomes(running, TRIALS, 200)
    before = memory_bytes(running)
    outcomes(running, TRIALS + 200, 400)
    assert memory_bytes(running) - before < 16 << 20


def test_a_trial_is_made_by_its_seed_and_number_alone() -> None:
    assert [case(3, number, REQUESTS) for number in range(50)] == [case(3, n, REQUESTS) for n in range(50)]
    assert case(3, 0, REQUESTS) != case(4, 0, REQUESTS)


def test_everything_is_spoilt_and_some_requests_are_left_as_they_are() -> None:
    cases = [case(0, number, REQUESTS) for number in range(400)]
    assert {each.level for each in cases} == set(LEVELS)
    assert any(each.is_good for each in cases)
    assert {each.then for each in cases} == {"wait", "half-close", "leave"}


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_answers_are_read_in_whatever_pieces_they_come(size: int) -> None:
    data = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"
        b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 1\r\n\r\nc"
    )
    answers = Answers()
    for start in range(0, len(data), size):
        answers.feed(data[start : start + size])
    assert [(each.status, each.body, each.closes) for each in answers.whole] == [
        (200, b"ab", False),
        (204, b"", False),
        (400, b"c", True),
    ]
    assert not answers.partial


def test_answers_to_head_end_with_their_heads() -> None:
    answers = Answers(without_bodies=True)
    answers.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nConte")
    answers.feed(b"nt-Length: 9\r\n\r\n")
    assert [each.status for each in answers.whole] == [200, 200]


def test_every_encoding_of_inputs_is_sent() -> None:
    assert {each.encoding for each in REQUESTS} == {"JSON", "form", "array", "picture", "nothing"}
