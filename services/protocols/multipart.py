"""Multipart bodies (RFC 7578), split into files.

The whole body is in memory already and bounded, so the parts are found by searching it.
"""

import re

from registry.errors import InputTooLarge
from services.errors import MalformedRequest

MAX_HEADER_BYTES = 8 << 10
"""Bytes of one part's headers."""

_BOUNDARY = re.compile(r"""boundary=(?:"([^"]{1,70})"|([^\s;,"]{1,70}))""", re.IGNORECASE)
_FILENAME = re.compile(rb"""(?:^|;)\s*filename\*?\s*=""", re.IGNORECASE)


def boundary_of(content_type: str) -> bytes:
    """Return the boundary that a content type announces.

    Raises:
        MalformedRequest: it announces none, or one that the RFC forbids.
    """
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise MalformedRequest(
            "multipart/form-data comes with a boundary of 1 to 70 characters; this one has none"
        )
    try:
        return (match[1] or match[2]).encode("ascii")
    except UnicodeEncodeError as error:
        raise MalformedRequest("a multipart boundary is plain ASCII; this one is not") from error


def files(body: bytes, boundary: bytes, max_files: int) -> list[bytes]:
    """Return the contents of the body's files, in order.

    Raises:
        MalformedRequest: the body is not well-formed, holds a plain field, or no file.
        InputTooLarge: it holds more files than allowed.
    """
    delimiter = b"--" + boundary
    separator = b"\r\n" + delimiter
    position = 0 if body.startswith(delimiter) else body.find(separator)
    if position < 0:
        raise MalformedRequest("a multipart body begins with the boundary that its content type announces")
    position += len(delimiter) if position == 0 and body.startswith(delimiter) else len(separator)
    found: list[bytes] = []
    while body[position : position + 2] != b"--":
        headers_end = body.find(b"\r\n\r\n", position, position + MAX_HEADER_BYTES)
        if headers_end < 0:
            raise MalformedRequest(
                f"each part has headers of at most {MAX_HEADER_BYTES} bytes and a blank line"
            )
        stop = body.find(separator, headers_end + 2)
        if stop < 0:
            raise MalformedRequest("a multipart body ends with its boundary and '--'; this one was cut short")
        if len(found) == max_files:
            raise InputTooLarge(f"a request holds at most {max_files} inputs, got more files")
        if not _is_file(body[position:headers_end]):
            raise MalformedRequest(
                "each part is a file with a filename; options such as top_k belong in the query"
            )
        found.append(body[headers_end + 4 : max(stop, headers_end + 4)])
        position = stop + len(separator)
    if not found:
        raise MalformedRequest("expected one file or more, got a form without any")
    return found


def _is_file(headers: bytes) -> bool:
    for line in headers.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-disposition":
            return _FILENAME.search(value) is not None
    return False
