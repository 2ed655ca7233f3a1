"""Several workers: one count, also when one of them is killed, and nothing left behind."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import uvicorn

from registry.runtime import usable_providers
from registry.settings import Settings
from services.process.server import Server, free_port
from services.settings import ServeSettings
from tests.builders import picture
from tests.contracts.http import PNG, Running, metric, serving, worker_pids


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two workers; when they were told to end, none of their processes is left."""
    with serving(tmp_path_factory.mktemp("workers"), workers=2) as running:
        yield running
        pids = (running.server.pid, *worker_pids(running.server.pid))
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_counters_of_two_workers_equal_the_clients_count(running: Running) -> None:
    counts = {"ok": 0, "client_error": 0}
    before = {outcome: _count(running.url, outcome) for outcome in counts}
    for number in range(60):
        # A connection each, so that both workers get their share.
        body, outcome = (b"x", "client_error") if number % 5 == 0 else (picture(), "ok")
        answer = httpx.post(f"{running.url}/v1/classify/digits", content=body, headers=PNG)
        assert answer.status_code == (200 if outcome == "ok" else 422)
        counts[outcome] += 1
    grown = {outcome: _count(running.url, outcome) - before[outcome] for outcome in counts}
    assert grown == counts
    assert _loaded(running.url) == 2


def test_a_worker_killed_under_load_returns_and_what_it_answered_stays_counted(running: Running) -> None:
    answered: list[int] = []
    lost: list[Exception] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                answer = httpx.post(f"{running.url}/v1/classify/digits", content=picture(), headers=PNG)
                answered.append(answer.status_code)
            except httpx.TransportError as error:
                lost.append(error)

    _until(lambda: _loaded(running.url) == 2)
    before = _count(running.url, "ok")
    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        for _ in range(2):
            _until(lambda: len(worker_pids(running.server.pid)) == 2)
            asked = len(answered)
            while len(answered) < asked + 20:
                time.sleep(0.01)
            _kill_and_wait_for_another(running)
    finally:
        over.set()
        for client in clients:
            client.join()
    assert set(answered) == {200}
    _until(lambda: _loaded(running.url) == 2)
    counted = _count(running.url, "ok") - before
    # A request may be counted whose answer did not arrive; none that was answered is missing.
    assert len(answered) <= counted <= len(answered) + len(lost)


def test_connections_that_come_at_once_are_shared_out(running: Running) -> None:
    _until(lambda: len(worker_pids(running.server.pid)) == 2 and _loaded(running.url) == 2)
    pids = worker_pids(running.server.pid)
    before = [_open_files(pid) for pid in pids]

    def more() -> list[int]:
        return [_open_files(pid) - files for pid, files in zip(pids, before, strict=True)]

    with ExitStack() as stack:
        for _ in range(24):
            stack.enter_context(socket.create_connection(("127.0.0.1", running.server.settings.port)))
        _until(lambda: sum(more()) >= 20)  # some of those that were open may have closed
        assert max(more()) - min(more()) <= 8


def test_workers_run_on_the_fast_loop_and_parser(running: Running) -> None:
    config = uvicorn.Config(app=lambda scope: None)
    config.load()
    factory = config.get_loop_factory()
    assert factory is not None
    (loop := factory()).close()
    assert type(loop).__module__ == "uvloop"
    for pid in worker_pids(running.server.pid):
        mapped = Path(f"/proc/{pid}/maps").read_text()
        assert "/uvloop/loop." in mapped
        assert "/httptools/parser/parser." in mapped


def test_idle_connections_outlast_those_of_proxies(running: Running) -> None:
    for pid in worker_pids(running.server.pid):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        assert words[words.index(b"--timeout-keep-alive") + 1] == b"75"


def test_a_worker_that_stands_still_is_replaced_and_the_other_answers(tmp_path: Path) -> None:
    with serving(tmp_path, workers=2, silence_s=3.0) as running:
        _until(lambda: _loaded(running.url) == 2)
        still, other = worker_pids(running.server.pid)
        os.kill(still, signal.SIGSTOP)

        def replaced() -> bool:
            pids = worker_pids(running.server.pid)
            return len(pids) == 2 and still not in pids and other in pids

        _until(replaced)
        for _ in range(5):
            answer = httpx.post(f"{running.url}/v1/classify/digits", content=picture(), headers=PNG)
            assert answer.status_code == 200
        _until(lambda: _loaded(running.url) == 2)
        assert f"the worker {still} shows no sign of life" in running.log.read_text()
        # One that stands still does not keep a server from its end.
        os.kill(other, signal.SIGSTOP)
        pids = worker_pids(running.server.pid)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_server_that_is_told_to_stop_while_it_replaces_a_worker_ends(tmp_path: Path) -> None:
    settings = ServeSettings.read({}, port=free_port(), workers=2)
    with (
        (tmp_path / "log").open("wb") as log,
        Server(settings, Settings.read(tmp_path / "home"), log.fileno()) as server,
    ):
        server.wait_until_ready()
        os.kill(worker_pids(server.pid)[0], signal.SIGKILL)
        time.sleep(0.06)  # by then Circus starts another one, and would not listen
        server.stop()
        end = threading.Thread(target=server.wait, daemon=True)
        end.start()
        end.join(30)
        assert not end.is_alive()


def _kill_and_wait_for_another(running: Running) -> None:
    killed, other = worker_pids(running.server.pid)
    os.kill(killed, signal.SIGKILL)

    def replaced() -> bool:
        pids = worker_pids(running.server.pid)
        return len(pids) == 2 and killed not in pids and other in pids

    _until(replaced)


def _open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _count(url: str, outcome: str) -> float:
    labels = f'{{operation="classify",outcome="{outcome}",target="digits"}}'
    return metric(url, f"cultivar_requests_total{labels}")


def _loaded(url: str) -> float:
    labels = f'{{provider="{usable_providers()[0]}",target="digits",version="letters/digits@1"}}'
    return metric(url, f"cultivar_loaded{labels}")


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            if condition():
                return
        except httpx.TransportError:  # the worker that died had this connection
            pass
        time.sleep(0.05)
    raise AssertionError("the workers did not recover")
