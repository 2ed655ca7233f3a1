"""A request before it is bytes: what mutations that know HTTP work on."""

from dataclasses import dataclass, replace
from typing import Self

Header = tuple[bytes, bytes]

JSON, FORM, ARRAY, PICTURE, NOTHING = "JSON", "form", "array", "picture", "nothing"
BOUNDARY = b"boundary-0123456789"


@dataclass(frozen=True, slots=True)
class Request:
    """A request whose body is whole and not framed yet.

    Attributes:
        method: as it is sent.
        path: likewise, without the query.
        query: what follows the question mark; empty sends none.
        headers: all but those that frame the body.
        body: the payload.
        encoding: what the body is: one of ``JSON``, ``FORM``, ``ARRAY``, ``PICTURE``, ``NOTHING``.
    """

    method: bytes
    path: bytes
    query: bytes = b""
    headers: tuple[Header, ...] = ()
    body: bytes = b""
    encoding: str = NOTHING

    @property
    def target(self) -> bytes:
        """The second word of the request line."""
        return self.path + b"?" + self.query if self.query else self.path

    def with_headers(self, *headers: Header) -> Self:
        """Return the request with further headers."""
        return replace(self, headers=(*self.headers, *headers))

    def head(self, *framing: Header, version: bytes = b"HTTP/1.1") -> bytes:
        """Return the request line and the headers, the framing last, and the empty line."""
        lines = [b"%b %b %b\r\n" % (self.method, self.target, version)]
        lines += [b"%b: %b\r\n" % header for header in (*self.headers, *framing)]
        return b"".join((*lines, b"\r\n"))

    def to_bytes(self) -> bytes:
        """Return the whole request, its body by length where it has one."""
        framing = ((b"Content-Length", b"%d" % len(self.body)),) if self.body else ()
        return self.head(*framing) + self.body
