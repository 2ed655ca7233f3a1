"""A TCP proxy on loopback, before a server on a socket, which can be told to hang."""

import contextlib
import socket
import threading
from pathlib import Path

_BYTES = 65536


class HangingProxy:
    """Passes bytes between clients and a server, until it is told to hang: then it takes them and answers nothing.

    Args:
        server: the server's socket.

    Attributes:
        port: where it listens.
        taken: connections that were accepted while it hung.
    """

    def __init__(self, server: Path) -> None:
        self._server = server
        self._passes = threading.Event()
        self._passes.set()
        self._trigger = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listener]
        self.port: int = self._listener.getsockname()[1]
        self.taken = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def hang(self, after: bytes = b"") -> None:
        """Answer nothing from now on, or once a client has sent some text; connections stay open."""
        self._trigger = after
        if not after:
            self._passes.clear()

    def go_on(self) -> None:
        """Pass bytes again, also those that were held back."""
        self._trigger = b""
        self._passes.set()

    def close(self) -> None:
        """Close every connection."""
        self._passes.set()
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.taken += not self._passes.is_set()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(self._server))
                self._open += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_BYTES):
                if self._trigger and self._trigger in data:
                    self._passes.clear()
                self._passes.wait()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
