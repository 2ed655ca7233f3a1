import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.openloop import BROKEN, OpenLoop, Phase, Records, arrivals

BODY = bytes(3000)


def answer(status: int, headers: str = "") -> bytes:
    body = b'{"results":[{"labels":[{"label":"circle","score":1.0}]}]}'
    return f"HTTP/1.1 {status} Words\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body


class Stub:
    """Answers every request on every connection by a rule, each connection in a thread."""

    def __init__(self, rule: Callable[[int], bytes]) -> None:
        self._rule = rule
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._lock = threading.Lock()
        self.port = self._listener.getsockname()[1]
        self.asked = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while stream.readline():
                while stream.readline() != b"\r\n":
                    pass
                stream.read(len(BODY))
                with self._lock:
                    number, self.asked = self.asked, self.asked + 1
                data = self._rule(number)
                if not data:
                    return
                connection.sendall(data)


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[int], bytes]], Stub]]:
    stubs: list[Stub] = []

    def start(rule: Callable[[int], bytes]) -> Stub:
        stubs.append(Stub(rule))
        return stubs[-1]

    yield start
    for stub in stubs:
        stub.close()


def requests(count: int = 3) -> list[bytes]:
    return [b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY] * count


def test_every_request_is_sent_and_its_answer_noted(serve: Callable[..., Stub], tmp_path: Path) -> None:
    stub = serve(
        lambda n: (
            answer(503, "retry-after: 1\r\n") if n % 4 == 0 else answer(200, "x-cultivar-version: a/b@1\r\n")
        )
    )
    records = OpenLoop(stub.port, requests()).run([Phase(200, 0.3), Phase(400, 0.3)])
    assert stub.asked == len(records.due) > 100
    assert set(records.status.tolist()) == {200, 503}
    assert (records.retry == (records.status == 503)).all()
    assert {records.names[n] for n in records.ref[records.status == 200]} == {"a/b@1"}
    assert {records.names[n] for n in records.label} == {"circle"}
    assert (records.ended >= records.sent).all()
    assert (records.sent >= records.due).all()
    records.save(tmp_path / "records.npz")
    again = Records.load(tmp_path / "records.npz")
    assert again.names == records.names
    np.testing.assert_array_equal(again.status, records.status)
    assert len(again.within(0).due) + len(again.within(1).due) == len(records.due)


def test_a_slow_server_does_not_hold_the_arrivals_back(serve: Callable[..., Stub]) -> None:
    def slowly(number: int) -> bytes:
        time.sleep(0.1)
        return answer(200)

    stub = serve(slowly)
    records = OpenLoop(stub.port, requests()).run([Phase(200, 0.3)])
    assert (records.status == 200).all()
    assert np.median(records.latencies_ms()) >= 100


def test_waiting_for_a_connection_counts(serve: Callable[..., Stub]) -> None:
    def slowly(number: int) -> bytes:
        time.sleep(0.02)
        return answer(200)

    stub = serve(slowly)
    records = OpenLoop(stub.port, requests(), connections=1).run([Phase(200, 0.2)])
    assert (records.status == 200).all()
    assert records.latencies_ms().max() > 5 * 20


def test_broken_connections_are_told_apart(serve: Callable[..., Stub]) -> None:
    stub = serve(lambda number: b"" if number % 5 == 0 else answer(200))
    records = OpenLoop(stub.port, requests()).run([Phase(200, 0.3)])
    assert set(records.status.tolist()) == {BROKEN, 200}
    assert (records.status == BROKEN).sum() == -(-stub.asked // 5)


def test_a_load_that_is_finished_early_ends_with_what_it_has_sent(serve: Callable[..., Stub]) -> None:
    stub = serve(lambda number: answer(200))
    load = OpenLoop(stub.port, requests())
    threading.Timer(0.3, load.finish).start()
    records = load.run([Phase(200, 0.1), Phase(200, 60.0), Phase(200, 60.0)])
    assert stub.asked == len(records.due)
    assert (records.status == 200).all()
    assert len(records.edges) == len(records.generator_s) + 1 == 3
    assert records.edges[-1] - records.edges[0] < 10


def test_arrivals_are_a_seeded_poisson_process_in_phases() -> None:
    phases = [Phase(1000, 2.0), Phase(100, 2.0)]
    due, phase, edges = arrivals(phases, seed=3)
    np.testing.assert_array_equal(due, arrivals(phases, seed=3)[0])
    assert edges.tolist() == [0.0, 2.0, 4.0]
    assert (np.diff(due) >= 0).all()
    assert ((due >= 2.0) == (phase == 1)).all()
    assert 1800 < (phase == 0).sum() < 2200
    gaps = np.diff(due[phase == 0])
    assert np.std(gaps) == pytest.approx(np.mean(gaps), rel=0.15)


def test_failures_are_counted_by_what_the_server_said_of_them(serve: Callable[..., Stub]) -> None:
    def rule(number: int) -> bytes:
        body = b'{"error":{"code":"overloaded","message":"%d rows wait already","hint":"Later."}}' % number
        refusal = b"HTTP/1.1 503 Words\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        return (refusal, answer(200), b"", answer(500))[number % 4]

    stub = serve(rule)
    failures = OpenLoop(stub.port, requests()).run([Phase(200, 0.3)]).failures()
    assert set(failures) == {"503 overloaded: N rows wait already", "no answer", "500"}
    assert abs(sum(failures.values()) - 3 * stub.asked / 4) < 1
