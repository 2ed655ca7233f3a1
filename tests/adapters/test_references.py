"""Every provider's own code, held against the source that stands for it."""

from pathlib import Path

import pytest
import transformers

from adapters.sources.agreement import verify
from adapters.sources.hf.provider import HfProvider
from adapters.sources.source import Source
from tests.adapters.test_hf import CONFIGURATIONS, checkpoint, config_of
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
