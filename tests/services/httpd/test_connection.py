"""Connections as clients see them."""

import asyncio
import threading
import time
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.httpd.asgi import Receive, Scope, Send
from services.httpd.connection import MAX_AHEAD, MAX_HEAD_BYTES, Connection, stand_in
from services.httpd.limits import ConnectionLimits
from tests.services.httpd.clients import (
    answer,
    answered,
    asked,
    connected,
    echo,
    get,
    post,
    read_answer,
    rest,
    served,
    until,
)


def test_requests_follow_one_another_on_a_connection(port: int) -> None:
    with connected(port) as connection:
        assert asked(connection, get("/a?b=c")) == (200, b"GET /a b=c ")
        assert asked(connection, post("/caf%C3%A9", b"body")) == (200, "POST /café  body".encode())
        assert asked(connection, get("/" + "long" * 200)) == (200, b"GET /" + b"long" * 200 + b"  ")


def test_an_answer_has_a_date_and_names_no_server(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(get("/"))
        found, _ = answer(connection)
        assert found.headers["date"]
        assert "server" not in found.headers


@pytest.mark.parametrize("head", [b"GET / HTTP/1.0\r\n\r\n", get("/", "Connection: close")])
def test_a_client_that_wants_one_answer_gets_one_and_the_connection_ends(port: int, head: bytes) -> None:
    with connected(port) as connection:
        connection.sendall(head + get("/more"))
        whole = rest(connection)
    assert whole.count(b"HTTP/1.1 200 OK") == 1
    assert b"connection: close\r\n" in whole


def test_a_client_that_sends_ahead_is_answered_in_order(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(b"".join(post(f"/{number}", b"x" * number) for number in range(40)))
        file = connection.makefile("rb")
        for number in range(40):
            assert read_answer(file)[1] == f"POST /{number}  ".encode() + b"x" * number


def test_a_client_that_sends_too_far_ahead_is_answered_no_further() -> None:
    go = threading.Event()

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.to_thread(go.wait)
        await answered(send, b"late")

    with served(late) as (server, port), connected(port) as connection:
        connection.sendall(get("/") * (2 * MAX_AHEAD))
        until(lambda: bool(server.server_state.tasks))
        time.sleep(0.1)
        go.set()
        assert rest(connection).count(b"HTTP/1.1 200 OK") == 1 + MAX_AHEAD


def test_a_body_in_chunks_is_put_together(port: int) -> None:
    with connected(port) as connection:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert asked(connection, head + b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n") == (200, b"POST /  abcde")
        assert asked(connection, get("/again")) == (200, b"GET /again  ")


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_not_http_is_refused(port: int, nonsense: bytes) -> None:
    with connected(port) as connection:
        connection.sendall(nonsense)
        assert rest(connection).startswith(b"HTTP/1.1 400 ")


def test_what_came_before_nonsense_is_answered(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(post("/", b"body") + b"\0\0\0\0" + get("/never"))
        whole = rest(connection)
    answered, _, refused = whole.partition(b"POST /  body")
    assert answered.startswith(b"HTTP/1.1 200 ")
    assert refused.startswith(b"HTTP/1.1 400 ")


def test_a_head_without_end_is_refused(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        with suppress(OSError):  # it hangs up while we send
            for number in range(MAX_HEAD_BYTES):
                connection.sendall(b"x-%d: %b\r\n" % (number, b"y" * 1000))
                time.sleep(0.001)
        whole = rest(connection)
    assert not whole or whole.startswith(b"HTTP/1.1 431 ")


def test_heads_of_honest_length_pass_however_many(port: int) -> None:
    with connected(port) as connection:
        for _ in range(4):
            assert asked(connection, get("/", "Cookie: " + "y" * (MAX_HEAD_BYTES // 2)))[0] == 200


@pytest.mark.parametrize("body", [b"", b"body"])
def test_an_upgrade_is_declined_by_an_ordinary_answer(port: int, body: bytes) -> None:
    request = post("/", body, "Connection: Upgrade", "Upgrade: h2c")
    for cut in (len(request), len(request) - len(body), len(request) - len(body) // 2, 30):
        with connected(port) as connection:
            connection.sendall(request[:cut])
            time.sleep(0.01)
            connection.sendall(request[cut:])
            whole = rest(connection)
        assert whole.startswith(b"HTTP/1.1 200 ")
        assert whole.endswith(b"POST /  " + body)


def test_a_body_that_nobody_read_is_skipped() -> None:
    async def early(scope: Scope, receive: Receive, send: Send) -> None:
        await answered(send, scope["path"].encode())

    body = bytes(1 << 20)
    with served(early) as (_, port), connected(port) as connection:
        for number in range(3):
            assert asked(connection, post(f"/{number}", body)) == (200, f"/{number}".encode())


@pytest.mark.parametrize("begun", [b"", b"GET / HT", post("/", b"body") + b"GET /"])
def test_an_idle_connection_is_given_up(begun: bytes) -> None:
    with served(echo, 1, ConnectionLimits(head_s=1)) as (_, port), connected(port) as connection:
        connection.sendall(begun)
        began = time.monotonic()
        rest(connection)
        assert 0.5 < time.monotonic() - began < 5


def test_a_request_that_takes_longer_than_idle_connections_are_kept_is_answered() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(1.5)
        await answered(send, b"done")

    with served(slow, keep_alive_s=1) as (_, port), connected(port) as connection:
        assert asked(connection, get("/")) == (200, b"done")
        assert asked(connection, get("/")) == (200, b"done")


def test_a_request_whose_body_is_on_its_way_when_the_server_stops_is_answered_and_none_after_it() -> None:
    with served(echo) as (server, port), connected(port) as connection:
        request = post("/", b"body")
        connection.sendall(request[:-2])
        until(lambda: bool(server.server_state.tasks))
        server.should_exit = True
        time.sleep(0.3)
        connection.sendall(request[-2:] + get("/more"))
        whole = rest(connection)
    assert whole.count(b"HTTP/1.1 200 ") == 1
    assert whole.endswith(b"POST /  body")


def test_a_server_that_stops_finishes_what_is_under_way_and_closes_the_rest() -> None:
    begun = threading.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await asyncio.sleep(0.3)
        await answered(send, b"done")

    with (
        served(slow) as (server, port),
        connected(port) as idle,
        connected(port) as busy,
    ):
        until(lambda: len(server.server_state.connections) == 2)
        busy.sendall(get("/"))
        assert begun.wait(10)
        server.should_exit = True
        assert rest(idle) == b""
        whole = rest(busy)
    assert b"connection: close" in whole
    assert whole.endswith(b"done")


def test_servers_of_this_process_make_such_connections() -> None:
    before = dict(uvicorn.config.HTTP_PROTOCOLS)
    try:
        stand_in(ConnectionLimits(head_s=3))
        config = uvicorn.Config(echo, log_config=None)
        config.load()
        made: Any = config.http_protocol_class
        assert made.func is Connection
        assert made.keywords["connections"].limits.head_s == 3
    finally:
        uvicorn.config.HTTP_PROTOCOLS.update(before)


_REQUESTS = [
    (get("/a?b=c"), b"GET /a b=c "),
    (post("/d", b"body"), b"POST /d  body"),
    (
        b"POST /e HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
        b"POST /e  abc",
    ),
    (post("/f", bytes(3000)), b"POST /f  " + bytes(3000)),
]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.lists(st.integers(0, len(_REQUESTS) - 1), min_size=1, max_size=5),
    cuts=st.lists(st.integers(1, 4000), max_size=8),
)
def test_however_requests_are_cut_into_pieces_the_answers_are_the_same(
    port: int, order: list[int], cuts: list[int]
) -> None:
    whole = b"".join(_REQUESTS[number][0] for number in order)
    edges = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    with connected(port) as connection:
        for start, stop in pairwise(edges):
            connection.sendall(whole[start:stop])
            time.sleep(0.001)
        file = connection.makefile("rb")
        assert [read_answer(file)[1] for _ in order] == [_REQUESTS[number][1] for number in order]
