import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import weightless
from benchmarks.contender import ARRAYS, PICTURES, bodies, unlike
from benchmarks.measurement import Measurement
from benchmarks.peers.triton import Model, is_installed, start
from benchmarks.photographs import photograph
from benchmarks.raw import merged
from benchmarks.triton import AT, LIMIT, LOADS, OURS, TRITON, served, show, verdicts
from registry.registry import Registry
from registry.settings import Settings

SHAPE = (weightless.SIDE, weightless.SIDE, 3)


def model(folder: Path, *, takes_pictures: bool) -> Model:
    return Model(folder / "model.onnx", folder / "recipe.json", SHAPE, takes_pictures, "logits")


def inputs() -> dict[str, list[bytes]]:
    pictures = [photograph(seed, weightless.SIDE, weightless.SIDE) for seed in range(2)]
    return bodies(unlike(np.stack([weightless.RECIPE.decode(data) for data in pictures])), pictures)


def test_a_request_says_how_long_its_head_and_its_tensor_are(tmp_path: Path) -> None:
    for kind, several in inputs().items():
        whole = model(tmp_path, takes_pictures=kind == PICTURES).request(kind, several[0])
        head, _, rest = whole.partition(b"\r\n\r\n")
        fields = dict(line.split(b": ") for line in head.split(b"\r\n")[1:])
        assert len(rest) == int(fields[b"Content-Length"])
        document = json.loads(rest[: int(fields[b"Inference-Header-Content-Length"])])
        (given,) = document["inputs"]
        size = given["parameters"]["binary_data_size"]
        assert size == len(rest) - int(fields[b"Inference-Header-Content-Length"])
        if kind == ARRAYS:
            assert size == np.prod(given["shape"])
        else:
            assert rest.endswith(several[0])


@pytest.mark.skipif(not is_installed(), reason="wants make peers")
def test_triton_gives_one_answer_to_a_picture_and_to_its_pixels(tmp_path: Path) -> None:
    with Registry.open(Settings.read(tmp_path / "home")) as registry:
        manifest = registry.manifest(weightless.put_into_production(registry, "corner"))
        (tmp_path / "model.onnx").write_bytes(merged(manifest, registry))
        (tmp_path / "recipe.json").write_bytes(weightless.RECIPE.to_bytes())
    sent = inputs()
    models = {kind: model(tmp_path, takes_pictures=kind == PICTURES) for kind in sent}
    with start(TRITON, models, tmp_path / "triton", sent) as contender:
        found = {
            kind: [contender.score(json.loads(body)) for _, body in contender.answers(kind)] for kind in sent
        }
        assert contender.load(PICTURES, 4, 0.5, 0.1).rows > 0
    assert found[PICTURES] == pytest.approx(found[ARRAYS])
    assert found[PICTURES][0] != found[PICTURES][1]


def test_aims_are_held_against_triton_and_the_best_pipeline() -> None:
    results = {
        served(name, *load): [Measurement(1, 100, 2, 0, 0, 5, 9)] for name in (OURS, TRITON) for load in LOADS
    }
    results[served(OURS, PICTURES, AT)] = [Measurement(1, 110, 2, 0, 0, 5, 9)]
    results[f"{LIMIT}4"] = [Measurement(1, 100, 3, 0, 0, 5, 9)]
    results[f"{LIMIT}8"] = [Measurement(1, 110, 1.9, 0, 0, 5, 9)]
    rate, cpu = verdicts(results)
    assert rate.figure.median == pytest.approx(1.1)
    assert rate.reached
    assert cpu.figure.median == pytest.approx(2 / 1.9)
    assert not cpu.reached
    assert "batch 8" in cpu.claim
    assert "embeddings, 32" in show(results)
