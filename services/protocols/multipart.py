"""Multipart bodies (RFC 7578), split into files."""

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from registry.errors import InputTooLarge
from services.errors import MalformedRequest

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_BOUNDARY_BYTES = 70
MAX_HEADERS = 16
"""Headers of one part."""
MAX_HEADER_BYTES = 8 << 10
"""Bytes of one of them."""

_PARAMETER = re.compile(rb';[ \t]*([^\s;="]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^;"]*)', re.DOTALL)
_EXTENDED = re.compile(
    rb"(utf-8|iso-8859-1)'[a-z0-9-]*'((?:[a-z0-9!#$&+.^_`|~-]|%[0-9a-f]{2})+)", re.IGNORECASE
)


def boundary_of(content_type: str) -> bytes:
    """Return the boundary that a content type announces.

    Raises:
        MalformedRequest: it announces none, or one that the RFC forbids.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not 1 <= len(boundary) <= MAX_BOUNDARY_BYTES or not boundary.isascii():
        raise MalformedRequest(
            f"multipart/form-data comes with a boundary of 1 to {MAX_BOUNDARY_BYTES} plain characters; "
            "this one has none"
        )
    return boundary


def files(body: bytes, boundary: bytes, max_files: int) -> list[bytes]:
    """Return the contents of the body's files, in order.

    Raises:
        MalformedRequest: the body is not well-formed, holds a plain field, or no file.
        InputTooLarge: it holds more files than allowed.
    """
    gathered = _Files(max_files)
    parser = MultipartParser(
        boundary, gathered.callbacks(), max_header_count=MAX_HEADERS, max_header_size=MAX_HEADER_BYTES
    )
    try:
        parser.write(_without_preamble(body, boundary))
        parser.finalize()
    except MultipartParseError as error:
        raise MalformedRequest(f"expected a well-formed multipart body: {error}") from error
    if not gathered.ended:
        raise MalformedRequest("a multipart body ends with its boundary and '--'; this one was cut short")
    if not gathered.found:
        raise MalformedRequest("expected one file or more, got a form without any")
    return gathered.found


def _without_preamble(body: bytes, boundary: bytes) -> bytes:
    """Drop what stands before the first boundary, as RFC 2046 says; the parser takes none."""
    delimiter = b"--" + boundary
    start = 0 if body.startswith(delimiter) else body.find(b"\r\n" + delimiter) + 2
    return body[start:] if start > 1 else body


def _names_a_file(disposition: bytes) -> bool:
    """Whether a Content-Disposition header has a file name: ``filename=``, or ``filename*=`` as RFC 8187 writes it.

    RFC 7578 asks senders for the first; some send the second alone for names beyond ASCII. One that cannot be
    decoded counts as none.
    """
    parameters = {name.lower(): value for name, value in _PARAMETER.findall(disposition)}
    return b"filename" in parameters or _decodes(parameters.get(b"filename*", b""))


def _decodes(value: bytes) -> bool:
    match = _EXTENDED.fullmatch(value.strip())
    if match is None:
        return False
    try:
        unquote_to_bytes(match[2]).decode(match[1].decode())
    except UnicodeDecodeError:
        return False
    return True


class _Files:
    """What a parser meets, gathered into files."""

    def __init__(self, max_files: int) -> None:
        self.found: list[bytes] = []
        self.ended = False
        self._max_files = max_files
        self._pieces: list[bytes] = []
        self._field = b""
        self._value = b""
        self._named = False

    def callbacks(self) -> "MultipartCallbacks":
        """Return the parser's callbacks."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_field,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._add_data,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.found) == self._max_files:
            raise InputTooLarge(f"a request holds at most {self._max_files} inputs, got more files")
        self._pieces, self._named = [], False

    def _add_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._named = _names_a_file(self._value)
        self._field = self._value = b""

    def _end_headers(self) -> None:
        if not self._named:
            raise MalformedRequest(
                "each part is a file with a filename; options such as top_k belong in the query"
            )

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        self._pieces.append(data[start:end])

    def _end_part(self) -> None:
        self.found.append(b"".join(self._pieces))

    def _end(self) -> None:
        self.ended = True
