"""What a client may take: bytes, time, places."""

import asyncio
import http.client
import ipaddress
import socket
import threading
import time
from contextlib import ExitStack, suppress

import pytest

from registry.errors import InvalidSetting
from services.httpd.asgi import WHOLE_ANSWER, Receive, Scope, Send
from services.httpd.connection import MAX_FRAMING_BYTES
from services.httpd.limits import ConnectionLimits, networks
from tests.services.httpd.clients import (
    HOST,
    answer,
    answered,
    asked,
    connected,
    echo,
    get,
    post,
    rest,
    served,
    until,
)

_CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
_BIG = 8 << 20


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    await answered(send, b"no", 413)


async def pour(scope: Scope, receive: Receive, send: Send) -> None:
    await answered(send, bytes(_BIG))


def _send_without_end(connection: socket.socket, part: bytes, limit: int = 64 << 20) -> int:
    """Send until the server hangs up, and return how much was sent."""
    sent = 0
    with suppress(OSError):
        while sent < limit:
            connection.sendall(part)
            sent += len(part)
    return sent


@pytest.mark.parametrize(
    ("beginning", "part"),
    [
        (b"0\r\n", b"X: y\r\n" * 1000),
        (b"0\r\nX: ", b"y" * 10_000),
        (b"3\r\nabc\r\n0\r\nX", b"x" * 10_000),
        (b"3;x=", b"y" * 10_000),
        (b"", b"0" * 10_000),
    ],
    ids=[
        "many trailers",
        "one endless trailer",
        "one endless name",
        "one endless extension",
        "an endless size",
    ],
)
def test_what_frames_a_body_is_bounded(beginning: bytes, part: bytes) -> None:
    limits = ConnectionLimits(drain_bytes=1 << 20)
    with served(echo, limits=limits) as (_, port), connected(port) as connection:
        connection.sendall(_CHUNKED + beginning)
        sent = _send_without_end(connection, part)
        assert sent < 16 << 20  # what was on its way, and what is drained
        assert asked_elsewhere(port) == 200


def test_framing_that_outweighs_the_body_is_refused() -> None:
    with (
        served(echo, limits=ConnectionLimits(drain_bytes=1 << 20)) as (_, port),
        connected(port) as connection,
    ):
        connection.sendall(_CHUNKED)
        part = b"1;%b\r\nx\r\n" % (b"y" * 1000)
        assert _send_without_end(connection, part) < 16 << 20


def test_chunks_of_one_byte_are_taken(port: int) -> None:
    body = b"1\r\nx\r\n" * (2 * MAX_FRAMING_BYTES)
    with connected(port) as connection:
        status, found = asked(connection, _CHUNKED + body + b"0\r\n\r\n")
    assert (status, len(found)) == (200, len(b"POST /  ") + 2 * MAX_FRAMING_BYTES)


def asked_elsewhere(port: int) -> int:
    with connected(port) as connection:
        return asked(connection, get("/"))[0]


@pytest.mark.parametrize("megabytes", [1, 10, 40])
@pytest.mark.parametrize("close", [False, True])
def test_a_client_that_sends_a_body_in_vain_reads_why(megabytes: int, close: bool) -> None:
    with served(refuse) as (_, port):
        for _ in range(5):
            client = http.client.HTTPConnection(HOST, port, timeout=20)
            client.request("POST", "/", bytes(megabytes << 20), {"Connection": "close"} if close else {})
            found = client.getresponse()
            assert (found.status, found.read()) == (413, b"no")
            client.close()


def test_a_small_body_sent_in_vain_does_not_cost_the_connection() -> None:
    with served(refuse) as (_, port), connected(port) as connection:
        for _ in range(3):
            assert asked(connection, post("/", bytes(4 << 20))) == (413, b"no")


def test_a_client_that_waits_to_be_asked_for_its_body_loses_the_connection_with_the_refusal() -> None:
    with served(refuse) as (_, port), connected(port) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n")
        found = rest(connection)
    assert found.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close\r\n" in found


