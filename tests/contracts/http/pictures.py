"""Pictures are answered as without a server."""

import base64
import io
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from services.commands.input_files import PictureFile
from services.commands.offline import OfflineModel
from tests.builders import LABELS, picture
from tests.contracts.http.asking import NPY, PNG, Asking, base64_of, labels_of, npy, pixels
from tests.services.pictures import GOOD


class Pictures(Asking):
    """Classes and vectors of pictures, however they are sent."""

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
        self, client: httpx.Client, offline: OfflineModel, tmp_path: Path
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
        array = np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in pictures])
        answers = [
            client.post(
                "/v1/classify/digits", files=[("image", (f"{i}.png", p)) for i, p in enumerate(pictures)]
            ),
            client.post("/v1/classify/digits", json={"images": [base64_of(p) for p in pictures]}),
            client.post("/v1/classify/digits", content=npy(array), headers=NPY),
        ]
        singles = [client.post("/v1/classify/digits", content=p, headers=PNG) for p in pictures]
        assert all(answer.status_code == 200 for answer in answers + singles)
        expected = [labels_of(single)[0] for single in singles]
        assert len({tuple(label for label, _ in labels) for labels in expected}) > 1
        for answer in answers:
            for got, want in zip(labels_of(answer), expected, strict=True):
                assert [label for label, _ in got] == [label for label, _ in want]
                assert [score for _, score in got] == pytest.approx([score for _, score in want], abs=1e-6)

    def test_pictures_come_as_other_programs_write_them(self, client: httpx.Client) -> None:
        plain = base64_of(picture(5))
        wrapped = base64.encodebytes(picture(5)).decode()
        spellings = [plain, wrapped, f"data:image/png;base64,{plain}", f"data:image/png;base64,{wrapped}"]
        head = b"Content-Disposition: form-data; name=\"f\"; filename*=UTF-8''%D1%84.png"
        sent = client.post(
            "/v1/classify/digits",
            content=b"--x\r\n%b\r\n\r\n%b\r\n--x--\r\n" % (head, picture(5)),
            headers={"content-type": "multipart/form-data; boundary=x"},
        )
        answer = client.post("/v1/classify/digits", json={"images": spellings})
        assert (answer.status_code, sent.status_code) == (200, 200)
        (expected,) = labels_of(sent)
        for ranking in labels_of(answer):
            assert [label for label, _ in ranking] == [label for label, _ in expected]
            assert [score for _, score in ranking] == pytest.approx(
                [score for _, score in expected], abs=1e-6
            )

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
        self, client: httpx.Client, offline: OfflineModel, tmp_path: Path, name: str
    ) -> None:
        (tmp_path / name).write_bytes(GOOD[name])
        (ranking,) = offline.classify([PictureFile(tmp_path / name)], 5, lambda done: None)
        answer = client.post(
            "/v1/classify/digits", content=GOOD[name], headers={"content-type": "image/jpeg"}
        )
        assert answer.status_code == 200, answer.text
        assert [label for label, _ in labels_of(answer)[0]] == [label for label, _ in ranking]
