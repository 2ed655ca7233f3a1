"""Requests that HTTP/1.1 forbids or that can be read in two ways (RFC 9112, RFC 9110), beside odd well-formed ones."""

from contextlib import suppress

import pytest

from tests.services.wire.clients import connected, get, rest

_POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
_CHUNKED = _POST + b"Transfer-Encoding: chunked\r\n\r\n"
_END = b"Connection: close\r\n\r\n"

_TABLE: list[tuple[str, bytes, int]] = [
    # Request line
    ("plain", get("/", "Connection: close"), 200),
    ("empty lines before", b"\r\n\r\n" + get("/", "Connection: close"), 200),
    ("absolute form", b"GET http://b/p HTTP/1.1\r\nHost: a\r\n" + _END, 200),
    ("lower-case method", b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("unknown method", b"FROB / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("no target", b"GET HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("two spaces", b"GET  / HTTP/1.1\r\nHost: a\r\n" + _END, 200),
    ("space in target", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("tab as separator", b"GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("control in target", b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("nul in target", b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("raw utf-8 in target", "GET /é HTTP/1.1\r\nHost: a\r\n\r\n".encode(), 400),
    ("fragment", b"GET /#a HTTP/1.1\r\nHost: a\r\n" + _END, 200),
    ("bare line feeds", b"GET / HTTP/1.1\nHost: a\n\n", 400),
    ("bare carriage return", b"GET / HTTP/1.1\rHost: a\r\n\r\n", 400),
    ("tls", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ("nul bytes", b"\0" * 64, 400),
    ("connect", b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 400),
    # Versions
    ("1.0", b"GET / HTTP/1.0\r\n\r\n", 200),
    ("0.9 without version", b"GET /\r\n\r\n", 505),
    ("0.9", b"GET / HTTP/0.9\r\n\r\n", 505),
    ("1.2", b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
    ("2.0", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    ("3.1", b"GET / HTTP/3.1\r\nHost: a\r\n\r\n", 505),
    ("9.9", b"GET / HTTP/9.9\r\n\r\n", 505),
    ("two digits", b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400),
    ("lower-case http", b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
    ("other protocol", b"GET / ICE/1.0\r\nHost: a\r\n\r\n", 400),
    ("http/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    # Host
    ("no host", b"GET / HTTP/1.1\r\n\r\n", 400),
    ("two hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ("same host twice", b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", 400),
    ("two hosts in 1.0", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ("empty host", b"GET / HTTP/1.1\r\nHost:\r\n" + _END, 200),
    ("host with port", b"GET / HTTP/1.1\r\nHost: a:80\r\n" + _END, 200),
    ("host of IPv6", b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n" + _END, 200),
    ("user in host", b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
    ("path in host", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    ("space in host", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    ("list of hosts", b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
    # Fields
    ("space before colon", _POST + b"X : a\r\n\r\n", 400),
    ("folded", _POST + b"X: a\r\n b\r\n\r\n", 400),
    ("folded by tab", _POST + b"X: a\r\n\tb\r\n\r\n", 400),
    ("folded first line", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    ("folded content length", _POST + b"Content-Length:\r\n 3\r\n\r\nabc", 400),
    ("no name", _POST + b": a\r\n\r\n", 400),
    ("no colon", _POST + b"X\r\n\r\n", 400),
    ("nul in name", _POST + b"X\x00: a\r\n\r\n", 400),
    ("nul in value", _POST + b"X: a\x00b\r\n\r\n", 400),
    ("bare CR in value", _POST + b"X: a\rb\r\n\r\n", 400),
    ("bare LF in value", _POST + b"X: a\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ("parenthesis in name", _POST + b"X(: a\r\n\r\n", 400),
    ("utf-8 in value", _POST + "X: é\r\n".encode() + b"Content-Length: 0\r\n" + _END, 200),
    # Content-Length
    ("signed", _POST + b"Content-Length: +3\r\n\r\nabc", 400),
    ("negative", _POST + b"Content-Length: -3\r\n\r\nabc", 400),
    ("hexadecimal", _POST + b"Content-Length: 0x3\r\n\r\nabc", 400),
    ("list", _POST + b"Content-Length: 3, 3\r\n\r\nabc", 400),
    ("twice the same", _POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    ("twice another", _POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400),
    ("empty length", _POST + b"Content-Length: \r\n\r\n", 400),
    ("space inside", _POST + b"Content-Length: 1 2\r\n\r\nabc", 400),
    ("overflow", _POST + b"Content-Length: 99999999999999999999\r\n\r\n", 400),
    ("fraction", _POST + b"Content-Length: 3.0\r\n\r\nabc", 400),
    ("spaces around", _POST + b"Content-Length:   3  \r\n" + _END + b"abc", 200),
    # Transfer-Encoding
    ("chunked", _POST + b"Transfer-Encoding: chunked\r\n" + _END + b"3\r\nabc\r\n0\r\n\r\n", 200),
    ("upper-case chunked", _POST + b"Transfer-Encoding: CHUNKED\r\n" + _END + b"0\r\n\r\n", 200),
    (
        "length, then chunked",
        _POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    (
        "chunked, then length",
        _POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        400,
    ),
    ("gzip", _POST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
    ("gzip, chunked", _POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ("identity", _POST + b"Transfer-Encoding: identity\r\n\r\n", 501),
    ("xchunked", _POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    ("quoted", _POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n', 501),
    ("parameter", _POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", 501),
    ("chunked not last", _POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    (
        "chunked twice",
        _POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    ("vertical tab", _POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", 400),
    ("chunked in 1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    # Chunks
    ("extension", _POST + b"Transfer-Encoding: chunked\r\n" + _END + b"3;x=y\r\nabc\r\n0\r\n\r\n", 200),
    ("trailers", _POST + b"Transfer-Encoding: chunked\r\n" + _END + b"0\r\nX: y\r\n\r\n", 200),
    ("no size", _CHUNKED + b"zz\r\n", 400),
    ("negative size", _CHUNKED + b"-1\r\n", 400),
    ("size overflow", _CHUNKED + b"fffffffffffffffff\r\n", 400),
    ("hexadecimal prefix", _CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n", 400),
    ("space after size", _CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n", 400),
    ("bare LF after size", _CHUNKED + b"3\nabc\n0\n\n", 400),
    ("no line end after data", _CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n", 400),
    ("bare LF after data", _CHUNKED + b"3\r\nabc\n0\r\n\r\n", 400),
    ("folded trailer", _CHUNKED + b"0\r\nX: a\r\n b\r\n\r\n", 400),
    # Expect
    ("continue", _POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n" + _END + b"abc", 200),
    ("continue in capitals", _POST + b"Content-Length: 3\r\nExpect: 100-Continue\r\n" + _END + b"abc", 200),
    ("other expectation", _POST + b"Content-Length: 3\r\nExpect: magic\r\n\r\nabc", 417),
    ("two expectations", _POST + b"Content-Length: 3\r\nExpect: 100-continue, magic\r\n\r\nabc", 417),
    ("expectation in 1.0", b"POST / HTTP/1.0\r\nExpect: magic\r\nContent-Length: 3\r\n\r\nabc", 200),
]


@pytest.mark.parametrize(
    ("request_bytes", "status"), [row[1:] for row in _TABLE], ids=[row[0] for row in _TABLE]
)
def test_each_request_has_its_status(port: int, request_bytes: bytes, status: int) -> None:
    with connected(port) as connection:
        connection.sendall(request_bytes)
        found = rest(connection)
    assert found.startswith(b"HTTP/1.1 %d " % status), found[:200]


@pytest.mark.parametrize(
    "row", [row for row in _TABLE if row[2] >= 400], ids=[row[0] for row in _TABLE if row[2] >= 400]
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


@pytest.mark.parametrize("row", _TABLE, ids=[row[0] for row in _TABLE])
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
            _CHUNKED + b"0\r\nAuthorization: Bearer x\r\n\r\n" + get("/next", "Connection: close")
        )
        found = rest(connection)
    assert found.count(b"HTTP/1.1 200 ") == 2
