"""Splits multipart bodies (RFC 7578) into files.

A parser with a callback for each byte of a header would be too slow: 31 MiB of headers took one 46 s.
"""

import re
from urllib.parse import unquote_to_bytes

from python_multipart.multipart import parse_options_header

from registry.errors import InputTooLarge
from services.api.pieces import find
from services.errors import MalformedRequest

MAX_BOUNDARY_BYTES = 70
MAX_CONTENT_TYPE = 1000
"""Characters. Thousands of parameters would take longer to read than the rest of the request."""
MAX_HEADERS = 16
"""Headers of one part."""
MAX_HEADER_BYTES = 8 << 10
"""Bytes of all of them."""
MAX_PARAMETERS = 16
"""Parameters of a part's Content-Disposition."""
MAX_PADDING = 64
"""White space after a boundary."""

_HEADER = re.compile(rb"(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(?P<value>[^\x00\r\n]*)")
_AS_IT_IS = frozenset({b"binary", b"8bit", b"7bit"})
_PARAMETER = re.compile(rb';[ \t]*([^\s;="]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^;"]*)', re.DOTALL)
_EXTENDED = re.compile(
    rb"(utf-8|iso-8859-1)'[a-z0-9-]*'((?:[a-z0-9!#$&+.^_`|~-]|%[0-9a-f]{2})+)", re.IGNORECASE
)


def boundary_of(content_type: str) -> bytes:
    """Return the boundary that a content type announces.

    Raises:
        MalformedRequest: it announces none, or one that the RFC forbids.
    """
    if len(content_type) > MAX_CONTENT_TYPE:
        raise MalformedRequest(
            f"a content type has at most {MAX_CONTENT_TYPE} characters, got {len(content_type)}"
        )
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not 1 <= len(boundary) <= MAX_BOUNDARY_BYTES or not boundary.isascii():
        raise MalformedRequest(
            f"expected multipart/form-data with a boundary of 1 to {MAX_BOUNDARY_BYTES} ASCII characters, got none"
        )
    return boundary


def files(body: bytes, boundary: bytes, max_files: int) -> list[bytes]:
    """Return the contents of the body's files, in order.

    The boundary is found by searches of ``bytes``, so the time is linear in the body's length, whatever it holds.

    Raises:
        MalformedRequest: the body is not well-formed, holds a plain field, or no file.
        InputTooLarge: it holds more files than allowed.
    """
    delimiter = b"--" + boundary
    separator = b"\r\n" + delimiter
    # Bytes before the first boundary do not belong to the form (RFC 2046, 5.1.1).
    at = 0 if body.startswith(delimiter) else find(body, separator) + 2
    if at == 1:
        raise MalformedRequest("expected a well-formed multipart body: its boundary is not in it")
    found: list[bytes] = []
    while not body.startswith(b"--", at := at + len(delimiter)):
        if len(found) == max_files:
            raise InputTooLarge(f"a request holds at most {max_files} inputs, got more files")
        line = body.find(b"\r\n", at, at + MAX_PADDING + 2)
        if line < 0 or body[at:line].strip(b" \t"):
            raise MalformedRequest("expected a well-formed multipart body: a boundary ends its line")
        head = body.find(b"\r\n\r\n", line, line + MAX_HEADER_BYTES + 4)
        if head < 0:
            raise MalformedRequest(
                f"expected a well-formed multipart body: the headers of file {len(found)} have no end within "
                f"{MAX_HEADER_BYTES:,} bytes"
            )
        _check_headers(body[line + 2 : head])
        end = find(body, separator, head + 2)
        if end < 0:
            raise MalformedRequest("a multipart body ends with its boundary and '--'; this one was cut short")
        found.append(body[head + 4 : end])
        at = end + 2
    if not found:
        raise MalformedRequest("expected one file or more, got a form without any")
    return found


def _check_headers(head: bytes) -> None:
    """Check that a part is a file without a transfer encoding.

    Raises:
        MalformedRequest: it is not, or its headers are not well-formed.
    """
    lines = head.split(b"\r\n") if head else []
    if len(lines) > MAX_HEADERS:
        raise MalformedRequest(f"a file of a form has at most {MAX_HEADERS} headers, got {len(lines)}")
    dispositions = []
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None:
            raise MalformedRequest(
                "expected a well-formed multipart body: a header is 'Name: value' on one line"
            )
        name = header["name"].lower()
        if name == b"content-disposition":
            dispositions.append(header["value"])
        elif name == b"content-transfer-encoding" and header["value"].strip().lower() not in _AS_IT_IS:
            raise MalformedRequest("expected files without Content-Transfer-Encoding in the form")
    if len(dispositions) != 1 or not _names_a_file(dispositions[0]):
        raise MalformedRequest(
            "each part is a file with a filename; options such as top_k belong in the query"
        )


def _names_a_file(disposition: bytes) -> bool:
    """Whether a Content-Disposition header has a file name: ``filename=``, or ``filename*=`` as in RFC 8187.

    RFC 7578 requires the first; some clients send only the second for non-ASCII names. A name that cannot be decoded
    does not count.
    """
    parameters: dict[bytes, bytes] = {}
    at = disposition.find(b";")
    while 0 <= at < len(disposition):
        parameter = _PARAMETER.match(disposition, at)
        if parameter is None or len(parameters) == MAX_PARAMETERS:
            return False
        name = parameter[1].lower()
        if name in parameters:
            return False
        parameters[name] = parameter[2]
        at = parameter.end()
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
