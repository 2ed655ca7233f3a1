"""The HTTP contract, under BentoML's real server: in front of its middleware, and mounted behind it."""

import socket
from collections.abc import Iterator

import httpx
import pytest

from services.httpd.connection import MAX_HEAD_BYTES
from tests.builders import picture
from tests.contracts.http import PNG, HttpContract, Running, serving
from tests.contracts.http.asking import refused


class TestOverride(HttpContract):
    @pytest.fixture(scope="class")
    @classmethod
    def running(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
        with serving(tmp_path_factory.mktemp("override")) as running:
            yield running

    def test_the_override_is_in_effect(self, client: httpx.Client) -> None:
        answer = client.post("/v1/classify/digits", content=picture(), headers=PNG)
        assert "server" not in answer.headers
        assert "/v1/classify" not in "\n".join(
            line for line in client.get("/metrics").text.splitlines() if line.startswith("bentoml_")
        )

    def test_connections_are_our_own(self, running: Running) -> None:
        with socket.create_connection(("127.0.0.1", running.server.settings.port), 10) as connection:
            head = b"GET /livez HTTP/1.1\r\nX-Long: " + b"x" * MAX_HEAD_BYTES
            connection.sendall(head)
            assert connection.recv(100).startswith(b"HTTP/1.1 431 ")

    def test_unknown_paths_never_reach_bentoml(self, client: httpx.Client) -> None:
        answer = client.get("/made/up/path")
        assert answer.json()["error"]["code"] == "unknown_route"
        assert "made/up" not in client.get("/metrics").text

    def test_bentomls_files_are_not_served(self, client: httpx.Client) -> None:
        refused(client.get("/static_content/swagger-initializer.js"), 404, "unknown_route")

    def test_bentoml_bodies_are_limited_too(self, client: httpx.Client) -> None:
        assert client.post("/classify", content=bytes(2 << 20)).status_code == 413


class TestMount(HttpContract):
    @pytest.fixture(scope="class")
    @classmethod
    def running(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
        with serving(tmp_path_factory.mktemp("mount"), front="mount") as running:
            yield running

    def test_the_mount_is_behind_bentomls_middleware(self, client: httpx.Client) -> None:
        client.post("/v1/classify/digits", content=picture(), headers=PNG)
        assert 'endpoint="/v1/classify/digits"' in client.get("/metrics").text
