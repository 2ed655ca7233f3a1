"""``cultivar serve``: BentoML's server as a child process, with its own runtime folder as BentoML's home.

BentoML keeps its metrics in its home and deletes them at each start, so two servers must not share one. Every server
gets a temporary home. It is removed with the server, or by the next one if the server was killed.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Protocol, Self

from registry.disk import free_bytes, shown
from registry.errors import InvalidSetting, RuntimeFailure, StorageFailure
from registry.extras import SERVE
from registry.settings import Settings
from services.deployment.rollout_barrier import FOLDER
from services.httpd.address import url_of
from services.process.parent_death import VARIABLE, ParentPipe
from services.process.runtime_dir import RuntimeDir
from services.settings import ServeSettings

SERVICE = "services.app:service"
ROOT = Path(__file__).resolve().parents[2]
"""The folder that the packages are in: the working directory of BentoML's processes."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL_S = 0.01
_WORKER_BYTES = 4 << 20
"""Temporary files of a worker: those of its metrics are allocated at the start, 1 MiB each."""
_REMIND_S = 1.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class Server:
    """A server process, as a context manager; its exit stops the process and removes its home.

    Args:
        settings: the server's settings; port 0 is not allowed, see ``free_port``.
        registry: the registry's settings.
        log: descriptor of the file for the log; None for this process's stderr.

    Raises:
        MissingExtra: the serving dependencies are not installed.
        InvalidSetting: the host has no address, or the port is taken.
        StorageFailure: there is no space for its temporary files.
    """

    def __init__(self, settings: ServeSettings, registry: Settings, log: int | None = None) -> None:
        SERVE.require("a server")
        self.settings = settings.decided()
        self._registry = registry
        self._log = log
        self._home: RuntimeDir | None = None
        self._parent_pipe: ParentPipe | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False

    @property
    def url(self) -> str:
        """The URL at which it answers."""
        host = self.settings.host
        return url_of(_EVERYWHERE.get(host, host), self.settings.port)

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process.pid

    @property
    def stopping(self) -> bool:
        """Whether ``stop`` was called."""
        return self._stopping

    def __enter__(self) -> Self:
        check_port(self.settings.host, self.settings.port)
        _check_space(self.settings.workers)
        self._home = RuntimeDir()
        self._parent_pipe = ParentPipe()
        if not self._stopping:
            self._process = self._start(self._home, self._parent_pipe)
        if self._stopping and self._process is not None:  # stopped while it started
            self._end(self._process)
        return self

    def _start(self, home: RuntimeDir, parent_pipe: ParentPipe) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "bentoml", "serve", SERVICE, *self._options()],
            env={**self._environment(home.path), VARIABLE: str(parent_pipe.child_end)},
            pass_fds=(parent_pipe.child_end, home.lock),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=self._log if self._log is not None else sys.stderr.fileno(),
            stderr=subprocess.STDOUT,
            # Ctrl-C, and the end of the terminal, reach only this process, which passes them on once.
            start_new_session=True,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, home, parent_pipe = self._process, self._home, self._parent_pipe
        if process is not None and process.poll() is None:
            if not self._stopping:
                self.stop()
            try:
                process.wait(self.settings.patience_s)
            except subprocess.TimeoutExpired:
                self.stop()
                process.wait()
        if parent_pipe is not None:
            parent_pipe.let_go()
        if home is not None:
            home.remove()

    def wait_until_ready(self, timeout_s: float | None = 120.0) -> bool:
        """Wait until ``/readyz`` answers 200; None waits for as long as the process lives.

        Returns:
            False if the process was stopped before it was ready.

        Raises:
            RuntimeFailure: the process ended, or was not ready in time.
        """
        limit = time.monotonic() + (float("inf") if timeout_s is None else timeout_s)
        while time.monotonic() < limit:
            if self._process is None or self._process.poll() is not None:
                if self._stopping:
                    return False
                raise RuntimeFailure("expected the server to start, its process ended; its log says why")
            if self._is_ready():
                return True
            time.sleep(_POLL_S)
        raise RuntimeFailure(
            f"expected the server to be ready within {timeout_s:g} s, it was not; its log says why"
        )

    def wait(self) -> None:
        """Wait for the process to end.

        Raises:
            RuntimeFailure: it ended without being stopped.
        """
        if self._process is None:
            raise RuntimeError("the server was not started")
        status = self._process.wait()
        if not self._stopping:
            raise RuntimeFailure(f"the server's process ended with status {status}; its log says why")

    def stop(self) -> None:
        """Stop the process after its current requests; a second call kills it. Returns at once."""
        again, self._stopping = self._stopping, True
        if self._process is None or self._process.poll() is not None:
            return
        if again:
            # The workers end when this process ends; those that already got a SIGTERM end at once.
            self._process.kill()
        else:
            self._end(self._process)

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        process.terminate()
        threading.Thread(target=self._remind, args=(process,), daemon=True).start()

    @staticmethod
    def _remind(process: subprocess.Popen[bytes]) -> None:
        """Repeat the signal at growing intervals: Circus ignores one that comes while it starts a worker."""
        wait_s = _REMIND_S
        while process.poll() is None:
            time.sleep(wait_s)
            process.terminate()
            wait_s *= 2

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=1) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _options(self) -> list[str]:
        settings = self.settings
        return [
            *("--host", settings.host, "--port", str(settings.port), "--working-dir", str(ROOT)),
            *("--timeout-keep-alive", str(settings.keep_alive_s)),
        ]

    def _environment(self, home: Path) -> Mapping[str, str]:
        return (
            os.environ
            | self.settings.to_environment()
            | self._registry.to_environment()
            | {
                "BENTOML_HOME": str(home),
                FOLDER: str(home / "meeting"),
                # Temporary files of libraries are removed with the home.
                "TMPDIR": str(home),
                "BENTOML_DO_NOT_TRACK": "True",
            }
        )


class Stoppable(Protocol):
    """Something that can be stopped."""

    def stop(self) -> None:
        """Start to stop; return at once."""


@contextmanager
def stopped_by_signals(*stoppable: Stoppable) -> Iterator[None]:
    """Stop a server on SIGINT, SIGTERM and SIGHUP while the block runs; the second signal stops it at once.

    Enter it before the server starts, so that every signal stops it. A signal that is ignored, as SIGHUP under
    ``nohup``, stays ignored.

    Args:
        *stoppable: the server, and what else to stop.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        for each in stoppable:
            each.stop()

    before = {
        number: signal.signal(number, stop)
        for number in _SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_space(workers: int) -> None:
    """Check that the files of metrics have space: workers would not start, and would be replaced without end.

    Raises:
        StorageFailure: the disk of the temporary folder is full.
    """
    folder = Path(tempfile.gettempdir())
    needed, free = workers * _WORKER_BYTES, free_bytes(folder)
    if free < needed:
        raise StorageFailure(
            f"expected {shown(needed)} of free disk space at {folder} for temporary files, found {shown(free)}; free "
            "some, or name another folder with TMPDIR"
        )


def check_port(host: str, port: int) -> None:
    """Check that an address can be listened on.

    Raises:
        InvalidSetting: it is taken, or not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, OverflowError) as error:
        raise InvalidSetting(
            f"expected to listen on {host} port {port}: {error}; choose another --host or --port"
        ) from error


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that is free now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
