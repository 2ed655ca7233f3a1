"""Clients that mean harm: each is answered or given up, and leaves nothing behind."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from benchmarks.hostile.attack import ATTACKS, CLOSED, HELD, Attack, NeverReads, Subject, Trailers, Unfinished
from benchmarks.hostile.delivery import Delivery
from benchmarks.watch import handles
from tests.builders import SIDE, picture
from tests.contracts.http import PNG
from tests.contracts.http.asking import base64_of, wait_for
from tests.contracts.http.running import Running, memory_bytes, serving, worker_pids

SUBJECT = Subject(
    target="digits", row=(SIDE, SIDE, 3), body_bytes=900 << 10, side=1000, vain_bytes=8 << 20, connections=8
)
LIMITS = {"head_s": 1.0, "body_s": 1.0, "write_s": 1.0, "max_request_pixels": 16_000_000}
REFUSALS = {"400", "404", "405", "413", "415", "422", "431"}
GROWTH_BYTES = 96 << 20
"""What the last round may have left beyond the one before, generously: the allocator keeps pages."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("hostile"), **LIMITS) as running:
        # BentoML opens files for its metrics when its operations are first asked.
        for operation in ("classify", "embed"):
            body = {"target": "digits", "images": [base64_of(picture())]}
            assert httpx.post(f"{running.url}/{operation}", json=body).status_code == 200
        yield running


@pytest.fixture(scope="module", params=ATTACKS, ids=[kind.name.replace(" ", "-") for kind in ATTACKS])
def attack(request: pytest.FixtureRequest) -> Attack:
    kind: type[Attack] = request.param
    return kind(SUBJECT)


def strikes(attack: Attack) -> int:
    """As many as there are requests, where it sends some in turns."""
    return 1 if isinstance(attack, NeverReads) else len(getattr(attack, "requests", (0, 1)))


def open_files(running: Running) -> int:
    return handles(worker_pids(running.server.pid))


def is_well(running: Running) -> bool:
    answer = httpx.post(f"{running.url}/v1/classify/digits", content=picture(), headers=PNG, timeout=20)
    return answer.status_code == 200 and httpx.get(f"{running.url}/livez").status_code == 200


def struck(attack: Attack, running: Running, delivery: Delivery, turn: int) -> list[str]:
    port = running.server.settings.port
    patience_s = 2.5 if isinstance(attack, NeverReads) else 4
    return attack.strike(port, delivery, turn, time.monotonic() + patience_s).split()


@pytest.mark.parametrize("delivery", [Delivery.POST, Delivery.CHUNKED, Delivery.PIPELINED])
def test_every_hostile_request_is_refused_or_answered(
    running: Running, attack: Attack, delivery: Delivery
) -> None:
    assert is_well(running)
    before = open_files(running)
    for turn in range(strikes(attack)):
        outcome = struck(attack, running, delivery, turn)
        if isinstance(attack, NeverReads):
            # Answers that the system takes for the client leave the connection idle, which holds no place.
            assert outcome in ([CLOSED], [HELD])
        elif isinstance(attack, Unfinished):
            assert outcome == [CLOSED]
        elif isinstance(attack, Trailers):
            assert outcome[-1] == "431"
        else:
            assert {*outcome} <= REFUSALS | {"200"}
    assert is_well(running)
    wait_for(lambda: open_files(running) <= before)


@pytest.mark.parametrize(
    ("delivery", "status"), [(Delivery.OPTIONS, "204"), (Delivery.HEAD, "405")], ids=["OPTIONS", "HEAD"]
)
def test_the_same_by_methods_that_take_no_body_is_answered_from_the_head(
    running: Running, attack: Attack, delivery: Delivery, status: str
) -> None:
    for turn in range(strikes(attack)):
        outcome = struck(attack, running, delivery, turn)
        # Pages know these methods, and where nothing is there are none; of what never ends the end is refused.
        assert {*outcome} <= {status, "200", "204", "404", "431", "400", CLOSED, HELD}
    assert is_well(running)


def test_six_at_once_leave_others_their_answers(running: Running, attack: Attack) -> None:
    before = open_files(running)
    memory = []
    for number in range(3):
        with ThreadPoolExecutor(6) as pool:
            under_way = [
                pool.submit(struck, attack, running, Delivery.POST, turn)
                for turn in range(number, number + 6)
            ]
            assert is_well(running)
            outcomes = [each.result() for each in under_way]
        assert all(outcomes)
        memory.append(memory_bytes(running))
    assert is_well(running)
    assert memory[2] - memory[1] < GROWTH_BYTES
    wait_for(lambda: open_files(running) <= before)


def test_nothing_of_it_is_an_error_of_the_server(running: Running) -> None:
    log = running.log.read_text()
    assert "Traceback" not in log
    assert "a request failed" not in log


def test_places_are_free_again_when_nobody_reads(tmp_path: Path) -> None:
    with (
        serving(tmp_path, **LIMITS | {"max_requests": 2, "deadline_s": 5.0}) as running,
        ThreadPoolExecutor(1) as pool,
    ):
        until = time.monotonic() + 8
        port = running.server.settings.port
        strike = pool.submit(NeverReads(SUBJECT).strike, port, Delivery.POST, 0, until)
        wait_for(lambda: is_well(running))
        strike.result()
        assert is_well(running)
