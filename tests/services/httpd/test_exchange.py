"""Requests and answers as applications and clients see them."""

import asyncio
import gc
import threading
import time

import pytest
import uvicorn

from services.httpd.asgi import WHEN_LEFT, WHOLE_ANSWER, Application, Message, Receive, Scope, Send
from services.httpd.connection import Connection
from services.httpd.exchange import MAX_WAITING_BYTES
from tests.services.httpd.clients import (
    Paper,
    answer,
    answered,
    asked,
    connected,
    echo,
    get,
    length,
    post,
    read_answer,
    rest,
    served,
    until,
)


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
        scope["extensions"][WHOLE_ANSWER](status, [(b"a", b"b")], body)

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


def test_a_request_waits_until_its_client_has_taken_the_answer_before() -> None:
    begun: list[str] = []

    async def whole(scope: Scope, receive: Receive, send: Send) -> None:
        begun.append(scope["path"])
        scope["extensions"][WHOLE_ANSWER](200, [], bytes(32 << 20) if len(begun) == 1 else b"body")

    with served(whole) as (_, port), connected(port) as connection:
        connection.sendall(get("/first") + get("/second"))
        until(lambda: begun == ["/first"])
        with connected(port) as other:
            assert asked(other, get("/third")) == (200, b"body")
        assert begun == ["/first", "/third"]
        connection.sendall(get("/fourth"))
        file = connection.makefile("rb")
        assert len(read_answer(file)[1]) == 32 << 20
        assert [read_answer(file)[1] for _ in range(2)] == [b"body"] * 2
    assert begun[2:] == ["/second", "/fourth"]


def test_what_waits_for_a_slow_client_is_answered_when_the_server_stops() -> None:
    async def pour(scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"][WHOLE_ANSWER](200, [], bytes(32 << 20) if scope["path"] == "/first" else b"body")

    with served(pour) as (server, port), connected(port) as connection:
        connection.sendall(get("/first") + get("/second"))
        until(lambda: server.server_state.total_requests == 1)
        server.should_exit = True
        file = connection.makefile("rb")
        assert len(read_answer(file)[1]) == 32 << 20
        assert read_answer(file)[1] == b"body"
        assert file.read() == b""


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

    async def attentive(scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        scope["extensions"][WHEN_LEFT](task.cancel)
        await whole(scope, receive, send)

    for application in (echo, whole, attentive):
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


def test_who_asked_for_it_is_told_once_that_the_client_left_and_late_ones_at_once() -> None:
    told: list[str] = []
    asked_for, late = asyncio.Event(), asyncio.Event()

    async def attentive(scope: Scope, receive: Receive, send: Send) -> None:
        when_left = scope["extensions"][WHEN_LEFT]
        when_left(lambda: told.append("early"))
        asked_for.set()
        await late.wait()
        when_left(lambda: told.append("late"))

    async def trial() -> None:
        config = uvicorn.Config(attentive, log_config=None)
        config.load()
        connection = Connection(config, uvicorn.server.ServerState(), {})
        connection.connection_made(Paper())
        connection.data_received(post("/", b"body"))
        await asked_for.wait()
        assert told == []
        connection.connection_lost(None)
        assert told == ["early"]
        late.set()
        await asyncio.sleep(0.01)
        assert told == ["early", "late"]

    asyncio.run(trial())


@pytest.mark.parametrize("size", [4, 100_000, 1_000_000])
def test_a_client_that_sent_ahead_is_seen_to_leave_during_its_second_request(size: int) -> None:
    told: list[str] = []
    begun, over = threading.Event(), threading.Event()

    async def attentive(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["more_body"]:
            pass
        if scope["path"] == "/first":
            await answered(send, b"answer")
            return
        scope["extensions"][WHEN_LEFT](lambda: told.append("left"))
        begun.set()
        while not over.is_set():
            await asyncio.sleep(0.01)

    with served(attentive) as (server, port):
        with connected(port) as connection:
            connection.sendall(post("/first", b"body") + post("/second", b"x" * size))
            assert answer(connection)[1] == b"answer"
            assert begun.wait(10)
        until(lambda: told == ["left"])
        over.set()
        until(lambda: not server.server_state.tasks)


def test_a_client_that_leaves_after_its_answer_is_nobodys_business() -> None:
    told: list[str] = []

    async def attentive(scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"][WHEN_LEFT](lambda: told.append("left"))
        await answered(send, b"answer")

    with served(attentive) as (server, port):
        with connected(port) as connection:
            assert asked(connection, get("/")) == (200, b"answer")
        until(lambda: not server.server_state.connections)
    assert told == []


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
