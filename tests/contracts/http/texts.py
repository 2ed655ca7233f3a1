"""Texts and pairs of texts are answered as without a server."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from registry.registry import Registry
from services.commands.input_files import TextRow
from services.commands.offline import OfflineModel
from tests.builders import picture
from tests.contracts.http.asking import (
    JSON,
    NPY,
    PNG,
    Asking,
    alike,
    base64_of,
    labels_of,
    npy,
    pixels,
    refused,
)
from tests.contracts.http.running import Running

TEXTS: tuple[str | tuple[str, str], ...] = (
    "the day is bright", "", "a", "😀 👩‍👩‍👧 day", "مرحبا good", "שלום bad night", "a\0day\0", "\n", "Day Day DAY!",
    ("the day", "was good"), ("", ""), ("night " * 40, "is dark"), ("a", "bad " * 40),
    ("the night was dark , the day is bright " * 257)[:10_000],
)  # fmt: skip
"""Texts and pairs of every sort; the last one has 10 000 characters."""


class Texts(Asking):
    """Classes and vectors of texts."""

    def test_texts_and_pairs_are_classified_as_offline(self, client: httpx.Client, running: Running) -> None:
        with Registry.open(running.registry) as registry:
            offline = OfflineModel(registry, "words/moods@1")
        rankings = offline.classify([TextRow(raw, "here") for raw in TEXTS], 5, lambda done: None)
        answer = client.post("/v1/classify/moods", json={"texts": TEXTS})
        assert answer.status_code == 200, answer.text
        for got, want in zip(labels_of(answer), rankings, strict=True):
            assert dict(got) == pytest.approx(dict(want), abs=1e-4)
        assert len({labels[0][0] for labels in labels_of(answer)}) > 1

    def test_a_text_has_the_same_vector_alone_offline_and_in_company(
        self, client: httpx.Client, running: Running
    ) -> None:
        with Registry.open(running.registry) as registry:
            offline = OfflineModel(registry, "words/meanings@1")
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
        assert refused(answer, status, code).get("index") == index

    def test_bentoml_takes_texts_and_pairs_too(self, client: httpx.Client) -> None:
        texts = ["the day", ["a day", "is good"]]
        ours = client.post("/v1/classify/moods", json={"texts": texts}).json()
        theirs = client.post("/classify", json={"target": "moods", "texts": texts})
        vectors = client.post("/embed", json={"target": "meanings", "texts": texts})
        assert alike(theirs.json(), ours)
        assert len(vectors.json()["embeddings"]) == 2
        assert client.post("/classify", json={"target": "moods", "texts": [["a"]]}).status_code == 422
        assert client.post("/classify", json={"target": "digits", "texts": texts}).status_code == 415
