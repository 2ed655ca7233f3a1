"""Connections, shared out among the workers of one server."""

import asyncio
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from services.httpd.listener import Counts, Listener, share_out


class Echo(asyncio.Protocol):
    """Sends back what comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "meeting" / "connections"


@pytest.fixture
def counts(file: Path) -> Iterator[Counts]:
    with closing(Counts(file)) as made:
        yield made


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.setblocking(False)
        yield made


def others_hold(file: Path, count: int) -> None:
    """Let a worker of place 7 hold some connections."""
    with file.open("r+b") as memory:
        memory.seek(7 * 8)
        memory.write(struct.pack("q", count + 1))


async def echoed(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect, and see that somebody answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"x")
    assert await asyncio.wait_for(reader.readexactly(1), 10) == b"x"
    return reader, writer


def test_what_a_worker_holds_is_counted_until_it_is_lost(counts: Counts, listening: socket.socket) -> None:
    async def trial() -> None:
        with closing(Listener(listening, Echo, counts)):
            port = listening.getsockname()[1]
            connections = [await echoed(port) for _ in range(3)]
            assert counts.held == 3
            for _, writer in connections[:2]:
                writer.close()
            while counts.held != 1:
                await asyncio.sleep(0.001)
            connections[2][1].close()

    asyncio.run(asyncio.wait_for(trial(), 30))


def test_a_worker_that_holds_more_takes_a_connection_that_nobody_else_takes(
    counts: Counts, file: Path, listening: socket.socket
) -> None:
    async def trial() -> None:
        others_hold(file, 0)
        with closing(Listener(listening, Echo, counts)):
            connections = [await echoed(listening.getsockname()[1]) for _ in range(3)]
            assert counts.is_ahead()
            assert counts.held == 3
            for _, writer in connections:
                writer.close()

    asyncio.run(asyncio.wait_for(trial(), 30))


def test_only_who_holds_more_than_another_is_ahead(counts: Counts, file: Path) -> None:
    assert counts.workers == 1
    counts.held = 5
    assert not counts.is_ahead()
    others_hold(file, 5)
    assert counts.workers == 2
    assert not counts.is_ahead()
    counts.held = 6
    assert counts.is_ahead()
    counts.close()
    assert counts.workers == 1


def test_a_worker_takes_the_place_of_one_that_was_killed_and_of_none_that_lives(file: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from services.httpd.listener import Counts;"
        f"counts = Counts(Path({str(file)!r})); counts.held = 9; print(counts.workers, flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        with closing(Counts(file)) as lives:
            assert (lives.workers, lives.held) == (2, 0)
        process.kill()
        process.wait()
    script = script.replace("counts.held = 9", "pass")
    done = subprocess.run(
        [sys.executable, "-c", script], input="", stdout=subprocess.PIPE, text=True, check=True
    )
    assert done.stdout == "1\n"


def test_a_closed_listener_takes_nothing_and_keeps_nobody_waiting(counts: Counts) -> None:
    async def trial() -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        port = listening.getsockname()[1]
        listener = Listener(listening, Echo, counts)
        reader, writer = await echoed(port)
        assert listener.is_serving()
        listener.close()
        await listener.wait_closed()
        assert not listener.is_serving()
        assert len(listener.sockets) == 0
        assert counts.workers == 0
        writer.write(b"y")
        assert await reader.readexactly(1) == b"y"
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)

    asyncio.run(asyncio.wait_for(trial(), 30))


def test_a_server_of_a_given_socket_shares_out_and_others_are_as_ever(
    counts: Counts, listening: socket.socket
) -> None:
    async def trial() -> None:
        share_out(counts)
        loop = asyncio.get_running_loop()
        with closing(await loop.create_server(Echo, sock=listening, backlog=16)) as ours:
            assert isinstance(ours, Listener)
            _, writer = await echoed(listening.getsockname()[1])
            assert counts.held == 1
            writer.close()
        other = await loop.create_server(Echo, "127.0.0.1", 0)
        assert not isinstance(other, Listener)
        other.close()

    asyncio.run(asyncio.wait_for(trial(), 30))
