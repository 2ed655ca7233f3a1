"""No file handles left: nobody new is taken, nobody is lost, and it ends when handles come free."""

import os
import resource
import socket
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.builders import picture
from tests.contracts.http import PNG, serving, worker_pids

pytestmark = pytest.mark.skipif(
    not hasattr(resource, "prlimit"), reason="limits of others are set on Linux alone"
)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_without_file_handles_waits_and_goes_on(tmp_path: Path, workers: int) -> None:
    with serving(tmp_path, workers=workers) as running, httpx.Client(base_url=running.url) as before:
        pids = worker_pids(running.server.pid)
        assert before.post("/v1/classify/digits", content=picture(), headers=PNG).status_code == 200
        limits = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in pids}
        address = ("127.0.0.1", running.server.settings.port)
        with ExitStack() as stack:
            for pid, (_, hard) in limits.items():
                held = len(list(Path(f"/proc/{pid}/fd").iterdir()))
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (held, hard))
            for _ in range(60):
                stack.enter_context(socket.create_connection(address, timeout=10))
            # The connection that was there is answered all along.
            for _ in range(5):
                answer = before.post("/v1/classify/digits", content=picture(), headers=PNG)
                assert answer.status_code == 200
            for pid, limit in limits.items():
                resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)
            answer = httpx.post(
                f"{running.url}/v1/classify/digits", content=picture(), headers=PNG, timeout=60
            )
            assert answer.status_code == 200
        assert worker_pids(running.server.pid) == pids
        assert all(Path(f"/proc/{pid}").exists() for pid in (os.getpid(), *pids))


def test_idle_connections_beyond_the_handles_give_way(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Children inherit it: 320 handles are 64 connections, beside what a worker needs itself.
    resource.setrlimit(resource.RLIMIT_NOFILE, (320, hard))
    try:
        context = serving(tmp_path)
        running = context.__enter__()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with ExitStack() as stack:
        stack.push(context)
        (pid,) = worker_pids(running.server.pid)
        for _ in range(300):
            stack.enter_context(
                socket.create_connection(("127.0.0.1", running.server.settings.port), timeout=10)
            )
        for _ in range(5):
            answer = httpx.post(
                f"{running.url}/v1/classify/digits", content=picture(), headers=PNG, timeout=60
            )
            assert answer.status_code == 200
        assert len(list(Path(f"/proc/{pid}/fd").iterdir())) < 320
