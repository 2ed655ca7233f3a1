"""Bodies that are long, slow or broken off, and the connections that they come on."""

import http.client
import io
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
from PIL import Image

from tests.builders import picture
from tests.contracts.http.asking import PNG, Asking, metrics, refused
from tests.contracts.http.running import Running, connection_to


class Connections(Asking):
    """What goes on beneath a request."""

    def test_a_body_over_the_limit_is_refused_from_its_announcement(self, running: Running) -> None:
        head = "POST /v1/classify/digits HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
        with connection_to(running) as sock:
            sock.sendall(f"{head}Content-Length: 1000000000000\r\n\r\n".encode())
            assert sock.recv(1000).startswith(b"HTTP/1.1 413 ")

    def test_a_body_in_chunks_is_refused_at_the_limit(self, client: httpx.Client) -> None:
        def chunks() -> Iterator[bytes]:
            for _ in range(40):
                yield bytes(64 << 10)

        refused(client.post("/v1/classify/digits", content=chunks(), headers=PNG), 413, "too_large")

    def test_a_body_in_chunks_within_the_limit_is_read(self, client: httpx.Client) -> None:
        data = picture(5)
        answer = client.post("/v1/classify/digits", content=iter([data[:10], data[10:]]), headers=PNG)
        assert answer.status_code == 200

    def test_a_body_that_does_not_come_ends_at_the_deadline(self, running: Running) -> None:
        head = "POST /v1/classify/digits HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\n"
        with connection_to(running) as sock:
            sock.sendall(f"{head}only this".encode())
            assert sock.recv(1000).startswith(b"HTTP/1.1 504 ")

    def test_a_connection_stays_usable_after_errors(self, running: Running) -> None:
        parts = urlsplit(running.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        connection.connect()
        first = connection.sock
        for path, body, status in [
            ("/v1/classify/digits", b"nonsense", 422),
            ("/v1/classify/digits", bytes(2 << 20), 413),
            ("/v1/classify/nothing", bytes(1 << 20), 404),
            ("/v1/classify/digits", picture(), 200),
        ]:
            connection.request("POST", path, body, {"Content-Type": "image/png"})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == status
            assert connection.sock is first
        connection.close()

    def test_a_client_that_leaves_while_it_is_worked_for_is_counted_as_gone(
        self, running: Running, client: httpx.Client
    ) -> None:
        key = 'cultivar_requests_total{operation="classify",outcome="abandoned",target="digits"}'
        page = io.BytesIO()
        Image.new("RGB", (1000, 1000)).save(page, "png")
        form = client.build_request("POST", "/", files=[("images", page.getvalue())] * 64)
        body = form.read()
        head = f"POST /v1/classify/digits HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        kind = f"Content-Type: {form.headers['content-type']}\r\n\r\n"
        before = metrics(client).get(key, 0.0)
        with connection_to(running) as sock:
            sock.sendall((head + kind).encode() + body)
        deadline = time.monotonic() + 10
        while metrics(client).get(key, 0.0) == before and time.monotonic() < deadline:
            time.sleep(0.02)
        assert metrics(client)[key] == before + 1

    def test_a_client_that_leaves_harms_nobody(self, running: Running, client: httpx.Client) -> None:
        head = "POST /v1/classify/digits HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 9999\r\n\r\n"
        for _ in range(20):
            with connection_to(running) as sock:
                sock.sendall(head.encode())
        assert client.post("/v1/classify/digits", content=picture(), headers=PNG).status_code == 200
