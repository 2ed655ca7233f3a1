"""Checks of a request's head beyond those of the parser (RFC 9112, RFC 9110)."""

import re
from collections.abc import Iterable
from http import HTTPStatus

CHECKED = frozenset({b"host", b"transfer-encoding", b"expect"})
"""Headers that ``refusal`` reads."""

CONTINUE = b"100-continue"

_VERSIONS = frozenset({"1.0", "1.1"})
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:%\[\]-]*")


def refusal(version: str, checked: Iterable[tuple[bytes, bytes]]) -> HTTPStatus | None:
    """Return the status that refuses a request, or None.

    Args:
        version: the HTTP version.
        checked: its headers whose names are in ``CHECKED``, names in lower case.
    """
    if version not in _VERSIONS:
        return HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
    current = version == "1.1"
    hosts = 0
    for name, value in checked:
        if name == b"host":
            hosts += 1
            if _HOST.fullmatch(value) is None:
                return HTTPStatus.BAD_REQUEST
        elif name == b"transfer-encoding":
            if not current:
                return HTTPStatus.BAD_REQUEST
            if value.strip(b" \t").lower() != b"chunked":
                return HTTPStatus.NOT_IMPLEMENTED
        elif current and value.strip(b" \t").lower() != CONTINUE:
            return HTTPStatus.EXPECTATION_FAILED
    if hosts > 1 or (current and not hosts):
        return HTTPStatus.BAD_REQUEST
    return None
