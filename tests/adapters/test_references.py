"""Every provider's own code, held against the source that stands for it."""

from pathlib import Path
from typing import Any

import pytest
import transformers

from adapters.sources.hf.provider import HfProvider
from adapters.sources.source import Source
from tests.adapters.test_hf import checkpoint, config_of, tokenizer
from tests.contracts.reference import ReferenceContract


def published(folder: Path, config: Any, auto: Any = transformers.AutoModel) -> None:
    """Save a random network and its tokenizer as transformers saves both."""
    checkpoint(folder, config, auto)
    specials = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep")}
    fast: Any = transformers.PreTrainedTokenizerFast
    fast(tokenizer_object=tokenizer(), **specials).save_pretrained(folder)


class TestTransformersReference(ReferenceContract):
    @pytest.fixture(params=["distilbert", "modernbert", "mpnet"])
    def source(self, request: pytest.FixtureRequest, tmp_path: Path) -> Source:
        published(tmp_path, config_of(request.param, num_hidden_layers=2))
        return HfProvider().source(f"hf:{tmp_path}@mean+l2")


class TestClassifierReference(ReferenceContract):
    @pytest.fixture(params=["distilbert", "modernbert", "mpnet"])
    def source(self, request: pytest.FixtureRequest, tmp_path: Path) -> Source:
        config = config_of(request.param, num_hidden_layers=2, id2label={0: "ham", 1: "spam", 2: "eggs"})
        published(tmp_path, config, transformers.AutoModelForSequenceClassification)
        return HfProvider().source(f"hf:{tmp_path}")
