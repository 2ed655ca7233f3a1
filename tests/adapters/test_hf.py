"""Checkpoints in Hugging Face's format, made here: tiny, random, and saved as transformers saves them."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from adapters.sources.hf.folder import Folder
from adapters.sources.hf.provider import HfProvider
from adapters.sources.source import Source
from registry.errors import SourceUnavailable, UnknownSource
from registry.recipe import TextRecipe
from tests.contracts.source import SourceContract, fields_for

WORDS = [f"w{number}" for number in range(40)]
SMALL = {"hidden_size": 16, "num_hidden_layers": 5, "num_attention_heads": 2, "intermediate_size": 24}
POSITIONS = 40

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "bert": SMALL,
    "camembert": SMALL,
    "distilbert": {"dim": 16, "num_hidden_layers": 5, "n_heads": 2, "hidden_dim": 24},
    "electra": SMALL | {"embedding_size": 8},
    "modernbert": SMALL
    | {
        "local_attention": 6,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "cls_token_id": 2,
        "sep_token_id": 3,
        "reference_compile": False,
    },
    "mpnet": SMALL,
    "roberta": SMALL,
    "xlm-roberta": SMALL,
}


def tokenizer() -> Tokenizer:
    vocabulary = {word: index for index, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS))}
    built = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    built.normalizer = normalizers.Lowercase()
    built.pre_tokenizer = pre_tokenizers.Whitespace()
    built.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return built


def config_of(kind: str, **values: Any) -> Any:
    given = {
        "vocab_size": 60,
        "max_position_embeddings": POSITIONS,
        "pad_token_id": 0,
        **CONFIGURATIONS[kind],
    }
    return transformers.AutoConfig.for_model(kind, **given | values)


def checkpoint(folder: Path, config: Any, auto: Any = transformers.AutoModel) -> Any:
    """Save a random network with its tokenizer, and return it; biases and norms are moved off their start."""
    torch.manual_seed(0)
    model = auto.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    model.save_pretrained(folder)
    tokenizer().save(str(folder / "tokenizer.json"))
    return model


@pytest.fixture(params=CONFIGURATIONS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestTextSource(SourceContract):
    @pytest.fixture
    def source(self, kind: str, tmp_path: Path) -> Source:
        config_of(kind, num_hidden_layers=2).save_pretrained(tmp_path)
        tokenizer().save(str(tmp_path / "tokenizer.json"))
        return HfProvider().source(f"hf:{tmp_path}@mean+l2")


def test_stages_leave_what_transformers_does(kind: str, tmp_path: Path) -> None:
    model = checkpoint(tmp_path, config_of(kind))
    source = HfProvider().source(f"hf:{tmp_path}")
    stages = source.load()
    fields = fields_for(source, rows=3, length=20)
    fields["attention_mask"][1, 12:] = 0
    fields["input_ids"][1, 12:] = 0
    with torch.no_grad():
        expected = model(**fields, output_hidden_states=True).hidden_states
        for k, layer in enumerate((0, 2, 4, 5), start=1):
            found = stages.run(fields["input_ids"], stop=k, sides=fields)
            counts = fields["attention_mask"].bool()
            torch.testing.assert_close(found[counts], expected[layer][counts], rtol=0, atol=1e-5)
