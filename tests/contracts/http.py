"""What every way of serving answers over HTTP, whichever application stands in front.

A subclass provides the fixture ``running``: a server on a registry of its own, with the limits in
``LIMITS``, in which ``prepare`` has put three targets.
"""

import base64
import http.client
import io
import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from registry.registry import Registry
from registry.settings import Settings
from services.inputs import PictureFile, TextRow
from services.offline import Offline
from services.server import Server, free_port
from services.settings import ServeSettings
from tests.builders import LABELS, SIDE, picture, publish, tiny, tiny_text
from tests.services.pictures import BROKEN, GIGAPIXEL, GOOD, TRUNCATED

LIMITS = {
    "max_body_bytes": 1 << 20, "max_held_bytes": 64 << 20, "max_characters": 20_000, "deadline_s": 3.0
}  # fmt: skip
PNG = {"content-type": "image/png"}
NPY = {"content-type": "application/x-npy"}
JSON = {"content-type": "application/json"}
MISSING = object()
TEXTS: tuple[str | tuple[str, str], ...] = (
    "the day is bright", "", "a", "😀 👩‍👩‍👧 day", "مرحبا good", "שלום bad night", "a\0day\0", "\n", "Day Day DAY!",
    ("the day", "was good"), ("", ""), ("night " * 40, "is dark"), ("a", "bad " * 40),
    ("the night was dark , the day is bright " * 257)[:10_000],
)  # fmt: skip
"""Texts and pairs of every sort; the last one has 10 000 characters."""


@dataclass(frozen=True)
class Running:
    """A server that runs."""

    server: Server
    registry: Settings
    log: Path

    @property
    def url(self) -> str:
        return self.server.url


def prepare(registry: Registry) -> None:
    """Put two versions of digits (one in production, one in staging), shapes, a headless one and texts in."""
    for number, stage in ((1, "production"), (2, "staging")):
        registry.promote(publish(registry, tiny("letters/digits", seed=number)).ref, stage)
    registry.promote(publish(registry, tiny("random/shapes", seed=3, trunk_seed=7)).ref, "production")
    registry.promote(publish(registry, tiny("letters/vectors", labels=None)).ref, "production")
    registry.promote(publish(registry, tiny_text("words/moods", seed=1)).ref, "production")
    registry.promote(publish(registry, tiny_text("words/meanings", labels=None)).ref, "production")


@contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[Running]:
    """Run a server on a new registry in a folder."""
    registry = Settings.read(folder / "home", environment={"CULTIVAR_ACTOR": "tests"})
    with Registry.open(registry) as opened:
        prepare(opened)
    limits = ServeSettings(port=free_port(), stages=("staging",), **(LIMITS | settings))
    log = folder / "server.log"
    with log.open("wb") as file, Server(limits, registry, file.fileno()) as server:
        server.wait_until_ready(60)
        yield Running(server, registry, log)


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def pixels(rows: int = 1, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(rows).integers(0, 256, (rows, side, side, 3), dtype=np.uint8)


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


class HttpContract:
    """The outside interface, as clients see it."""

    @pytest.fixture(scope="class")
    @classmethod
    def client(cls, running: Running) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=running.url, timeout=20) as client:
            yield client

    @pytest.fixture(scope="class")
    @classmethod
    def offline(cls, running: Running) -> Offline:
        with Registry.open(running.registry) as registry:
            return Offline(registry, "letters/digits@1")

    # Answers

    def test_targets_say_what_is_served(self, client: httpx.Client) -> None:
        entries = client.get("/v1/targets").json()["targets"]
        named = {(entry["target"], entry["stage"]): entry for entry in entries}
        assert set(named) == {
            ("digits", "production"), ("digits", "staging"), ("shapes", "production"), ("vectors", "production"),
            ("moods", "production"), ("meanings", "production"),
        }  # fmt: skip
        digits = named["digits", "production"]
        assert digits["ref"] == "letters/digits@1"
        assert digits["version"] == 1
        assert digits["kind"] == "classification"
        assert digits["labels"] == list(LABELS)
        assert digits["state"] == "ready"
        assert digits["providers"][-1] == "CPUExecutionProvider"
        assert [segment["role"] for segment in digits["segments"]] == ["trunk", "head"]
        assert digits["segments"][0] == named["vectors", "production"]["segments"][0]
        assert named["vectors", "production"]["labels"] is None
        assert named["vectors", "production"]["kind"] == "embedding"

    def test_a_raw_picture_is_classified_as_offline(
        self, client: httpx.Client, offline: Offline, tmp_path: Path
    ) -> None:
        (tmp_path / "a.png").write_bytes(picture(5))
        answer = client.post("/v1/classify/digits", content=picture(5), headers=PNG)
        (ranking,) = offline.classify([PictureFile(tmp_path / "a.png")], 5, lambda done: None)
        assert answer.status_code == 200
        document = answer.json()
        assert document.pop("results") == [
            {
                "labels": [
                    {"label": label, "score": pytest.approx(score, abs=1e-6)} for label, score in ranking
                ]
            }
        ]
        identity = offline.identity
        assert document == {
            "target": "digits",
            "ref": "letters/digits@1",
            "version": 1,
            "digest": identity.digest,
            "space_id": identity.space_id,
            "labels_digest": identity.labels_digest,
        }
        assert answer.headers["x-cultivar-version"] == "letters/digits@1"
        assert answer.headers["x-cultivar-space"] == identity.space_id
        assert answer.headers["content-type"] == "application/json"

    def test_every_kind_of_body_gives_the_same_results_in_order(self, client: httpx.Client) -> None:
        pictures = [picture(seed) for seed in range(11)]
        array = np.stack([np.asarray(_open(data)) for data in pictures])
        answers = [
            client.post(
                "/v1/classify/digits", files=[("image", (f"{i}.png", p)) for i, p in enumerate(pictures)]
            ),
            client.post("/v1/classify/digits", json={"images": [base64_of(p) for p in pictures]}),
            client.post("/v1/classify/digits", content=npy(array), headers=NPY),
        ]
        singles = [client.post("/v1/classify/digits", content=p, headers=PNG) for p in pictures]
        assert all(answer.status_code == 200 for answer in answers + singles)
        expected = [_labels(single)[0] for single in singles]
        assert len({tuple(label for label, _ in labels) for labels in expected}) > 1
        for answer in answers:
            for got, want in zip(_labels(answer), expected, strict=True):
                assert [label for label, _ in got] == [label for label, _ in want]
                assert [score for _, score in got] == pytest.approx([score for _, score in want], abs=1e-6)

    @pytest.mark.parametrize(("top_k", "labels"), [(1, 1), (2, 2), (999, 3)])
    def test_top_k_is_clamped(self, client: httpx.Client, top_k: int, labels: int) -> None:
        answer = client.post(f"/v1/classify/digits?top_k={top_k}", content=picture(), headers=PNG)
        ranking = answer.json()["results"][0]["labels"]
        assert len(ranking) == labels
        assert [each["score"] for each in ranking] == sorted(
            (each["score"] for each in ranking), reverse=True
        )

    def test_scores_of_a_classification_sum_to_one(self, client: httpx.Client) -> None:
        answer = client.post("/v1/classify/shapes", content=picture(), headers=PNG)
        assert sum(each["score"] for each in answer.json()["results"][0]["labels"]) == pytest.approx(
            1, abs=1e-6
        )

    def test_embeddings_come_as_json_or_as_an_array(self, client: httpx.Client) -> None:
        body = npy(pixels(9))
        document = client.post("/v1/embed/vectors", content=body, headers=NPY).json()
        answer = client.post("/v1/embed/vectors", content=body, headers=NPY | {"accept": "application/x-npy"})
        array = np.load(io.BytesIO(answer.content), allow_pickle=False)
        assert document["dim"] == 4
        assert document["ref"] == "letters/vectors@1"
        assert answer.headers["content-type"] == "application/x-npy"
        assert answer.headers["x-cultivar-space"] == document["space_id"]
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, np.array(document["embeddings"]), rtol=1e-6)

    def test_more_rows_than_a_batch_are_answered_in_order(self, client: httpx.Client) -> None:
        array = pixels(256)
        whole = client.post("/v1/embed/vectors", content=npy(array), headers=NPY).json()["embeddings"]
        alone = client.post("/v1/embed/vectors", content=npy(array[200:201]), headers=NPY).json()[
            "embeddings"
        ]
        assert len(whole) == 256
        np.testing.assert_allclose(whole[200], alone[0], rtol=1e-5)

    @pytest.mark.parametrize("name", GOOD)
    def test_every_kind_of_picture_is_understood_as_offline(
        self, client: httpx.Client, offline: Offline, tmp_path: Path, name: str
    ) -> None:
        (tmp_path / name).write_bytes(GOOD[name])
        (ranking,) = offline.classify([PictureFile(tmp_path / name)], 5, lambda done: None)
        answer = client.post(
            "/v1/classify/digits", content=GOOD[name], headers={"content-type": "image/jpeg"}
        )
        assert answer.status_code == 200, answer.text
        assert [label for label, _ in _labels(answer)[0]] == [label for label, _ in ranking]

    # Texts

    def test_texts_and_pairs_are_classified_as_offline(self, client: httpx.Client, running: Running) -> None:
        with Registry.open(running.registry) as registry:
            offline = Offline(registry, "words/moods@1")
        rankings = offline.classify([TextRow(raw, "here") for raw in TEXTS], 5, lambda done: None)
        answer = client.post("/v1/classify/moods", json={"texts": TEXTS})
        assert answer.status_code == 200, answer.text
        for got, want in zip(_labels(answer), rankings, strict=True):
            assert dict(got) == pytest.approx(dict(want), abs=1e-4)
        assert len({labels[0][0] for labels in _labels(answer)}) > 1

    def test_a_text_has_the_same_vector_alone_offline_and_in_company(
        self, client: httpx.Client, running: Running
    ) -> None:
        with Registry.open(running.registry) as registry:
            offline = Offline(registry, "words/meanings@1")
        expected = np.concatenate(
            list(offline.embed([TextRow(raw, "here") for raw in TEXTS], lambda done: None))
        )
        together = client.post("/v1/embed/meanings", json={"texts": TEXTS})
        assert (
            together.json()["space_id"] == offline.identity.space_id == together.headers["x-cultivar-space"]
        )
        np.testing.assert_allclose(together.json()["embeddings"], expected, atol=1e-4)
        for raw, vector in zip(TEXTS, expected, strict=True):
            alone = client.post("/v1/embed/meanings", json={"texts": [raw]})
            np.testing.assert_allclose(alone.json()["embeddings"], [vector], atol=1e-4)

    def test_texts_of_all_lengths_at_once_are_each_answered_as_alone(self, client: httpx.Client) -> None:
        texts = [
            " ".join(["the", "day", "night", "good", "bad"][: 1 + n % 5] * (1 + n % 7)) for n in range(40)
        ]
        expected = client.post("/v1/embed/meanings", json={"texts": texts}).json()["embeddings"]
        found: dict[int, list[float]] = {}

        def ask(number: int) -> None:
            answer = client.post("/v1/embed/meanings", json={"texts": [texts[number]]})
            found[number] = answer.json()["embeddings"][0]

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(len(texts))))
        np.testing.assert_allclose([found[number] for number in range(len(texts))], expected, atol=1e-4)

    @pytest.mark.parametrize(
        ("target", "headers", "body", "status", "code", "index"),
        [
            ("moods", PNG, picture(), 415, "wrong_modality", None),
            ("moods", NPY, npy(pixels()), 415, "wrong_modality", None),
            (
                "moods",
                JSON,
                json.dumps({"images": [base64_of(picture())]}).encode(),
                415,
                "wrong_modality",
                None,
            ),
            ("digits", JSON, b'{"texts": ["a"]}', 415, "wrong_modality", None),
            ("digits", JSON, b'{"texts": [["a", "b"]]}', 415, "wrong_modality", None),
            ("moods", JSON, b'{"texts": ["a", 7]}', 422, "undecodable_input", 1),
            ("moods", JSON, b'{"texts": ["a", null]}', 422, "undecodable_input", 1),
            ("moods", JSON, b'{"texts": ["a", "b", ["a"]]}', 422, "undecodable_input", 2),
            ("moods", JSON, b'{"texts": [["a", "b", "c"]]}', 422, "undecodable_input", 0),
            ("moods", JSON, b'{"texts": [["a", 1]]}', 422, "undecodable_input", 0),
            ("moods", JSON, b'{"texts": []}', 400, "malformed_request", None),
            ("moods", JSON, b'{"texts": "a"}', 400, "malformed_request", None),
            ("moods", JSON, b'{"texts": ["\xff"]}', 400, "malformed_request", None),
            ("moods", JSON, b'{"texts": ["\\ud800"]}', 400, "malformed_request", None),
            ("moods", JSON, json.dumps({"texts": ["a"] * 257}).encode(), 413, "too_large", None),
            ("moods", JSON, json.dumps({"texts": ["a", "a" * 20_001]}).encode(), 413, "too_large", 1),
            (
                "moods",
                JSON,
                json.dumps({"texts": [["a" * 10_000, "b" * 10_001]]}).encode(),
                413,
                "too_large",
                0,
            ),
            ("meanings", JSON, b'{"texts": ["a"]}', 409, "missing_output", None),
        ],
        ids=str,
    )
    def test_texts_that_cannot_be_answered_are_refused(
        self,
        client: httpx.Client,
        target: str,
        headers: Mapping[str, str],
        body: bytes,
        status: int,
        code: str,
        index: int | None,
    ) -> None:
        answer = client.post(f"/v1/classify/{target}", content=body, headers=headers)
        assert _refused(answer, status, code).get("index") == index

    def test_bentoml_takes_texts_and_pairs_too(self, client: httpx.Client) -> None:
        texts = ["the day", ["a day", "is good"]]
        ours = client.post("/v1/classify/moods", json={"texts": texts}).json()
        theirs = client.post("/classify", json={"target": "moods", "texts": texts})
        vectors = client.post("/embed", json={"target": "meanings", "texts": texts})
        assert theirs.json() == ours
        assert len(vectors.json()["embeddings"]) == 2
        assert client.post("/classify", json={"target": "moods", "texts": [["a"]]}).status_code == 422
        assert client.post("/classify", json={"target": "digits", "texts": texts}).status_code == 415

    # Which version answers

    @pytest.mark.parametrize(
        ("query", "ref"),
        [
            ("", "letters/digits@1"),
            ("?stage=production", "letters/digits@1"),
            ("?stage=staging", "letters/digits@2"),
            ("?version=2", "letters/digits@2"),
            ("?version=1&source=letters", "letters/digits@1"),
        ],
    )
    def test_the_query_chooses_among_deployed_versions(
        self, client: httpx.Client, query: str, ref: str
    ) -> None:
        answer = client.post(f"/v1/classify/digits{query}", content=picture(), headers=PNG)
        assert answer.json()["ref"] == answer.headers["x-cultivar-version"] == ref

    def test_a_version_is_chosen_by_the_beginning_of_its_digest(self, client: httpx.Client) -> None:
        staged = client.post("/v1/classify/digits?stage=staging", content=picture(), headers=PNG).json()
        query = f"?version={staged['digest'][:20]}"
        assert client.post(f"/v1/classify/digits{query}", content=picture(), headers=PNG).json() == staged

    def test_a_client_that_expects_another_space_is_refused(self, client: httpx.Client) -> None:
        space = client.post("/v1/embed/vectors", content=picture(), headers=PNG).json()["space_id"]
        right = client.post("/v1/embed/vectors", content=picture(), headers=PNG | {"x-expect-space": space})
        wrong = client.post("/v1/embed/shapes", content=picture(), headers=PNG | {"x-expect-space": space})
        assert right.status_code == 200
        _refused(wrong, 409, "space_differs")

    # Refusals

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
            ("/v1/classify", 404, "unknown_route"),
            ("/v1/nothing", 404, "unknown_route"),
        ],
    )
    def test_a_request_for_something_else_is_refused(
        self, client: httpx.Client, path: str, status: int, code: str
    ) -> None:
        _refused(client.post(path, content=picture(), headers=PNG), status, code)

    @pytest.mark.parametrize("name", BROKEN)
    def test_a_broken_picture_is_refused_by_name(self, client: httpx.Client, name: str) -> None:
        answer = client.post(
            "/v1/classify/digits", content=BROKEN[name], headers={"content-type": "image/jpeg"}
        )
        assert _refused(answer, 422, "undecodable_input")["index"] == 0

    def test_the_broken_one_among_several_is_named(self, client: httpx.Client) -> None:
        items = [picture(), picture(), TRUNCATED["truncated-png"], picture()]
        form = client.post(
            "/v1/classify/digits", files=[("f", (str(i), item)) for i, item in enumerate(items)]
        )
        document = client.post("/v1/classify/digits", json={"images": [base64_of(item) for item in items]})
        for answer in (form, document):
            assert _refused(answer, 422, "undecodable_input")["index"] == 2

    def test_a_gigapixel_picture_is_refused_before_it_is_decoded(self, client: httpx.Client) -> None:
        answer = client.post("/v1/classify/digits", content=GIGAPIXEL, headers=PNG)
        assert "30000 x 30000" in _refused(answer, 413, "too_large")["message"]

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
        _refused(client.post("/v1/classify/digits", content=content, headers=headers), status, code)

    def test_a_form_of_257_files_is_refused(self, client: httpx.Client) -> None:
        files = [("f", ("a.png", b"x"))] * 257
        _refused(client.post("/v1/classify/digits", files=files), 413, "too_large")

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
        _refused(answer, 405, "method_not_allowed")
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

    def test_a_body_over_the_limit_is_refused_from_its_announcement(self, running: Running) -> None:
        head = "POST /v1/classify/digits HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
        with _connection(running) as sock:
            sock.sendall(f"{head}Content-Length: 1000000000000\r\n\r\n".encode())
            assert sock.recv(1000).startswith(b"HTTP/1.1 413 ")

    def test_a_body_in_chunks_is_refused_at_the_limit(self, client: httpx.Client) -> None:
        def chunks() -> Iterator[bytes]:
            for _ in range(40):
                yield bytes(64 << 10)

        _refused(client.post("/v1/classify/digits", content=chunks(), headers=PNG), 413, "too_large")

    def test_a_body_in_chunks_within_the_limit_is_read(self, client: httpx.Client) -> None:
        data = picture(5)
        answer = client.post("/v1/classify/digits", content=iter([data[:10], data[10:]]), headers=PNG)
        assert answer.status_code == 200

    def test_a_body_that_does_not_come_ends_at_the_deadline(self, running: Running) -> None:
        head = "POST /v1/classify/digits HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\n"
        with _connection(running) as sock:
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

    def test_a_client_that_leaves_harms_nobody(self, running: Running, client: httpx.Client) -> None:
        head = "POST /v1/classify/digits HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 9999\r\n\r\n"
        for _ in range(20):
            with _connection(running) as sock:
                sock.sendall(head.encode())
        assert client.post("/v1/classify/digits", content=picture(), headers=PNG).status_code == 200

    # What operators see

    def test_health_and_metrics_answer(self, client: httpx.Client) -> None:
        assert client.get("/livez").status_code == 200
        assert client.get("/readyz").json() == {"ready": True, "degraded": [], "refused": []}
        assert (
            'cultivar_loaded{provider="CPUExecutionProvider",target="digits"' in client.get("/metrics").text
        )

    def test_requests_are_counted_by_outcome_and_never_by_path(self, client: httpx.Client) -> None:
        before = _metrics(client)
        for target, body in (("digits", picture()), ("digits", b"x"), ("nobody-knows-me", picture())):
            client.post(f"/v1/classify/{target}", content=body, headers=PNG)
        after = _metrics(client)

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
        assert theirs.json() == ours
        assert theirs.headers["server"].startswith("BentoML")
        assert vectors.json()["dim"] == 4
        assert client.post("/classify", json=body | {"target": "nothing"}).status_code == 404
        assert client.get("/docs.json").json()["paths"].keys() >= {"/classify", "/embed"}

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

    # Promotions

    def test_promotions_under_load_fail_no_request(self, running: Running) -> None:
        """Every answer comes from a version that was in production at some moment of its request."""
        with Registry.open(running.registry) as registry:
            versions = [publish(registry, tiny("letters/moving", seed=seed)) for seed in (1, 2, 3)]
            reigns = [(0.0, float("inf"), str(versions[0].ref))]
            registry.promote(versions[0].ref, "production")
            _wait_for(lambda: _production(running, "moving") == str(versions[0].ref))
            with _load(running, "moving", clients=4) as answers:
                for move in (1, 2, None, None, 2, 0):
                    begun = time.monotonic()
                    if move is None:
                        ref = str(registry.rollback("moving").ref)
                    else:
                        ref = str(registry.promote(versions[move].ref, "production").ref)
                    reigns.append((begun, float("inf"), ref))
                    _wait_for(lambda ref=ref: _production(running, "moving") == ref)
                    start, _, old = reigns[-2]
                    reigns[-2] = (start, time.monotonic(), old)
        assert len(answers) > 50
        for began, ended, status, by in answers:
            assert status == 200
            assert any(start <= ended and began <= stop and by == reign for start, stop, reign in reigns)
        assert {ref for *_, ref in answers} == {str(version.ref) for version in versions}

    def test_a_damaged_version_is_refused_while_the_old_one_serves(
        self, running: Running, client: httpx.Client
    ) -> None:
        with Registry.open(running.registry) as registry:
            good, bad, next_ = (
                publish(registry, tiny("letters/fragile", seed=seed)) for seed in (41, 42, 43)
            )
            registry.promote(good.ref, "production")
            _wait_for(lambda: _production(running, "fragile") == str(good.ref))
            path = registry.blob_path(registry.manifest(bad).segments[-1].digest)
            damaged = bytearray(path.read_bytes())
            damaged[len(damaged) // 2] ^= 1
            path.chmod(0o600)
            path.write_bytes(damaged)
            registry.promote(bad.ref, "production")
            _wait_for(lambda: _target(client, "fragile")["state"] == "stale")
            answer = client.post("/v1/classify/fragile", content=picture(), headers=PNG)
            assert answer.json()["ref"] == str(good.ref)
            refusal = {"ref": str(bad.ref), "reason": "DamagedBlob"}
            assert _target(client, "fragile")["refused"] == refusal
            ready = client.get("/readyz")
            assert ready.status_code == 200
            assert ready.json()["refused"] == [{"target": "fragile", "stage": "production", **refusal}]
            assert _metrics(client)['cultivar_swaps_total{outcome="refused"}'] >= 1
            assert str(running.registry.home) not in ready.text + answer.text + client.get("/v1/targets").text
            registry.promote(next_.ref, "production")
            _wait_for(lambda: _target(client, "fragile")["state"] == "ready")
        assert client.post("/v1/classify/fragile", content=picture(), headers=PNG).json()["ref"] == str(
            next_.ref
        )

    def test_a_target_that_nothing_answers_for_is_unavailable(
        self, running: Running, client: httpx.Client
    ) -> None:
        with Registry.open(running.registry) as registry:
            version = publish(registry, tiny("letters/broken", seed=9))
            path = registry.blob_path(registry.manifest(version).segments[-1].digest)
            path.unlink()
            registry.promote(version.ref, "production")
            _wait_for(lambda: "broken" in client.get("/readyz").json()["degraded"])
            answer = client.post("/v1/classify/broken", content=picture(), headers=PNG)
            _refused(answer, 503, "target_unavailable")
            assert answer.headers["retry-after"]
            assert _target(client, "broken")["state"] == "unavailable"
            registry.promote(version.ref, "retired")
            _wait_for(lambda: client.get("/readyz").json()["degraded"] == [])
        _refused(client.post("/v1/classify/broken", content=picture(), headers=PNG), 404, "unknown_target")

    def test_no_request_failed_unexpectedly(self, running: Running) -> None:
        assert "a request failed" not in running.log.read_text()


def _open(data: bytes) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(data))


