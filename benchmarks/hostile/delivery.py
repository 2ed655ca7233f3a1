"""Ways in which one request is sent."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.connection import HOST

_CHUNK_BYTES = 64 << 10


class Delivery(StrEnum):
    """How a request is sent."""

    POST = "POST"
    OPTIONS = "OPTIONS"
    HEAD = "HEAD"
    CHUNKED = "chunked"
    PIPELINED = "pipelined"


@dataclass(frozen=True, slots=True)
class Request:
    """A request with a body.

    Attributes:
        path: with its query.
        media: the content type.
        body: all of it.
    """

    path: str
    media: str
    body: bytes | memoryview

    def written(self, delivery: Delivery) -> Iterator[bytes | memoryview]:
        """Yield what is sent; the last request on the connection asks the server to close it."""
        if delivery is Delivery.PIPELINED:
            yield from self._whole("POST", closes=False)
            yield from self._whole("POST", closes=True)
        elif delivery is Delivery.CHUNKED:
            yield self.head("POST", "Transfer-Encoding: chunked", "Connection: close")
            for at in range(0, len(self.body), _CHUNK_BYTES):
                part = self.body[at : at + _CHUNK_BYTES]
                yield b"".join((b"%x\r\n" % len(part), part, b"\r\n"))
            yield b"0\r\n\r\n"
        else:
            yield from self._whole(delivery.value, closes=True)

    def head(self, method: str, *headers: str) -> bytes:
        """Return the head of the request with further headers."""
        lines = [f"{method} {self.path} HTTP/1.1", f"Host: {HOST}", f"Content-Type: {self.media}", *headers]
        return "\r\n".join([*lines, "", ""]).encode()

    def _whole(self, method: str, *, closes: bool) -> Iterator[bytes | memoryview]:
        closing = ("Connection: close",) if closes else ()
        yield self.head(method, f"Content-Length: {len(self.body)}", *closing)
        yield self.body
