"""How a server goes: announced, in order, at once where it is told twice, and nothing stays behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from registry.registry import Registry
from registry.settings import Settings
from services.process.server import ROOT, free_port
from tests.builders import picture, publish, tiny
from tests.contracts.http import PNG, worker_pids

BENTOML_SERVE = (sys.executable, "-m", "bentoml", "serve", "services.app:service")


@dataclass(frozen=True)
class Served:
    """A server that the command line started.

    Attributes:
        process: ``cultivar serve``.
        url: where it answers.
        folder: where it keeps what it removes in the end.
        pids: every process that it consists of.
    """

    process: "subprocess.Popen[bytes]"
    url: str
    folder: Path
    pids: tuple[int, ...]

    @property
    def address(self) -> tuple[str, int]:
        url = httpx.URL(self.url)
        return url.host, url.port or 0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = Settings.read(tmp_path_factory.mktemp("leaving") / "home", actor="tests")
    with Registry.open(settings) as registry:
        registry.promote(publish(registry, tiny()).ref, "production")
    return settings.home


@contextmanager
def served(home: Path, folder: Path, *options: str) -> Iterator[Served]:
    """Run ``cultivar serve`` until it answers."""
    command = [sys.executable, "-m", "services.cli", "--home", str(home), "serve", "--json"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", str(free_port()), *options],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(folder)},
            stdout=subprocess.PIPE,
            stderr=log,
            preexec_fn=_heed_signals,
        )
    try:
        assert process.stdout is not None
        document = json.loads(process.stdout.readline())
        supervisor = document["pid"]
        pids = (process.pid, supervisor, *worker_pids(supervisor))
        yield Served(process, document["url"], folder, pids)
    finally:
        process.kill()
        process.communicate()


def test_a_server_says_that_it_leaves_and_answers_until_it_is_told_again(home: Path, tmp_path: Path) -> None:
    with served(home, tmp_path, "--workers", "2", "--drain-seconds", "600") as server:
        assert len(server.pids) == 4
        assert httpx.get(f"{server.url}/readyz").status_code == 200
        server.process.send_signal(signal.SIGTERM)
        _until(lambda: all(httpx.get(f"{server.url}/readyz").status_code == 503 for _ in range(20)))
        assert httpx.get(f"{server.url}/readyz").json() == {
            "ready": False, "degraded": [], "refused": [], "leaving": True
        }  # fmt: skip
        for _ in range(5):
            assert _classify(server.url).status_code == 200
        assert httpx.get(f"{server.url}/livez").status_code == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        _until(lambda: not _alive(server.pids))
        assert not list(tmp_path.glob("cultivar-serve-*"))


def test_what_is_under_way_is_answered_before_the_end(home: Path, tmp_path: Path) -> None:
    body = picture()
    head = f"POST /v1/classify/digits HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(body)}"
    with served(home, tmp_path) as server, socket.create_connection(server.address, timeout=20) as client:
        client.sendall(f"{head}\r\n\r\n".encode() + body[:10])
        _classify(server.url)
        server.process.send_signal(signal.SIGTERM)
        _until(lambda: not _answers(server.url))
        assert len(_alive(server.pids)) == 3
        client.sendall(body[10:])
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert server.process.wait(60) == 0
        assert not _alive(server.pids)
        assert not list(tmp_path.glob("cultivar-serve-*"))


def test_a_signal_to_all_processes_at_once_is_one_word(home: Path, tmp_path: Path) -> None:
    """As service managers send it; a worker then hears it twice."""
    body = picture()
    head = f"POST /v1/classify/digits HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(body)}"
    with served(home, tmp_path) as server, socket.create_connection(server.address, timeout=20) as client:
        client.sendall(f"{head}\r\n\r\n".encode() + body[:10])
        _classify(server.url)
        for pid in server.pids:
            os.kill(pid, signal.SIGTERM)
        _until(lambda: not _answers(server.url))
        client.sendall(body[10:])
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert server.process.wait(60) == 0
        assert not _alive(server.pids)
        assert not list(tmp_path.glob("cultivar-serve-*"))


def test_the_end_of_the_terminal_is_a_signal_to_stop_and_nothing_to_the_processes_below(
    home: Path, tmp_path: Path
) -> None:
    with served(home, tmp_path) as server:
        for pid in server.pids[1:]:
            os.kill(pid, signal.SIGHUP)
        assert _classify(server.url).status_code == 200
        assert worker_pids(server.pids[1]) == [server.pids[2]]
        server.process.send_signal(signal.SIGHUP)
        assert server.process.wait(60) == 0
        assert not _alive(server.pids)
        assert [path.name for path in tmp_path.iterdir()] == ["log"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("phase", ["command", "folder", "supervisor", "worker"])
def test_a_signal_in_any_phase_of_the_start_leaves_nothing_behind(
    home: Path, tmp_path: Path, phase: str, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "services.cli", "--home", str(home), "serve", "--port", str(free_port())]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(tmp_path)},
            stdout=log,
            stderr=log,
            preexec_fn=_heed_signals,
        )
    seen: set[int] = set()

    def reached() -> bool:
        seen.update(_below(process.pid))
        commands = [_command(pid) for pid in seen]
        return {
            "command": True,
            "folder": bool(list(tmp_path.glob("cultivar-serve-*/owner.lock"))),
            "supervisor": any(b"bentoml\0serve" in each for each in commands),
            "worker": any(b"_bentoml_impl.worker" in each for each in commands),
        }[phase]

    try:
        _until(reached)
        process.send_signal(number)

        def ended() -> bool:
            seen.update(_below(process.pid))
            return process.poll() is not None

        _until(ended)
    finally:
        process.kill()
        process.wait()
    early = {signal.SIGTERM: {-15}, signal.SIGINT: {-2, 1, 130}, signal.SIGHUP: {-1}}[number]
    assert process.returncode in (early if phase == "command" else {0})
    _until(lambda: not _alive(tuple(seen)))
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert b"Traceback" not in (tmp_path / "log").read_bytes() or phase == "command"


def test_nothing_outlives_a_killed_command(home: Path, tmp_path: Path) -> None:
    with served(home, tmp_path, "--workers", "2") as server:
        server.process.kill()
        server.process.wait()
        _until(lambda: not _alive(server.pids))


def test_nothing_outlives_a_killed_supervisor(home: Path, tmp_path: Path) -> None:
    with served(home, tmp_path) as server:
        os.kill(server.pids[1], signal.SIGKILL)
        assert server.process.wait(60) == 1
        _until(lambda: not _alive(server.pids))
    assert b"ended with status -9" in (tmp_path / "log").read_bytes()


def test_a_server_that_bentoml_runs_says_that_it_leaves_too(home: Path) -> None:
    """``bentoml serve`` without our command, in what it takes for a container."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        environment = {
            "CULTIVAR_HOME": str(home), "CULTIVAR_SERVE_DRAIN_S": "600", "CULTIVAR_SERVE_AUTH": "off",
            "BENTOML_HOME": folder, "BENTOML_DO_NOT_TRACK": "True", "BENTOML_CONTAINERIZED": "true",
        }  # fmt: skip
        process = subprocess.Popen(
            [*BENTOML_SERVE, "--host", "127.0.0.1", "--port", str(port)],
            cwd=ROOT, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            url = f"http://127.0.0.1:{port}"
            _until(lambda: httpx.get(f"{url}/readyz").status_code == 200)
            (first,) = worker_pids(process.pid)
            os.kill(first, signal.SIGKILL)
            _until(lambda: httpx.get(f"{url}/readyz").status_code == 200)
            (second,) = worker_pids(process.pid)
            assert second != first
            process.send_signal(signal.SIGTERM)
            _until(lambda: httpx.get(f"{url}/readyz").status_code == 503)
            assert _classify(url).status_code == 200
        finally:
            process.kill()
            process.wait()
        _until(lambda: not _alive((second,)))


def _heed_signals() -> None:
    """Take back what tests that run in the background or under ``nohup`` hand on: signals that are ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _below(pid: int) -> set[int]:
    """Return the processes that a process started, and those that these did."""
    found: set[int] = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = {int(text) for text in path.read_text().split()}
        except OSError:
            continue
        found |= children.union(*(_below(child) for child in children))
    return found


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _classify(url: str) -> httpx.Response:
    return httpx.post(f"{url}/v1/classify/digits", content=picture(), headers=PNG)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/livez", timeout=1).status_code == 200
    except httpx.TransportError:
        return False


def _alive(pids: tuple[int, ...]) -> list[int]:
    """Return those that run; a zombie's parent only has to be told."""
    return [pid for pid in pids if _state(pid) not in ("", "Z", "X")]


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _until(condition: Callable[[], bool], limit_s: float = 120) -> None:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        try:
            if condition():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    raise AssertionError("what should have happened did not")
