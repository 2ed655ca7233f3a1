import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import weightless
from benchmarks.contender import ARRAYS, PICTURES, bodies, unlike
from benchmarks.peers.peer import FASTAPI, FASTAPI_TUNED, Peer
from benchmarks.photographs import photograph
from benchmarks.raw import merged
from registry.registry import Registry
from registry.settings import Settings


@pytest.mark.parametrize("peer", [FASTAPI, FASTAPI_TUNED], ids=lambda peer: peer.name)
def test_a_peer_gives_one_answer_to_a_picture_and_to_its_pixels(peer: Peer, tmp_path: Path) -> None:
    with Registry.open(Settings.read(tmp_path / "home")) as registry:
        manifest = registry.manifest(weightless.put_into_production(registry, "corner"))
        (tmp_path / "model.onnx").write_bytes(merged(manifest, registry))
        (tmp_path / "recipe.json").write_bytes(weightless.RECIPE.to_bytes())
    pictures = [photograph(seed, weightless.SIDE, weightless.SIDE) for seed in range(2)]
    pixels = np.stack([weightless.RECIPE.decode(data) for data in pictures])
    sent = bodies(unlike(pixels), pictures)
    with peer.start(tmp_path / "model.onnx", tmp_path / "recipe.json", tmp_path / "peer", sent) as contender:
        found = {kind: [json.loads(body) for _, body in contender.answers(kind)] for kind in sent}
        assert contender.resident_bytes > 0
    assert found[PICTURES] == found[ARRAYS]
    assert found[PICTURES][0] != found[PICTURES][1]