def test_what_is_dropped_is_bounded_in_bytes_and_time() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n"
    with served(refuse, limits=ConnectionLimits(drain_bytes=1 << 20, drain_s=1)) as (server, port):
        with connected(port) as connection:
            connection.sendall(head)
            assert _send_without_end(connection, bytes(1 << 16)) < 32 << 20
        with connected(port) as connection:
            connection.sendall(head)
            assert answer(connection)[0].status == 413
            until(lambda: not server.server_state.connections, 5)


def test_no_more_connections_are_drained_than_allowed() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n"
    with served(refuse, limits=ConnectionLimits(drains=4)) as (server, port), ExitStack() as stack:
        for _ in range(12):
            connection = stack.enter_context(connected(port))
            connection.sendall(head)
            assert answer(connection)[0].status == 413
        until(lambda: len(server.server_state.connections) <= 4)


def test_a_client_that_does_not_read_is_given_up() -> None:
    done = threading.Event()

    async def pour_and_tell(scope: Scope, receive: Receive, send: Send) -> None:
        await answered(send, bytes(_BIG))
        done.set()

    with (
        served(pour_and_tell, limits=ConnectionLimits(write_s=1)) as (server, port),
        connected(port) as connection,
    ):
        connection.sendall(get("/") * 8)
        assert done.wait(10)
        until(lambda: not server.server_state.connections, 10)
        until(lambda: not server.server_state.tasks, 10)


def test_a_client_that_reads_a_byte_now_and_then_is_given_up() -> None:
    with served(pour, limits=ConnectionLimits(write_s=1)) as (server, port), socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((HOST, port))
        connection.sendall(get("/"))
        limit = time.monotonic() + 10
        with suppress(ConnectionError):
            while server.server_state.connections and time.monotonic() < limit:
                connection.recv(1)
                time.sleep(0.05)
        assert not server.server_state.connections


def test_bytes_that_wait_for_clients_who_do_not_read_are_bounded_in_all() -> None:
    with served(pour, limits=ConnectionLimits(unsent_bytes=2 * _BIG)) as (server, port), ExitStack() as stack:
        slow = []
        for number in range(5):
            slow.append(stack.enter_context(connected(port)))
            slow[-1].sendall(get("/", "Connection: close"))
            until(lambda sent=number: server.server_state.total_requests == sent + 1)  # type: ignore[misc]
        assert asked(stack.enter_context(connected(port)), get("/")) == (200, bytes(_BIG))
        whole = [len(rest(each)) > _BIG for each in slow]
        assert whole == sorted(whole)
        assert (whole[0], whole[-1]) == (False, True)


def test_one_answer_may_be_larger_than_all_that_may_wait() -> None:
    with served(pour, limits=ConnectionLimits(unsent_bytes=1)) as (_, port), connected(port) as connection:
        assert asked(connection, get("/")) == (200, bytes(_BIG))


