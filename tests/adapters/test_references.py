"""Every provider's own code, held against the source that stands for it."""

from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file

from adapters.sources.agreement import verify
from adapters.sources.hf.provider import HfProvider
from adapters.sources.providers import find
from adapters.sources.source import Source
from adapters.sources.timm import TimmProvider, build
from benchmarks.sources import write_own
from tests.adapters.families import torchvision_source, vectors_source
from tests.adapters.test_hf import (
    CONFIGURATIONS,
    PICTURE_CONFIGURATIONS,
    checkpoint,
    config_of,
    prepared,
)
from tests.contracts.reference import ReferenceContract, reference_of

LABELS = {0: "ham", 1: "spam", 2: "eggs"}


class TestTransformersReference(ReferenceContract):
    @pytest.fixture
    def source(self, tmp_path: Path) -> Source:
        checkpoint(tmp_path, config_of("bert", num_hidden_layers=2))
        return HfProvider().source(f"hf:{tmp_path}@max+l2")


class TestClassifierReference(ReferenceContract):
    @pytest.fixture
    def source(self, tmp_path: Path) -> Source:
        config = config_of("roberta", num_hidden_layers=2, id2label=LABELS)
        checkpoint(tmp_path, config, transformers.AutoModelForSequenceClassification)
        return HfProvider().source(f"hf:{tmp_path}")


class TestPictureReference(ReferenceContract):
    @pytest.fixture
    def source(self, tmp_path: Path) -> Source:
        values = PICTURE_CONFIGURATIONS["vit"] | {"num_hidden_layers": 2}
        checkpoint(tmp_path, transformers.AutoConfig.for_model("vit", **values))
        return prepared(tmp_path)


class TestVectorsReference(ReferenceContract):
    @pytest.fixture
    def source(self, tmp_path: Path) -> Source:
        return vectors_source(tmp_path)


def test_binary_word_vectors_agree(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(3, 5)).astype("<f4")
    entries = zip(("Cat", "dog", "été"), values, strict=True)
    binary = b"".join(word.encode() + b" " + row.tobytes() + b"\n" for word, row in entries)
    (tmp_path / "words.bin").write_bytes(b"3 5\n" + binary)
    source = find(f"vectors:{tmp_path / 'words.bin'}@max+l2")
    assert verify(source, reference_of(source)).max_abs_difference["features"] < 1e-6


@pytest.mark.parametrize("family", PICTURE_CONFIGURATIONS)
def test_every_family_of_pictures_agrees(family: str, tmp_path: Path) -> None:
    config = transformers.AutoConfig.for_model(family, id2label=LABELS, **PICTURE_CONFIGURATIONS[family])
    checkpoint(tmp_path, config, transformers.AutoModelForImageClassification)
    source = prepared(tmp_path)
    assert source.labels == tuple(LABELS.values())
    assert verify(source, reference_of(source)).runs == 16


@pytest.mark.parametrize(
    "values",
    [
        *({"resample": number} for number in (0, 1, 2, 4)),
        {"size": {"shortest_edge": 37}, "do_center_crop": True, "crop_size": {"height": 32, "width": 32}},
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 61}, "crop_pct": 0.8},
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}},
        {"do_normalize": False},
        {"image_processor_type": "DeiTImageProcessor", "do_center_crop": False},
    ],
)
def test_every_way_to_prepare_pictures_agrees(values: dict[str, Any], tmp_path: Path) -> None:
    config = transformers.AutoConfig.for_model("resnet", **PICTURE_CONFIGURATIONS["resnet"])
    checkpoint(tmp_path, config)
    source = prepared(tmp_path, **values)
    assert verify(source, reference_of(source)).max_abs_difference["pixels"] == 0


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_every_family_of_texts_agrees(kind: str, tmp_path: Path) -> None:
    checkpoint(tmp_path, config_of(kind, num_hidden_layers=2))
    source = HfProvider().source(f"hf:{tmp_path}@mean+l2")
    assert verify(source, reference_of(source)).max_abs_difference["features"] < 1e-5


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_every_family_of_classifiers_agrees(kind: str, tmp_path: Path) -> None:
    config = config_of(kind, num_hidden_layers=2, id2label=LABELS)
    checkpoint(tmp_path, config, transformers.AutoModelForSequenceClassification)
    source = HfProvider().source(f"hf:{tmp_path}")
    assert source.labels == tuple(LABELS.values())
    assert verify(source, reference_of(source)).max_abs_difference["logits"] < 1e-5


class TestTorchvisionReference(ReferenceContract):
    @pytest.fixture
    def source(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
        return torchvision_source(tmp_path, monkeypatch)


def timm_source(model: str, cache: Path, patch: pytest.MonkeyPatch) -> Source:
    """Put random weights into a cache of Hugging Face's hub."""
    patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    folder = cache / f"models--timm--{model}"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    torch.manual_seed(0)
    save_file(build(model).state_dict(), folder / "snapshots" / "abc" / "model.safetensors")
    return TimmProvider().source(f"timm:{model}")


class TestTimmReference(ReferenceContract):
    @pytest.fixture
    def source(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
        return timm_source("test_resnet.r160_in1k", tmp_path, monkeypatch)


def test_a_network_that_pools_by_attention_to_a_parameter_agrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = timm_source("test_vit3.r160_in1k", tmp_path, monkeypatch)
    assert verify(source, reference_of(source)).max_abs_difference["pixels"] == 0


@pytest.mark.parametrize("spec", ["timm:test_resnet", "torchvision:squeezenet1_1"])
def test_a_file_of_ones_own_is_held_against_its_providers_network(spec: str, tmp_path: Path) -> None:
    provider, _, model = spec.partition(":")
    write_own(provider, model, tmp_path / "own.safetensors")
    source = find(f"{spec}@{tmp_path / 'own.safetensors'}")
    verified = verify(source, reference_of(source))
    assert verified.runs == 16
    assert verified.max_abs_difference["pixels"] == 0
