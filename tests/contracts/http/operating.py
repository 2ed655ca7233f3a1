"""What operators see."""

import io
import re

import httpx
import pytest
from PIL import Image

from registry.runtime import usable_providers
from tests.builders import picture
from tests.contracts.http.asking import NPY, PNG, Asking, alike, base64_of, metrics, refused, wait_for
from tests.contracts.http.running import Running, memory_bytes
from tests.services.pictures import BROKEN, GIGAPIXEL, GOOD


class Operating(Asking):
    """Health, metrics, BentoML's own routes, and memory."""

    def test_health_and_metrics_answer(self, client: httpx.Client) -> None:
        assert client.get("/livez").status_code == 200
        assert client.get("/readyz").json() == {"ready": True, "degraded": [], "refused": []}
        loaded = f'cultivar_loaded{{provider="{usable_providers()[0]}",target="digits"'
        assert loaded in client.get("/metrics").text

    def test_requests_are_counted_by_outcome_and_never_by_path(self, client: httpx.Client) -> None:
        before = metrics(client)
        for target, body in (("digits", picture()), ("digits", b"x"), ("nobody-knows-me", picture())):
            client.post(f"/v1/classify/{target}", content=body, headers=PNG)
        after = metrics(client)

        def grown(target: str, outcome: str) -> float:
            key = f'cultivar_requests_total{{operation="classify",outcome="{outcome}",target="{target}"}}'
            return after[key] - before.get(key, 0)

        assert grown("digits", "ok") == 1
        assert grown("digits", "client_error") == 1
        assert grown("unknown", "client_error") == 1
        assert not any("nobody-knows-me" in name for name in after)

    def test_bentoml_answers_the_same_operations(self, client: httpx.Client) -> None:
        ours = client.post("/v1/classify/digits", content=picture(4), headers=PNG).json()
        body = {"target": "digits", "images": [base64_of(picture(4))]}
        theirs = client.post("/classify", json=body)
        vectors = client.post("/embed", json=body)
        assert alike(theirs.json(), ours)
        assert theirs.headers["server"].startswith("BentoML")
        assert vectors.json()["dim"] == 4
        assert client.post("/classify", json=body | {"target": "nothing"}).status_code == 404
        assert client.get("/docs.json").json()["paths"].keys() >= {"/classify", "/embed"}

    @pytest.mark.parametrize("operation", ["classify", "embed"])
    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"", 400),
            (b"nonsense", 400),
            (b"[]", 400),
            (b"{}", 400),
            (b'{"target":5,"texts":["a"]}', 400),
            (b'{"target":"digits"}', 400),
            (b'{"target":"digits","images":"a"}', 400),
            (b'{"target":"digits","images":[5]}', 400),
            (b'{"target":"digits","images":[{}]}', 422),
            (b'{"target":"digits","images":["a"],"texts":["a"]}', 400),
            (b'{"target":"digits","texts":[["a",1]]}', 400),
            (b'{"target":"digits","texts":["a"],"colour":"red"}', 400),
            (b'{"target":"digits","images":[' + b'"a",' * 300 + b'"a"]}', 413),
            (b'{"target":"digits","images":' + b"[" * 100_000, 422),
        ],
    )
    def test_bentomls_operations_refuse_what_they_do_not_take_and_log_no_traceback(
        self, client: httpx.Client, running: Running, operation: str, body: bytes, status: int
    ) -> None:
        before = running.log.read_text().count("Traceback")
        answer = client.post(f"/{operation}", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == status
        assert answer.json()["error"]["message"]
        assert running.log.read_text().count("Traceback") == before

    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            ({"target": "nothing", "images": [base64_of(picture())]}, 404, "unknown_target"),
            ({"target": "no/\n name", "images": [base64_of(picture())]}, 404, "unknown_target"),
            ({"target": "digits", "images": ["AAAA"]}, 422, "undecodable_input"),
            ({"target": "digits", "images": [base64_of(GIGAPIXEL)]}, 413, "too_large"),
            ({"target": "digits", "images": ["no base64!"]}, 422, "undecodable_input"),
            ({"target": "digits", "texts": ["a"]}, 415, "wrong_modality"),
            ({"target": "digits", "images": []}, 400, "malformed_request"),
            ({"target": "moods", "texts": ["a", ["b"]]}, 422, "undecodable_input"),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("operation", ["classify", "embed"])
    def test_what_bentomls_operations_refuse_is_one_line_of_the_log(
        self,
        client: httpx.Client,
        running: Running,
        operation: str,
        body: dict[str, object],
        status: int,
        code: str,
    ) -> None:
        before = len(running.log.read_text().splitlines())
        refused(client.post(f"/{operation}", json=body), status, code)
        wait_for(lambda: len(running.log.read_text().splitlines()) > before)
        (line,) = running.log.read_text().splitlines()[before:]
        assert f"{operation} refused a request: {status}" in line

    @pytest.mark.parametrize("path", ["/classify", "/embed"])
    def test_bentomls_operations_are_posts(self, client: httpx.Client, path: str) -> None:
        for method in ("GET", "PUT", "DELETE"):
            answer = client.request(method, path)
            refused(answer, 405, "method_not_allowed")
            assert "POST" in answer.headers["allow"]
        assert client.options(path).headers["allow"] == "POST, OPTIONS"

    @pytest.mark.parametrize("path", ["/metrics", "/docs.json", "/schema.json", "/healthz"])
    def test_bentomls_pages_are_read_alone(self, client: httpx.Client, path: str) -> None:
        assert client.get(path).status_code == 200
        head = client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        refused(client.post(path, content=bytes(1000)), 405, "method_not_allowed")
        assert client.options(path).status_code == 204

    def test_what_a_broken_picture_makes_its_decoder_say_is_not_kept(
        self, client: httpx.Client, running: Running
    ) -> None:
        stream = io.BytesIO()
        Image.new("RGB", (4, 4)).save(stream, "TIFF")
        for number in range(3):
            # Several values where the compression has one: Pillow warns of each number of them.
            broken = re.sub(rb"\x03\x01\x03\x00\x01", b"\x03\x01\x03\x00%c" % (2 + number), stream.getvalue())
            assert client.post("/v1/classify/digits", content=broken, headers=PNG).status_code in (200, 422)
        assert "Warning" not in running.log.read_text()

    def test_bentomls_operations_take_json_alone(self, client: httpx.Client) -> None:
        refused(client.post("/classify", content=picture(), headers=PNG), 415, "unsupported_media_type")

    def test_the_page_at_the_root_loads_nothing_from_elsewhere(self, client: httpx.Client) -> None:
        answer = client.get("/")
        assert answer.headers["content-type"].startswith("text/html")
        assert "/v1/classify/" in answer.text
        assert "http:" not in answer.text
        assert "https:" not in answer.text
        assert "<script" not in answer.text

    def test_the_longest_stall_of_the_event_loop_is_shown(self, client: httpx.Client) -> None:
        stalls = [
            value for name, value in metrics(client).items() if name.startswith("cultivar_loop_stall_seconds")
        ]
        assert len(stalls) == 1
        assert 0 <= stalls[0] < 60

    def test_hostile_pictures_leave_no_memory_behind(self, client: httpx.Client, running: Running) -> None:
        def attack() -> None:
            for data in (GIGAPIXEL, *BROKEN.values(), GOOD["animated"]):
                client.post("/v1/classify/digits", content=data, headers=PNG)
                client.post("/v1/classify/digits", content=bytes(1 << 20), headers=NPY)

        for _ in range(5):
            attack()
        before = memory_bytes(running)
        for _ in range(25):
            attack()
        assert memory_bytes(running) - before < 16 << 20
