"""Connections as clients see them, on uvicorn's own server over real sockets."""

import asyncio
import gc
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import BinaryIO

import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.wire.asgi import WHOLE_ANSWER, Application, Message, Receive, Scope, Send
from services.wire.connection import MAX_AHEAD, MAX_HEAD_BYTES, Connection, stand_in
from services.wire.exchange import MAX_WAITING_BYTES

HOST = "127.0.0.1"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with method, path, query and body."""
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    answer = f"{scope['method']} {scope['path']} {scope['query_string'].decode()} ".encode() + body
    await answered(send, answer)


async def answered(send: Send, body: bytes, status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [length(body)]})
    await send({"type": "http.response.body", "body": body})


def length(body: bytes) -> tuple[bytes, bytes]:
    return b"content-length", b"%d" % len(body)


@contextmanager
def served(application: Application, keep_alive_s: int = 5) -> Iterator[tuple[uvicorn.Server, int]]:
    config = uvicorn.Config(
        application,
        http=Connection,
        loop="uvloop",
        lifespan="off",
        log_config=None,
        timeout_keep_alive=keep_alive_s,
        server_header=False,
    )
    server = uvicorn.Server(config)
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            until(lambda: server.started)
            yield server, listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def until(holds: Callable[[], bool], limit_s: float = 10.0) -> None:
    limit = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.005)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served(echo) as (_, number):
        yield number


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection((HOST, port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


class Reading:
    """What a client read ahead, and looks like a socket to the standard library."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def makefile(self, mode: str) -> "Reading":
        return self

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)

    def close(self) -> None:
        """Leave the file to the next answer."""


def answer(connection: socket.socket, method: str = "GET") -> tuple[http.client.HTTPResponse, bytes]:
    return read_answer(connection.makefile("rb"), method)


def read_answer(file: BinaryIO, method: str = "GET") -> tuple[http.client.HTTPResponse, bytes]:
    found = http.client.HTTPResponse(Reading(file), method=method)  # type: ignore[arg-type]  # enough of a socket
    found.begin()
    return found, found.read()


def asked(connection: socket.socket, request: bytes, method: str = "GET") -> tuple[int, bytes]:
    connection.sendall(request)
    found, body = answer(connection, method)
    return found.status, body


def rest(connection: socket.socket) -> bytes:
    """Return everything until the server hangs up."""
    found = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(1 << 16):
            found += part
    return found


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: a", *headers, "", ""]).encode()


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


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