def test_a_client_that_sends_ahead_and_does_not_read_holds_no_place() -> None:
    async def whole(scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"][WHOLE_ANSWER](200, [], bytes(_BIG))

    with served(whole) as (server, port), connected(port) as connection:
        connection.sendall(get("/") * 16)
        until(lambda: server.server_state.total_requests == 1)
        until(lambda: not server.server_state.tasks)
        assert asked(connection, b"") == (200, bytes(_BIG))
        until(lambda: server.server_state.total_requests == 2)


def test_a_client_that_reads_slowly_is_answered() -> None:
    with served(pour, limits=ConnectionLimits(write_s=1)) as (_, port), socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        connection.connect((HOST, port))
        connection.settimeout(10)
        connection.sendall(get("/", "Connection: close"))
        found = 0
        while part := connection.recv(1 << 18):
            found += len(part)
            time.sleep(0.01)
        assert found > _BIG


@pytest.mark.parametrize("begun", [b"G", b"GET / HTTP/1.1\r\nHost: a\r\nX: y"])
def test_a_head_that_does_not_come_to_its_end_is_given_up(begun: bytes) -> None:
    with served(echo, 60, ConnectionLimits(head_s=1)) as (_, port), connected(port) as connection:
        connection.sendall(begun)
        assert rest(connection).startswith(b"HTTP/1.1 408 ")


def test_a_head_that_comes_drop_by_drop_is_given_up() -> None:
    with served(echo, 60, ConnectionLimits(head_s=1, drain_s=1)) as (_, port), connected(port) as connection:
        began = time.monotonic()
        with suppress(OSError):
            for byte in get("/" + "x" * 1000):
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
        assert time.monotonic() - began < 8
        assert rest(connection)[:13] in (b"HTTP/1.1 408 ", b"")


def test_a_body_that_stops_coming_is_given_up() -> None:
    left = threading.Event()

    async def wait_for_body(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    with served(wait_for_body, limits=ConnectionLimits(body_s=1)) as (_, port), connected(port) as connection:
        connection.sendall(post("/", b"body")[:-2])
        assert rest(connection).startswith(b"HTTP/1.1 408 ")
        assert left.wait(10)


def test_a_client_that_waits_for_a_slow_answer_is_not_hurried() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(2.5)
        await answered(send, b"done")

    limits = ConnectionLimits(head_s=1, body_s=1, write_s=1, drain_s=1)
    with served(slow, 1, limits) as (_, port), connected(port) as connection:
        assert asked(connection, post("/", b"body")) == (200, b"done")


def test_the_connection_that_is_idle_for_longest_gives_way_to_a_new_one() -> None:
    with served(echo, 60, ConnectionLimits(connections=3, per_address=3)) as (_, port), ExitStack() as stack:
        first, second, third = (stack.enter_context(connected(port)) for _ in range(3))
        for connection in (second, first, third):
            assert asked(connection, get("/"))[0] == 200
        assert asked_elsewhere(port) == 200
        assert rest(second) == b""
        assert asked(first, get("/"))[0] == 200


def test_slow_heads_give_way_to_a_new_connection() -> None:
    with served(echo, 60, ConnectionLimits(connections=3, per_address=3)) as (_, port), ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connected(port)).sendall(b"GET / HTTP/1.1\r\nHost:")
        assert asked_elsewhere(port) == 200


def test_a_connection_is_refused_where_all_are_at_work() -> None:
    go = threading.Event()

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.to_thread(go.wait)
        await answered(send, b"late")

    with (
        served(late, 60, ConnectionLimits(connections=2, per_address=2)) as (server, port),
        ExitStack() as stack,
    ):
        busy = [stack.enter_context(connected(port)) for _ in range(2)]
        for connection in busy:
            connection.sendall(get("/"))
        until(lambda: len(server.server_state.tasks) == 2)
        with connected(port) as refused:
            found = rest(refused)
        assert found.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in found
        go.set()
        for connection in busy:
            assert answer(connection)[1] == b"late"


def test_one_address_has_no_more_than_its_share_and_a_trusted_proxy_all() -> None:
    with (
        served(echo, 60, ConnectionLimits(connections=8, per_address=2)) as (server, port),
        ExitStack() as stack,
    ):
        for _ in range(5):
            stack.enter_context(connected(port))
        until(lambda: len(server.server_state.connections) == 2)
    trusting = ConnectionLimits(connections=8, per_address=2, proxies=networks(("127.0.0.0/8",)))
    with served(echo, 60, trusting) as (server, port), ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(connected(port))
        until(lambda: len(server.server_state.connections) == 5)


def test_limits_are_checked() -> None:
    with pytest.raises(InvalidSetting, match="1 to 4"):
        ConnectionLimits(connections=4, per_address=5)
    with pytest.raises(InvalidSetting, match="above 0"):
        ConnectionLimits(head_s=0)
    with pytest.raises(InvalidSetting, match="IP address or network"):
        networks(("proxy.example",))


def test_a_proxy_is_trusted_by_its_address_or_network() -> None:
    limits = ConnectionLimits(proxies=networks(("10.0.0.0/8", "::1")))
    assert limits.trusts("10.1.2.3")
    assert limits.trusts("::1")
    assert not limits.trusts("11.0.0.1")
    assert not limits.trusts("somewhere")
    assert ipaddress.ip_network("10.0.0.0/8") in limits.proxies
