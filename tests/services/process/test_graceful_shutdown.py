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
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import httpx
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from registry.registry import Registry
from registry.segments import canonical
from registry.settings import Settings
from services.process.server import ROOT, free_port
from services.settings import ServeSettings
from tests.builders import picture, publish, tiny, trunk, with_segment
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


SIDE = 2000
PRODUCTS = 6


def slow() -> bytes:
    """Return the trunk of tiny versions, with large products for every row after the first.

    So its warm-up, in which two rows come at once, takes seconds, and a single request does not.
    """
    model = onnx.load_from_string(trunk())
    graph = model.graph
    final, graph.node[-1].output[0] = graph.node[-1].output[0], "plain"
    products = [f"product {number}" for number in range(PRODUCTS + 1)]
    nodes = [
        helper.make_node("Shape", ["pixels"], ["batch and so on"], start=0, end=1),
        helper.make_node("Sub", ["batch and so on", "one"], ["more"]),
        helper.make_node("Mul", ["more", "side"], ["height"]),
        helper.make_node("Concat", ["height", "side"], ["shape"], axis=0),
        helper.make_node("Expand", ["part", "shape"], [products[0]]),
        helper.make_node("Expand", ["part", "square"], ["factor"]),
        *(helper.make_node("MatMul", [last, "factor"], [product]) for last, product in pairwise(products)),
        helper.make_node("ReduceSum", [products[-1]], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "nothing"], ["zero"]),
        helper.make_node("Add", ["plain", "zero"], [final]),
    ]
    graph.node.extend(nodes)
    constants = {
        "one": np.array([1]), "side": np.array([SIDE]), "square": np.array([SIDE, SIDE]),
        "part": np.full(1, 1 / SIDE, np.float32), "nothing": np.zeros(1, np.float32),
    }  # fmt: skip
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    return canonical(model)


@pytest.fixture
def two_versions(tmp_path: Path) -> Settings:
    """A registry with one version in production, and one that takes seconds to load."""
    settings = Settings.read(tmp_path / "home", actor="tests", environment={})
    with Registry.open(settings) as registry:
        registry.promote(publish(registry, tiny()).ref, "production")
        publish(registry, with_segment(tiny(seed=2), "pool", slow()))
    return settings


def start_loading(settings: Settings, server: Served) -> None:
    """Promote the second version, and wait until the workers are at it."""
    with Registry.open(settings) as registry:
        registry.promote("digits@2", "production")
    time.sleep(0.6)
    assert _version(server.url) == "letters/digits@1"


@contextmanager
def folder_of(tmp_path: Path) -> Iterator[Path]:
    """Make a temporary folder for a server, in which nothing but its log may be left."""
    folder = tmp_path / f"temporary {uuid4().hex}"
    folder.mkdir()
    yield folder
    assert [path.name for path in folder.iterdir()] == ["log"]
    assert b"Traceback" not in (folder / "log").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_end_while_it_loads_answers_ends_and_serves_the_new_version_next(
    two_versions: Settings, tmp_path: Path, number: signal.Signals
) -> None:
    body = picture()
    head = f"POST /v1/classify/digits HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(body)}"
    with folder_of(tmp_path) as folder, served(two_versions.home, folder, "--workers", "2") as server:
        start_loading(two_versions, server)
        with socket.create_connection(server.address, timeout=20) as client:
            client.sendall(f"{head}\r\n\r\n".encode() + body[:10])
            time.sleep(0.1)
            server.process.send_signal(number)
            time.sleep(0.2)
            client.sendall(body[10:])
            assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
        start = time.monotonic()
        assert server.process.wait(60) == 0
        assert time.monotonic() - start < ServeSettings().patience_s
        assert not _alive(server.pids)
    with folder_of(tmp_path) as folder, served(two_versions.home, folder) as server:
        assert _version(server.url) == "letters/digits@2"
        server.process.terminate()
        assert server.process.wait(60) == 0


def test_the_others_do_not_wait_for_a_worker_that_was_killed_while_it_loaded(
    two_versions: Settings, tmp_path: Path
) -> None:
    with folder_of(tmp_path) as folder, served(two_versions.home, folder, "--workers", "2") as server:
        start_loading(two_versions, server)
        _, supervisor, first, second = server.pids
        os.kill(first, signal.SIGKILL)
        _until(lambda: _version(server.url) == "letters/digits@2")
        assert _alive((second,)) == [second]
        _until(lambda: len(worker_pids(supervisor)) == 2)
        assert {_version(server.url) for _ in range(20)} == {"letters/digits@2"}
        pids = (*server.pids, *worker_pids(supervisor))
        server.process.terminate()
        assert server.process.wait(60) == 0
        assert not _alive(pids)
        assert b"the other workers switched" not in (folder / "log").read_bytes()


def test_nothing_outlives_a_supervisor_that_was_killed_while_its_workers_load(
    two_versions: Settings, tmp_path: Path
) -> None:
    with folder_of(tmp_path) as folder:
        with served(two_versions.home, folder, "--workers", "2") as server:
            start_loading(two_versions, server)
            os.kill(server.pids[1], signal.SIGKILL)
            assert server.process.wait(60) == 1
            _until(lambda: not _alive(server.pids))
        with served(two_versions.home, folder) as server:
            assert len(list(folder.glob("cultivar-serve-*"))) == 1
            assert _version(server.url) == "letters/digits@2"
            server.process.terminate()
            assert server.process.wait(60) == 0


def _version(url: str) -> str:
    return _classify(url).headers["X-Cultivar-Version"]


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