def _labels(answer: httpx.Response) -> list[list[tuple[str, float]]]:
    return [
        [(each["label"], each["score"]) for each in result["labels"]] for result in answer.json()["results"]
    ]


def _refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert error["code"] == code
    assert error["message"]
    assert error["hint"]
    assert "/work" not in answer.text
    assert "Traceback" not in answer.text
    return error


def _metrics(client: httpx.Client) -> dict[str, float]:
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith("cultivar_")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def metric(url: str, name: str) -> float:
    """Return one of a server's figures, 0 where it has none of that name."""
    with httpx.Client(base_url=url) as client:
        return _metrics(client).get(name, 0)


def _target(client: httpx.Client, name: str) -> dict[str, Any]:
    entries = client.get("/v1/targets").json()["targets"]
    found: dict[str, Any] = next((entry for entry in entries if entry["target"] == name), {"state": None})
    return found


def _production(running: Running, target: str) -> str | None:
    answer = httpx.post(f"{running.url}/v1/classify/{target}", content=picture(), headers=PNG)
    version: str | None = answer.headers.get("x-cultivar-version")
    return version


def _wait_for(condition: Any, limit_s: float = 20) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "the server did not follow the registry"
        time.sleep(0.02)


@contextmanager
def _load(
    running: Running, target: str, clients: int
) -> Iterator[list[tuple[float, float, int, str | None]]]:
    """Send pictures from several clients without pause; note when each was sent, answered, and by whom."""
    answers: list[tuple[float, float, int, str | None]] = []
    over = threading.Event()

    def send() -> None:
        with httpx.Client(base_url=running.url, timeout=20) as client:
            while not over.is_set():
                began = time.monotonic()
                answer = client.post(f"/v1/classify/{target}", content=picture(), headers=PNG)
                ended = time.monotonic()
                answers.append((began, ended, answer.status_code, answer.headers.get("x-cultivar-version")))

    threads = [threading.Thread(target=send) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()


@contextmanager
def _connection(running: Running) -> Iterator[socket.socket]:
    parts = urlsplit(running.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as sock:
        yield sock


def worker_pids(supervisor: int) -> list[int]:
    """Return the process ids of a server's workers."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    return [
        int(pid) for pid in children if b"_bentoml_impl.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def memory_bytes(running: Running) -> int:
    """Return the resident memory of a server's workers."""
    pages = [
        int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in worker_pids(running.server.pid)
    ]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")
