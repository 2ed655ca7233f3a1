import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from benchmarks.load import Load, LoadFailed
from benchmarks.measurement import Measurement

SERVICE_S = 0.05
BODY = bytes(1 << 20)


class Answers(BaseHTTPRequestHandler):
    """Takes a body, waits, and answers."""

    protocol_version = "HTTP/1.1"
    status = 200

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        assert len(self.rfile.read(length)) == length
        time.sleep(SERVICE_S)
        self.send_response(self.status)
        self.send_header("Content-Length", "70000")
        self.end_headers()
        self.wfile.write(bytes(70_000))

    def log_message(self, *arguments: Any) -> None:
        pass


class Stub(ThreadingHTTPServer):
    """Takes it calmly when a client leaves before its answer."""

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[[int], int]]:
    servers: list[tuple[Stub, threading.Thread]] = []

    def start(status: int) -> int:
        handler = type("Handler", (Answers,), {"status": status})
        server = Stub(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return int(server.server_address[1])

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def requests(count: int) -> list[bytes]:
    head = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    return [head + BODY] * count


def measure(port: int, connections: int, seconds: float) -> Measurement:
    load = Load(port, requests(3), connections)
    try:
        return load.measure(os.getpid(), seconds, warm_s=0.1)
    finally:
        load.close()


def test_a_closed_loop_answers_as_often_as_its_connections_and_their_time_allow(
    serve: Callable[[int], int],
) -> None:
    measured = measure(serve(200), connections=4, seconds=0.5)
    assert measured.p50_ms >= 1e3 * SERVICE_S
    assert 0 < measured.rows <= 4 * measured.seconds / SERVICE_S
    assert measured.p50_ms <= measured.p99_ms


def test_answers_longer_than_the_window_count_by_their_share_of_it(serve: Callable[[int], int]) -> None:
    measured = measure(serve(200), connections=1, seconds=SERVICE_S / 10)
    assert 0 < measured.rows < 1.01


def test_an_answer_that_is_no_success_ends_the_measurement(serve: Callable[[int], int]) -> None:
    with pytest.raises(LoadFailed, match="expected 200 from the server"):
        measure(serve(503), connections=2, seconds=0.2)


def test_the_share_that_the_generator_left_is_what_the_server_could_use() -> None:
    measured = Measurement(10.0, 100.0, 8.0, 2.0, 0.0, 1.0, 1.0)
    assert measured.capacity(cores=2) == pytest.approx(0.9)
    assert (measured.rows_per_s, measured.cpu_ms_per_row) == (10.0, 80.0)
