"""A client's connection, as cheap as one in Python can be: whole requests out, whole answers in.

A request may hold the placeholder ``SERIAL``, in whose place every sending puts another number: a
server that remembers inputs then never sees one twice.
"""

import socket
from contextlib import suppress

HOST = "127.0.0.1"
SERIAL = b"<serial>"
"""Eight bytes; as the last ones of an array they are pixels, after a picture's end no decoder reads them."""

_RECEIVE_BYTES = 1 << 16
_SEND_BUFFER_BYTES = 1 << 20


class Request:
    """A whole HTTP request, ready to be sent any number of times.

    Args:
        data: its bytes; the last ``SERIAL`` in it, if there is one, is replaced.
    """

    __slots__ = ("_after", "_before", "_whole")

    def __init__(self, data: bytes) -> None:
        before, serial, after = data.rpartition(SERIAL)
        self._whole = None if serial else memoryview(data)
        self._before = memoryview(before)
        self._after = memoryview(after)

    def parts(self, number: int) -> list[memoryview]:
        """Return what is sent the so many-th time."""
        if self._whole is not None:
            return [self._whole]
        return [self._before, memoryview(b"%08d" % (number % 10**8)), self._after]


class Connection:
    """One client: at most one request under way.

    Args:
        port: where the server listens on this machine.

    Attributes:
        descriptor: the socket's number.
        answer: what came of the answer so far.
        status: the answer's HTTP status, once its head is there.
    """

    __slots__ = ("_left", "_needed", "_socket", "answer", "descriptor", "status")

    def __init__(self, port: int) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self._socket.setblocking(False)
        with suppress(BlockingIOError):
            self._socket.connect((HOST, port))
        self.descriptor = self._socket.fileno()
        self._left = memoryview(b"")
        self._needed = 0
        self.answer = b""
        self.status = 0

    def begin(self, request: Request, number: int) -> bool:
        """Start a request; return whether all of it is on its way.

        Args:
            request: what is sent.
            number: stands in it in the place of ``SERIAL``.
        """
        self.answer, self._needed, self.status = b"", 0, 0
        parts = request.parts(number)
        try:
            sent = self._socket.sendmsg(parts)
        except BlockingIOError:
            sent = 0
        if sent == sum(map(len, parts)):
            return True
        self._left = memoryview(b"".join(parts))[sent:]
        return self.send()

    def send(self) -> bool:
        """Send what the socket takes of the rest; return whether all of it is on its way."""
        try:
            while self._left:
                self._left = self._left[self._socket.send(self._left) :]
        except BlockingIOError:
            return False
        return True

    def receive(self) -> bool:
        """Read what there is; return whether the answer is whole.

        Raises:
            ConnectionError: the server closed the connection.
        """
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return False
        if not data:
            raise ConnectionResetError("the server closed a connection")
        self.answer = self.answer + data if self.answer else data
        if not self._needed:
            end = self.answer.find(b"\r\n\r\n")
            if end < 0:
                return False
            self.status = int(self.answer[9:12])
            self._needed = end + 4 + _length(self.answer[:end])
        return len(self.answer) >= self._needed

    def close(self) -> None:
        """Leave."""
        self._socket.close()


def _length(head: bytes) -> int:
    """Return what an answer's head says about the length of its body; 0 where it says nothing."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0
