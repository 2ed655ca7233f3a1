"""Requests that HTTP/1.1 forbids or that can be read in two ways (RFC 9112, RFC 9110), beside odd well-formed ones."""

from contextlib import suppress

import pytest

from tests.services.httpd.clients import connected, get, rest
from tests.services.httpd.conformance import CHUNKED, REQUESTS


@pytest.mark.parametrize(
    ("request_bytes", "status"), [row[1:] for row in REQUESTS], ids=[row[0] for row in REQUESTS]
)
def test_each_request_has_its_status(port: int, request_bytes: bytes, status: int) -> None:
    with connected(port) as connection:
        connection.sendall(request_bytes)
        found = rest(connection)
    assert found.startswith(b"HTTP/1.1 %d " % status), found[:200]


@pytest.mark.parametrize(
    "row", [row for row in REQUESTS if row[2] >= 400], ids=[row[0] for row in REQUESTS if row[2] >= 400]
)
def test_what_came_before_it_is_answered_and_what_follows_it_is_not(
    port: int, row: tuple[str, bytes, int]
) -> None:
    _, request_bytes, status = row
    with connected(port) as connection:
        connection.sendall(get("/before") + request_bytes + get("/after"))
        found = rest(connection)
    assert found.startswith(b"HTTP/1.1 200 ")
    assert b"GET /before" in found
    assert b"HTTP/1.1 %d " % status in found
    assert b"/after" not in found
    assert found.count(b"connection: close") == 1
    assert found.count(b"\r\ndate: ") == 1


@pytest.mark.parametrize("row", REQUESTS, ids=[row[0] for row in REQUESTS])
def test_it_is_the_same_byte_by_byte(port: int, row: tuple[str, bytes, int]) -> None:
    _, request_bytes, status = row
    with connected(port) as connection, suppress(ConnectionError):
        for number in range(len(request_bytes)):
            connection.sendall(request_bytes[number : number + 1])
        found = rest(connection).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert found.startswith(b"HTTP/1.1 %d " % status), found[:200]


def test_a_trailer_is_no_header(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(
            CHUNKED + b"0\r\nAuthorization: Bearer x\r\n\r\n" + get("/next", "Connection: close")
        )
        found = rest(connection)
    assert found.count(b"HTTP/1.1 200 ") == 2
