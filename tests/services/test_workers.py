"""Several workers: one count, and nothing left behind."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.builders import picture
from tests.contracts.http import PNG, metric, serving, worker_pids


def test_counters_of_two_workers_equal_the_clients_count(tmp_path: Path) -> None:
    """Also after one of them was killed; and leaving the server leaves no process."""
    with serving(tmp_path, workers=2) as running:
        pid = running.server.pid
        counts = {"ok": 0, "client_error": 0}

        def ask(number: int) -> None:
            # A connection each, so that both workers get their share.
            body, outcome = (b"x", "client_error") if number % 5 == 0 else (picture(), "ok")
            answer = httpx.post(f"{running.url}/v1/classify/digits", content=body, headers=PNG)
            assert answer.status_code == (200 if outcome == "ok" else 422)
            counts[outcome] += 1

        with ThreadPoolExecutor(1) as pool:
            list(pool.map(ask, range(60)))
        assert {outcome: _count(running.url, outcome) for outcome in counts} == counts
        assert _loaded(running.url) == 2

        first, second = worker_pids(running.server.pid)
        os.kill(first, signal.SIGKILL)
        _until(
            lambda: (
                len(alive := worker_pids(running.server.pid)) == 2 and first not in alive and second in alive
            )
        )
        _until(lambda: _loaded(running.url) == 2)
        assert {outcome: _count(running.url, outcome) for outcome in counts} == counts
    assert not Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{second}").exists()


def _count(url: str, outcome: str) -> float:
    labels = f'{{operation="classify",outcome="{outcome}",target="digits"}}'
    return metric(url, f"cultivar_requests_total{labels}")


def _loaded(url: str) -> float:
    labels = '{provider="CPUExecutionProvider",target="digits",version="letters/digits@1"}'
    return metric(url, f"cultivar_loaded{labels}")


def _until(condition: object) -> None:
    assert callable(condition)
    end = time.monotonic() + 40
    while time.monotonic() < end:
        try:
            if condition():
                return
        except httpx.TransportError:  # the worker that died had this connection
            pass
        time.sleep(0.1)
    raise AssertionError("the workers did not recover")
