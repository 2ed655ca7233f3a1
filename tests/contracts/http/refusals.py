"""What is refused, with which status and code."""

import json
from collections.abc import Mapping

import httpx
import numpy as np
import pytest

from tests.builders import SIDE, picture
from tests.contracts.http.asking import JSON, NPY, PNG, Asking, base64_of, npy, pixels, refused
from tests.services.pictures import BROKEN, GIGAPIXEL, TRUNCATED


class Refusals(Asking):
    """Requests that cannot be answered."""

    @pytest.mark.parametrize(
        ("path", "status", "code"),
        [
            ("/v1/classify/nothing", 404, "unknown_target"),
            ("/v1/classify/..%2f..%2fetc", 404, "unknown_route"),
            ("/v1/classify/digits?version=9", 404, "unknown_version"),
            ("/v1/classify/digits?version=sha256:0000", 404, "unknown_version"),
            ("/v1/classify/digits?source=elsewhere", 404, "unknown_version"),
            ("/v1/classify/digits?stage=canary", 404, "unknown_version"),
            ("/v1/classify/vectors", 409, "missing_output"),
            ("/v1/classify/digits?top_k=0", 400, "malformed_request"),
            ("/v1/classify/digits?top_k=-1", 400, "malformed_request"),
            ("/v1/classify/digits?top_k=x", 400, "malformed_request"),
            ("/v1/classify/digits?topk=3", 400, "malformed_request"),
            ("/v1/classify/digits?version=x", 400, "malformed_request"),
            ("/v1/classify/digits?version=1&stage=staging", 400, "malformed_request"),
            ("/v1/embed/digits?top_k=3", 400, "malformed_request"),
            ("/v1/classify", 400, "malformed_request"),
            ("/v1/nothing", 404, "unknown_route"),
        ],
    )
    def test_a_request_for_something_else_is_refused(
        self, client: httpx.Client, path: str, status: int, code: str
    ) -> None:
        refused(client.post(path, content=picture(), headers=PNG), status, code)

    @pytest.mark.parametrize("name", BROKEN)
    def test_a_broken_picture_is_refused_by_name(self, client: httpx.Client, name: str) -> None:
        answer = client.post(
            "/v1/classify/digits", content=BROKEN[name], headers={"content-type": "image/jpeg"}
        )
        assert refused(answer, 422, "undecodable_input")["index"] == 0

    def test_the_broken_one_among_several_is_named(self, client: httpx.Client) -> None:
        items = [picture(), picture(), TRUNCATED["truncated-png"], picture()]
        form = client.post(
            "/v1/classify/digits", files=[("f", (str(i), item)) for i, item in enumerate(items)]
        )
        document = client.post("/v1/classify/digits", json={"images": [base64_of(item) for item in items]})
        for answer in (form, document):
            assert refused(answer, 422, "undecodable_input")["index"] == 2

    def test_a_gigapixel_picture_is_refused_before_it_is_decoded(self, client: httpx.Client) -> None:
        answer = client.post("/v1/classify/digits", content=GIGAPIXEL, headers=PNG)
        assert "30000 x 30000" in refused(answer, 413, "too_large")["message"]

    @pytest.mark.parametrize(
        ("headers", "body", "status", "code"),
        [
            ({}, picture(), 415, "unsupported_media_type"),
            ({"content-type": "text/plain"}, b"hello", 415, "unsupported_media_type"),
            ({"content-type": "application/x-www-form-urlencoded"}, b"a=b", 415, "unsupported_media_type"),
            (PNG | {"content-encoding": "gzip"}, picture(), 415, "unsupported_media_type"),
            (JSON, b'{"texts": ["hello"]}', 415, "wrong_modality"),
            (JSON, b"{", 400, "malformed_request"),
            (JSON, b"[1]", 400, "malformed_request"),
            (JSON, b"{}", 400, "malformed_request"),
            (JSON, b'{"images": []}', 400, "malformed_request"),
            (JSON, b'{"images": "AAAA"}', 400, "malformed_request"),
            (JSON, b'{"images": ["AAAA"], "texts": ["a"]}', 400, "malformed_request"),
            (JSON, b'{"images": [7]}', 422, "undecodable_input"),
            (JSON, b'{"images": ["no base64!"]}', 422, "undecodable_input"),
            (JSON, b'{"images": ["data:image/png,AAAA"]}', 422, "undecodable_input"),
            (JSON, b'{"images": ["data:text/html;base64,AAAA"]}', 415, "unsupported_media_type"),
            (JSON, b'{"images": ["https://example.org/a.png"]}', 422, "undecodable_input"),
            (JSON, b"[" * 100_000, 400, "malformed_request"),
            ({"content-type": "multipart/form-data"}, b"--x--", 400, "malformed_request"),
            ({"content-type": "multipart/form-data; boundary=x"}, b"", 400, "malformed_request"),
            ({"content-type": "multipart/form-data; boundary=x"}, b"--x--\r\n", 400, "malformed_request"),
            ({"content-type": "multipart/form-data; boundary=x"}, b"--x\r\nno end", 400, "malformed_request"),
            (
                {"content-type": "multipart/form-data; boundary=x"},
                b'--x\r\nContent-Disposition: form-data; name="top_k"\r\n\r\n5\r\n--x--\r\n',
                400,
                "malformed_request",
            ),
            (NPY, npy(pixels())[:50], 422, "undecodable_input"),
            (NPY, npy(pixels())[:-1], 422, "undecodable_input"),
            (NPY, npy(pixels())[0], 422, "undecodable_input"),
            (NPY, b"", 422, "undecodable_input"),
            (NPY, npy(pixels().astype(np.float32)), 422, "undecodable_input"),
            (NPY, npy(np.asfortranarray(pixels(2))), 422, "undecodable_input"),
            (NPY, npy(pixels(side=9)), 422, "invalid_input"),
            (NPY, npy(pixels()[0]), 422, "undecodable_input"),
            (NPY, npy(np.zeros((0, SIDE, SIDE, 3), np.uint8)), 400, "malformed_request"),
            (NPY, npy(np.zeros((257, SIDE, SIDE, 3), np.uint8)), 413, "too_large"),
            (JSON, json.dumps({"images": ["AAAA"] * 257}).encode(), 413, "too_large"),
        ],
        ids=str,
    )
    def test_a_body_that_cannot_be_read_is_refused(
        self, client: httpx.Client, headers: Mapping[str, str], body: bytes | int, status: int, code: str
    ) -> None:
        content = bytes([body]) if isinstance(body, int) else body
        refused(client.post("/v1/classify/digits", content=content, headers=headers), status, code)

    def test_a_form_of_257_files_is_refused(self, client: httpx.Client) -> None:
        files = [("f", ("a.png", b"x"))] * 257
        refused(client.post("/v1/classify/digits", files=files), 413, "too_large")

    @pytest.mark.parametrize(
        ("method", "path", "allow"),
        [
            ("GET", "/v1/classify/digits", "POST"),
            ("PUT", "/v1/embed/digits", "POST"),
            ("DELETE", "/v1/targets", "GET"),
            ("POST", "/v1/targets", "GET"),
            ("POST", "/readyz", "GET"),
        ],
    )
    def test_another_method_is_refused_with_those_allowed(
        self, client: httpx.Client, method: str, path: str, allow: str
    ) -> None:
        answer = client.request(method, path)
        refused(answer, 405, "method_not_allowed")
        assert allow in answer.headers["allow"]

    @pytest.mark.parametrize(("path", "allow"), [("/v1/classify/digits", "POST"), ("/v1/targets", "GET")])
    def test_options_say_what_is_allowed(self, client: httpx.Client, path: str, allow: str) -> None:
        answer = client.options(path)
        assert answer.status_code == 204
        assert allow in answer.headers["allow"]

    def test_head_is_get_without_body(self, client: httpx.Client) -> None:
        answer = client.head("/v1/targets")
        assert answer.status_code == 200
        assert answer.content == b""

    @pytest.mark.parametrize("path", ["/v1/classify/digits", "/v1/embed/digits", "/classify", "/embed"])
    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("Content-Type", ("application/vnd.bentoml+pickle", "application/json")),
            ("Content-Type", ("application/json", "application/vnd.bentoml+pickle")),
            ("X-Expect-Space", ("cultivar-space", "cultivar-space")),
            ("X-Cultivar-Priority", ("high", "low")),
            ("X-Cultivar-Timeout", ("1", "10")),
        ],
        ids=str,
    )
    def test_a_header_of_one_value_that_is_there_twice_is_refused(
        self, client: httpx.Client, path: str, name: str, values: tuple[str, str]
    ) -> None:
        rest = {} if name == "Content-Type" else JSON
        headers = [*rest.items(), *((name, value) for value in values)]
        answer = client.post(path, content=b'{"target": "digits", "images": []}', headers=headers)
        refused(answer, 400, "malformed_request")