class Paper(asyncio.Transport):
    """Keeps what is written, as it is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))


def test_head_and_body_of_an_answer_leave_together() -> None:
    async def trial() -> list[bytes]:
        config = uvicorn.Config(echo, log_config=None)
        config.load()
        connection = Connection(config, uvicorn.server.ServerState(), {})
        paper = Paper()
        connection.connection_made(paper)
        connection.data_received(post("/a", b"body"))
        while not paper.written:
            await asyncio.sleep(0)
        connection.connection_lost(None)
        return paper.written

    (whole,) = asyncio.run(trial())
    assert whole.startswith(b"HTTP/1.1 200 OK\r\n")
    assert whole.endswith(b"\r\n\r\nPOST /a  body")


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


def test_a_large_body_waits_until_it_is_asked_for() -> None:
    asked_for = threading.Event()

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.to_thread(asked_for.wait)
        await echo(scope, receive, send)

    body = bytes(range(256)) * (1 << 15)
    sent = 0
    with served(late) as (_, port), connected(port) as connection:
        connection.sendall(post("/", body)[: -len(body)])
        connection.setblocking(False)
        stalls = 0
        while sent < len(body) and stalls < 20:
            try:
                sent += connection.send(body[sent : sent + (1 << 16)])
                stalls = 0
            except BlockingIOError:
                stalls += 1
                time.sleep(0.01)
        assert MAX_WAITING_BYTES < sent < len(body)
        asked_for.set()
        connection.settimeout(10)
        connection.sendall(body[sent:])
        assert answer(connection)[1] == b"POST /  " + body


def test_a_body_in_chunks_is_put_together(port: int) -> None:
    with connected(port) as connection:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert asked(connection, head + b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n") == (200, b"POST /  abcde")
        assert asked(connection, get("/again")) == (200, b"GET /again  ")


def test_a_client_that_waits_for_word_gets_it_before_it_sends_the_body(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(post("/", b"body", "Expect: 100-continue")[: -len(b"body")])
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert asked(connection, b"body") == (200, b"POST /  body")


def test_a_client_that_waits_for_word_is_refused_without_it() -> None:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await answered(send, b"no", 413)

    with served(refuse) as (_, port), connected(port) as connection:
        head = post("/", b"body", "Expect: 100-continue")[: -len(b"body")]
        assert asked(connection, head) == (413, b"no")


def test_head_gets_the_head_alone(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(b"HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n")
        found, body = answer(connection, "HEAD")
        assert (found.headers["content-length"], body) == (str(len(b"HEAD /a  ")), b"")
        assert asked(connection, get("/")) == (200, b"GET /  ")


def test_an_answer_of_unknown_length_goes_out_in_chunks() -> None:
    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in (b"a" * 20, b"", b"b"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})

    with served(stream) as (_, port), connected(port) as connection:
        for _ in range(2):
            connection.sendall(get("/"))
            found, body = answer(connection)
            assert found.headers["transfer-encoding"] == "chunked"
            assert body == b"a" * 20 + b"b"


def test_an_answer_without_content_has_no_body() -> None:
    async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    with served(nothing) as (_, port), connected(port) as connection:
        for _ in range(2):
            assert asked(connection, get("/")) == (204, b"")


def test_a_client_that_reads_slowly_gets_everything() -> None:
    part = bytes(1 << 20)

    async def much(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"%d" % (8 * len(part)))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number in range(8):
            await send({"type": "http.response.body", "body": part, "more_body": number < 7})

    with served(much) as (_, port), connected(port) as connection:
        connection.sendall(get("/"))
        time.sleep(0.2)
        assert answer(connection)[1] == 8 * part


@pytest.mark.parametrize(("status", "body"), [(200, b"body"), (204, b"")])
def test_an_answer_may_be_handed_over_whole(status: int, body: bytes) -> None:
    async def whole(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["extensions"][WHOLE_ANSWER](status, [(b"a", b"b")], body)

    with served(whole) as (_, port), connected(port) as connection:
        for _ in range(2):
            connection.sendall(get("/"))
            found, came = answer(connection)
            assert (found.status, found.headers["a"], came) == (status, "b", body)
            assert found.headers["date"]
        connection.sendall(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        found, came = answer(connection, "HEAD")
        assert (found.status, came) == (status, b"")
        connection.sendall(get("/", "Connection: close"))
        assert b"connection: close\r\n" in rest(connection)


def test_an_answer_is_not_taken_whole_while_the_client_is_slow_to_read() -> None:
    taken: list[bool] = []

    async def whole(scope: Scope, receive: Receive, send: Send) -> None:
        body = bytes(32 << 20) if not taken else b"body"
        taken.append(scope["extensions"][WHOLE_ANSWER](200, [], body))
        if not taken[-1]:
            await answered(send, body)

    with served(whole) as (_, port), connected(port) as connection:
        connection.sendall(get("/") + get("/"))
        until(lambda: len(taken) == 2)
        file = connection.makefile("rb")
        assert len(read_answer(file)[1]) == 32 << 20
        assert read_answer(file)[1] == b"body"
    assert taken == [True, False]


def test_requests_leave_nothing_to_the_garbage_collector() -> None:
    async def whole(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        scope["extensions"][WHOLE_ANSWER](200, [], b"body")

    async def trial(application: Application) -> int:
        config = uvicorn.Config(application, log_config=None)
        config.load()
        connection = Connection(config, uvicorn.server.ServerState(), {})
        connection.connection_made(Paper())
        gc.collect()
        gc.disable()
        try:
            for _ in range(100):
                connection.data_received(post("/", b"body"))
                for _ in range(3):
                    await asyncio.sleep(0)
            return gc.collect()
        finally:
            gc.enable()
            connection.connection_lost(None)

    for application in (echo, whole):
        assert asyncio.run(trial(application)) < 50


def test_an_application_that_fails_answers_500_and_hangs_up() -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("a secret")

    with served(fail) as (_, port), connected(port) as connection:
        connection.sendall(get("/"))
        whole = rest(connection)
    assert whole.startswith(b"HTTP/1.1 500 ")
    assert b"secret" not in whole


@pytest.mark.parametrize("sent", [[], [{"type": "http.response.start", "status": 200, "headers": []}]])
def test_an_application_that_says_too_little_answers_500(sent: list[Message]) -> None:
    async def forget(scope: Scope, receive: Receive, send: Send) -> None:
        for message in sent:
            await send(message)

    with served(forget) as (_, port), connected(port) as connection:
        connection.sendall(get("/"))
        assert rest(connection).startswith(b"HTTP/1.1 500 ")


def test_an_answer_that_breaks_off_hangs_up() -> None:
    async def break_off(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        await send({"type": "http.response.body", "body": b"1234", "more_body": True})

    with served(break_off) as (_, port), connected(port) as connection:
        connection.sendall(get("/"))
        assert rest(connection).endswith(b"\r\n\r\n1234")


@pytest.mark.parametrize("body", [b"12", b"1234"])
def test_an_answer_is_as_long_as_it_says_or_none(body: bytes) -> None:
    async def lie(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [length(b"123")]})
        await send({"type": "http.response.body", "body": body})

    with served(lie) as (_, port), connected(port) as connection:
        connection.sendall(get("/"))
        assert rest(connection).startswith(b"HTTP/1.1 500 ")


@pytest.mark.parametrize("header", [(b"a\r\nb", b"c"), (b"a", b"b\r\nc: d"), (b"a b", b"c")])
def test_a_header_is_one_line_or_none(header: tuple[bytes, bytes]) -> None:
    async def inject(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [header]})
        await send({"type": "http.response.body"})

    with served(inject) as (_, port), connected(port) as connection:
        connection.sendall(get("/"))
        whole = rest(connection)
    assert whole.startswith(b"HTTP/1.1 500 ")
    assert b"c: d" not in whole


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
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
    assert whole.startswith(b"HTTP/1.1 200 ")
    assert whole.endswith(b"POST /  body")


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


def test_an_application_learns_that_its_client_left() -> None:
    told: list[Message] = []

    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        while not told or told[-1]["type"] != "http.disconnect":
            told.append(await receive())
        await answered(send, b"nobody hears this")

    with served(wait) as (server, port):
        with connected(port) as connection:
            connection.sendall(post("/", b"body"))
            until(lambda: len(told) == 1)
        until(lambda: len(told) == 2)
        until(lambda: not server.server_state.tasks and not server.server_state.connections)
    assert told[0]["body"] == b"body"


def test_an_application_that_reads_on_after_its_answer_learns_that_it_is_over() -> None:
    told: list[Message] = []

    async def read_on(scope: Scope, receive: Receive, send: Send) -> None:
        await answered(send, b"early")
        told.append(await receive())

    with served(read_on) as (_, port), connected(port) as connection:
        assert asked(connection, post("/", b"body")) == (200, b"early")
        assert asked(connection, get("/")) == (200, b"early")
        until(lambda: len(told) == 2)
    assert {each["type"] for each in told} == {"http.disconnect"}


def test_a_body_that_nobody_read_is_skipped() -> None:
    async def early(scope: Scope, receive: Receive, send: Send) -> None:
        await answered(send, scope["path"].encode())

    body = bytes(1 << 20)
    with served(early) as (_, port), connected(port) as connection:
        for number in range(3):
            assert asked(connection, post(f"/{number}", body)) == (200, f"/{number}".encode())


@pytest.mark.parametrize("begun", [b"", b"GET / HT", post("/", b"body") + b"GET /"])
def test_an_idle_connection_is_given_up(begun: bytes) -> None:
    with served(echo, keep_alive_s=1) as (_, port), connected(port) as connection:
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


def test_an_answer_that_is_given_up_while_it_waits_for_a_slow_client_harms_nobody() -> None:
    given_up: list[BaseException] = []

    async def give_up(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(32 << 20), "more_body": True})
        task = asyncio.ensure_future(send({"type": "http.response.body"}))
        await asyncio.sleep(0.05)
        task.cancel()
        given_up.extend(each for each in await asyncio.gather(task, return_exceptions=True) if each)

    with served(give_up) as (server, port), connected(port) as connection:
        connection.sendall(get("/"))
        until(lambda: len(given_up) == 1)
        assert len(rest(connection)) > 32 << 20
        until(lambda: not server.server_state.connections)


def test_servers_of_this_process_make_such_connections() -> None:
    before = dict(uvicorn.config.HTTP_PROTOCOLS)
    try:
        stand_in()
        config = uvicorn.Config(echo, log_config=None)
        config.load()
        assert config.http_protocol_class is Connection
    finally:
        uvicorn.config.HTTP_PROTOCOLS.update(before)


_REQUESTS = [
    (get("/a?b=c"), b"GET /a b=c "),
    (post("/d", b"body"), b"POST /d  body"),
    (
        b"POST /e HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
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
