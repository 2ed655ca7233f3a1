"""Checkpoints that lost something on the way in: each is honoured, or refused by name when it is opened."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from adapters.sources.agreement import verify
from adapters.sources.providers import find
from adapters.sources.source import Source
from registry.errors import CultivarError, SourceDiffers, SourceUnavailable, UnknownSource
from registry.recipe import TextRecipe
from tests.adapters.test_hf import checkpoint, config_of

INPUTS = Path(__file__).parent / "inputs" / "hf"


def changed(folder: Path, given: str, **files: Any) -> Path:
    """Copy an input and merge values into its JSON files, named without their ending; None takes a key away."""
    shutil.copytree(INPUTS / given, folder, dirs_exist_ok=True)
    for name, values in files.items():
        file = folder / f"{name}.json"
        old = json.loads(file.read_text()) if file.is_file() else {}
        new = {key: value for key, value in (old | values).items() if value is not None}
        file.write_text(json.dumps(new))
    return folder


def recipe(source: Source) -> TextRecipe:
    assert isinstance(source.recipe, TextRecipe)
    return source.recipe


def agrees(source: Source) -> None:
    reference = source.reference()
    assert reference is not None
    assert verify(source, reference).max_abs_difference["tokens"] == 0


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({}, "auto_map in config.json"),
        ({"config": {"auto_map": None}}, "position_embedding_type"),
        (
            {
                "config": {"auto_map": None, "position_embedding_type": None},
                "tokenizer_config": {"auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}},
            },
            "auto_map in tokenizer_config.json",
        ),
        (
            {
                "config": {"auto_map": None, "position_embedding_type": None},
                "modules": {},
            },
            "modules of its own",
        ),
    ],
)
def test_a_model_that_brings_code_is_refused_by_name(
    files: dict[str, Any], named: str, tmp_path: Path
) -> None:
    folder = changed(tmp_path, "custom-code", **files)
    if "modules" in files:
        modules = [{"idx": 0, "name": "0", "path": "", "type": "own_modeling.Transformer"}]
        (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UnknownSource, match=named):
        find(f"hf:{folder}")


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"position_embedding_type": "relative_key"},
        {"position_embedding_type": "rotary"},
        {"position_embedding_type": "alibi"},
    ],
)
def test_positions_that_the_network_no_longer_knows_are_refused(
    values: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(UnknownSource, match="position_embedding_type"):
        find(f"hf:{changed(tmp_path, 'relative-key', config=values)}")


def test_positions_that_are_not_said_are_absolute(tmp_path: Path) -> None:
    folder = changed(tmp_path, "trunc-left")
    config = json.loads((folder / "config.json").read_text()) | {"position_embedding_type": None}
    (folder / "config.json").write_text(json.dumps(config))
    assert find(f"hf:{folder}").dimension == 32


def test_weights_that_no_layer_takes_are_refused(tmp_path: Path) -> None:
    source = find(f"hf:{changed(tmp_path, 'relative-key', config={'position_embedding_type': None})}")
    with pytest.raises(
        SourceUnavailable, match=r"2 weights for which BertModel has no use, .*distance_embedding"
    ):
        source.load()


@pytest.mark.parametrize(
    "added", ["adapters.0.weight", "encoder.layer.0.extra.weight", "embeddings.norm.bias"]
)
def test_any_other_weight_too_many_is_refused(added: str, tmp_path: Path) -> None:
    folder = changed(tmp_path, "trunc-left")
    state = load_file(folder / "model.safetensors")
    save_file(state | {added: torch.ones(3)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(SourceUnavailable, match="1 weights for which BertModel has no use"):
        find(f"hf:{folder}").load()


@pytest.mark.parametrize("head", ["cls.predictions.bias", "qa_outputs.weight", "lm_head.dense.weight"])
def test_the_head_of_another_task_is_no_weight_too_many(head: str, tmp_path: Path) -> None:
    folder = changed(tmp_path, "trunc-left")
    state = load_file(folder / "model.safetensors")
    save_file(state | {head: torch.ones(3)}, folder / "model.safetensors", {"format": "pt"})
    agrees(find(f"hf:{folder}"))


@pytest.mark.parametrize("labelled", [False, True])
def test_what_older_versions_saved_is_no_weight_too_many(labelled: bool, tmp_path: Path) -> None:
    auto: Any = (
        transformers.AutoModelForSequenceClassification if labelled else transformers.AutoModelForMaskedLM
    )
    checkpoint(tmp_path, config_of("roberta", num_hidden_layers=2), auto)
    state = load_file(tmp_path / "model.safetensors")
    older = {
        "roberta.embeddings.position_ids": torch.arange(40)[None],
        "roberta.pooler.dense.weight": torch.ones(16, 16),
        "roberta.pooler.dense.bias": torch.ones(16),
    }
    save_file(state | older, tmp_path / "model.safetensors", {"format": "pt"})
    agrees(find(f"hf:{tmp_path}"))


@pytest.mark.parametrize("flag", ["is_decoder", "add_cross_attention", "is_encoder_decoder"])
def test_a_decoder_is_refused(flag: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownSource, match=f"is a decoder \\({flag}"):
        find(f"hf:{changed(tmp_path, 'trunc-left', config={flag: True})}")


def test_an_adapter_and_a_quantized_model_are_refused(tmp_path: Path) -> None:
    adapter = changed(tmp_path / "a", "trunc-left", adapter_config={"base_model_name_or_path": "some/model"})
    with pytest.raises(UnknownSource, match="is an adapter"):
        find(f"hf:{adapter}")
    quantized = changed(tmp_path / "q", "trunc-left", config={"quantization_config": {"bits": 4}})
    with pytest.raises(UnknownSource, match="is quantized"):
        find(f"hf:{quantized}")


def test_tokens_without_a_vector_are_refused() -> None:
    with pytest.raises(UnknownSource, match=r"2 tokens without a vector, the first 140 \('zzznew"):
        find(f"hf:{INPUTS / 'vocab-bigger'}")


@pytest.mark.parametrize("id_", [140, 141, 999])
def test_an_added_token_without_a_vector_is_refused(id_: int, tmp_path: Path) -> None:
    folder = changed(tmp_path, "trunc-left")
    value = json.loads((folder / "tokenizer.json").read_text())
    value["model"]["vocab"]["own"] = id_
    (folder / "tokenizer.json").write_text(json.dumps(value))
    with pytest.raises(UnknownSource, match=f"the first {id_} "):
        find(f"hf:{folder}")


@pytest.mark.parametrize(
    ("files", "side"),
    [
        ({}, "left"),
        ({"tokenizer_config": {"truncation_side": "right"}}, "right"),
        ({"tokenizer_config": {"truncation_side": None}}, "right"),
        (
            {
                "tokenizer_config": {"truncation_side": None},
                "tokenizer": {
                    "truncation": {
                        "direction": "Left",
                        "max_length": 64,
                        "strategy": "LongestFirst",
                        "stride": 0,
                    }
                },
            },
            None,
        ),
    ],
)
def test_the_side_at_which_texts_are_cut_off_is_honoured(
    files: dict[str, Any], side: str | None, tmp_path: Path
) -> None:
    source = find(f"hf:{changed(tmp_path, 'trunc-left', **files)}")
    agrees(source)
    if side is not None:
        assert recipe(source).truncation == side


def test_special_tokens_in_a_text_are_what_the_provider_takes_them_for() -> None:
    row = recipe(find(f"hf:{INPUTS / 'trunc-left'}")).prepare("[SEP]")
    assert row["input_ids"].tolist() == [2, 3, 3]


def test_the_default_prompt_is_put_before_every_text() -> None:
    from sentence_transformers import SentenceTransformer

    source = find(f"hf:{INPUTS / 'prompts'}")
    assert recipe(source).prompt == "query "
    agrees(source)
    texts = ["a cat", "the quick brown fox"]
    fields = source.recipe.collate([source.recipe.prepare(text) for text in texts])
    with torch.no_grad():
        found = source.load()({name: torch.from_numpy(values) for name, values in fields.items()}).numpy()
    model = SentenceTransformer(str(INPUTS / "prompts"), device="cpu", local_files_only=True)
    np.testing.assert_allclose(found, model.encode(texts, show_progress_bar=False), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [None, "document", "passage"])
def test_other_default_prompts_are_honoured(name: str | None, tmp_path: Path) -> None:
    source = find(
        f"hf:{changed(tmp_path, 'prompts', config_sentence_transformers={'default_prompt_name': name})}"
    )
    assert recipe(source).prompt == ("passage " if name == "passage" else "")
    agrees(source)


def test_a_default_prompt_that_is_none_is_refused(tmp_path: Path) -> None:
    folder = changed(tmp_path, "prompts", config_sentence_transformers={"default_prompt_name": "missing"})
    with pytest.raises(UnknownSource, match="'missing'"):
        find(f"hf:{folder}")


def test_a_prompt_that_is_not_pooled_is_refused(tmp_path: Path) -> None:
    folder = changed(tmp_path, "prompts")
    pooling = folder / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps(json.loads(pooling.read_text()) | {"include_prompt": False}))
    with pytest.raises(UnknownSource, match="leaves its prompt 'query ' out of its pooling"):
        find(f"hf:{folder}")
    agrees(find(f"hf:{folder}@mean"))


@pytest.mark.parametrize("lowered", [True, False])
def test_texts_are_lowered_where_the_files_say_so(lowered: bool, tmp_path: Path) -> None:
    folder = changed(
        tmp_path,
        "prompts",
        sentence_bert_config={"do_lower_case": lowered, "max_seq_length": 20},
        tokenizer_config={"do_lower_case": False},
    )
    source = find(f"hf:{folder}")
    assert recipe(source).max_length == 20
    agrees(source)


def test_more_positions_asked_for_than_there_are_are_not_given(tmp_path: Path) -> None:
    longer = changed(tmp_path, "prompts", sentence_bert_config={"max_seq_length": 512})
    source = find(f"hf:{longer}")
    assert recipe(source).max_length == 64
    agrees(source)


def test_a_network_that_is_given_other_tokens_than_the_recipe_makes_is_refused(tmp_path: Path) -> None:
    folder = changed(tmp_path, "trunc-left")
    source = find(f"hf:{folder}")
    reference = source.reference()
    assert reference is not None
    changed(tmp_path, "trunc-left", tokenizer_config={"truncation_side": "right"})
    with pytest.raises(SourceDiffers, match=r"probe '[^']+' differ from its provider's: token \d+ is"):
        verify(source, reference)


@pytest.mark.parametrize(
    ("config", "preprocessor"),
    [
        ({}, {}),
        ({}, {"image_mean": [0.5], "image_std": [0.5]}),
        ({"num_channels": 4}, {"image_mean": [0.5] * 4, "image_std": [0.5] * 4}),
        ({"num_channels": 2}, {}),
    ],
)
def test_pictures_of_other_than_three_channels_are_refused(
    config: dict[str, Any], preprocessor: dict[str, Any], tmp_path: Path
) -> None:
    folder = changed(tmp_path, "vit-gray3", config=config, preprocessor_config=preprocessor)
    with pytest.raises(UnknownSource, match=f"of {config.get('num_channels', 1)} channels"):
        find(f"hf:{folder}")


def test_three_channels_with_one_mean_are_refused(tmp_path: Path) -> None:
    folder = changed(
        tmp_path, "vit-gray3", config={"num_channels": 3}, preprocessor_config={"image_mean": [0.5]}
    )
    with pytest.raises(UnknownSource, match="image_mean"):
        find(f"hf:{folder}")


def test_every_refusal_is_one_line() -> None:
    for name in ("custom-code", "relative-key", "vocab-bigger", "vit-gray3"):
        with pytest.raises(CultivarError) as refused:
            find(f"hf:{INPUTS / name}")
        assert "\n" not in str(refused.value)
