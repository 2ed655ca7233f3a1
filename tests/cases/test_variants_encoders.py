"""Further folders that ``save_pretrained`` wrote: each is what its provider makes of it, or refused in one line."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from adapters.sources.agreement import verify
from adapters.sources.providers import find
from registry.errors import CultivarError

INPUTS = Path(__file__).parent / "inputs" / "hf"
TEXTS = ("a cat", "the quick brown fox", "A CAT [SEP] the", " ".join(f"the film was {n}" for n in range(60)))
Change = Callable[[Path], None]


def merged(name: str, **values: Any) -> Change:
    """Merge values into a JSON file."""

    def change(folder: Path) -> None:
        file = folder / f"{name}.json"
        old = json.loads(file.read_text()) if file.is_file() else {}
        file.write_text(json.dumps(old | values))

    return change


def weights(change: Callable[[dict[str, Tensor]], Mapping[str, Tensor]]) -> Change:
    def apply(folder: Path) -> None:
        file = folder / "model.safetensors"
        state = {name: each.contiguous() for name, each in change(load_file(file)).items()}
        save_file(state, file, {"format": "pt"})

    return apply


def text(name: str, content: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).write_text(content)

    return change


def without(*names: str) -> Change:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def tokenizer(**values: Any) -> Change:
    return merged("tokenizer", **values)


def added(*tokens: tuple[int, str]) -> Change:
    def change(folder: Path) -> None:
        file = folder / "tokenizer.json"
        content = json.loads(file.read_text())
        content["added_tokens"] += [
            {"id": id_, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": False}
            for id_, token in tokens
        ]  # fmt: skip
        file.write_text(json.dumps(content))

    return change


def module(path: str, type_: str, config: Mapping[str, Any]) -> Change:
    def change(folder: Path) -> None:
        file = folder / "modules.json"
        modules = json.loads(file.read_text())
        number = len(modules)
        modules.append({"idx": number, "name": str(number), "path": path, "type": type_})
        file.write_text(json.dumps(modules))
        (folder / path).mkdir()
        (folder / path / "config.json").write_text(json.dumps(config))

    return change


def copied(folder: Path, given: str, *changes: Change) -> Path:
    shutil.copytree(INPUTS / given, folder, dirs_exist_ok=True)
    for each in [folder, *folder.rglob("*")]:
        each.chmod(0o755 if each.is_dir() else 0o644)
    for change in changes:
        change(folder)
    return folder


def opened(folder: Path) -> np.ndarray:
    """Open a source and return what it makes of the texts."""
    source = find(f"hf:{folder}")
    stages = source.load()
    if (reference := source.reference()) is not None:
        verify(source, reference)
    fields = source.recipe.collate([source.recipe.prepare(each) for each in TEXTS])
    with torch.no_grad():
        found: np.ndarray = stages(
            {name: torch.from_numpy(values) for name, values in fields.items()}
        ).numpy()
    return found


def provided(folder: Path) -> np.ndarray:
    """Return what sentence-transformers makes of the same texts."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    # One by one: where a tokenizer pads at the left, what stands beside a text would change it.
    found: np.ndarray = model.encode(list(TEXTS), batch_size=1, show_progress_bar=False)
    return found


def refusal(folder: Path) -> str:
    with pytest.raises(CultivarError) as error:
        opened(folder)
    message = str(error.value)
    assert "\n" not in message and len(message) < 1000
    return message


POOLING = "1_Pooling/config"
MODES = {
    "pooling_mode_mean_tokens": False, "pooling_mode_cls_token": False, "pooling_mode_max_tokens": False,
    "pooling_mode_mean_sqrt_len_tokens": False,
}  # fmt: skip

SAME: dict[str, tuple[Change, ...]] = {
    "code of nothing": (merged("config", auto_map={}),),
    "prompts without a default": (merged("config_sentence_transformers", default_prompt_name=None),),
    "a default prompt that is empty": (merged("config_sentence_transformers", prompts={"query": ""}),),
    "a prompt of other scripts": (merged("config_sentence_transformers", prompts={"query": "Frage: é "}),),
    "no prompts": (without("config_sentence_transformers.json"),),
    "fewer tokens asked for": (merged("sentence_bert_config", max_seq_length=9),),
    "no length asked for": (merged("sentence_bert_config", max_seq_length=None),),
    "a length without end": (
        merged("tokenizer_config", model_max_length=10**30),
        merged("sentence_bert_config", max_seq_length=None),
    ),
    "lowered twice": (merged("sentence_bert_config", do_lower_case=True),),
    "cut off at the left by the configuration": (merged("tokenizer_config", truncation_side="left"),),
    "cut off at the left by the tokenizer alone": (
        tokenizer(truncation={"direction": "Left", "max_length": 20, "strategy": "LongestFirst", "stride": 0}),
    ),
    "a tokenizer that pads": (
        tokenizer(padding={"strategy": {"Fixed": 40}, "direction": "Right", "pad_to_multiple_of": None,
                           "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}),
    ),
    "cls": (merged(POOLING, **MODES | {"pooling_mode_cls_token": True}),),
    "max": (merged(POOLING, **MODES | {"pooling_mode_max_tokens": True}),),
    "scaled to one": (module("2_Normalize", "sentence_transformers.models.Normalize", {}),),
    "halves": (weights(lambda state: {name: each.half() for name, each in state.items()}),),
    "rows of the table without a token": (
        merged("config", vocab_size=192),
        weights(lambda state: {
            name: torch.cat([each, torch.ones(52, each.shape[1])]) if "word_embeddings" in name else each
            for name, each in state.items()
        }),
    ),
    "another activation": (merged("config", hidden_act="relu"),),
    "a sharper layer norm": (merged("config", layer_norm_eps=1e-2),),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_what_can_be_honoured_is_what_the_provider_makes_of_it(name: str, tmp_path: Path) -> None:
    folder = copied(tmp_path / "model", "prompts", *SAME[name])
    np.testing.assert_allclose(opened(folder), provided(folder), rtol=0, atol=2e-5)


EITHER: dict[str, tuple[Change, ...]] = {
    "code of null": (merged("config", auto_map=None),),
    "a default prompt among none": (merged("config_sentence_transformers", prompts={}),),
    "a default prompt among null": (merged("config_sentence_transformers", prompts=None),),
    "tokens of both cases against a lowering module": (
        merged("tokenizer_config", do_lower_case=False),
        merged("sentence_bert_config", do_lower_case=True),
    ),
    "mean of the square root": (merged(POOLING, **MODES | {"pooling_mode_mean_sqrt_len_tokens": True}),),
    "weighted mean": (merged(POOLING, **MODES | {"pooling_mode_weightedmean_tokens": True}),),
    "last token": (merged(POOLING, **MODES | {"pooling_mode_lasttoken": True}),),
    "two poolings": (merged(POOLING, pooling_mode_cls_token=True),),
    "no pooling": (merged(POOLING, **MODES),),
    "padded at the left": (merged("tokenizer_config", padding_side="left"),),
    "a token of two words": (added((139, "the quick")),),
    "a token type": (merged("config", type_vocab_size=2),),
    "accents kept": (merged("tokenizer_config", strip_accents=False),),
    "a layer left out": (merged("config", num_hidden_layers=1),),
    "other heads": (merged("config", num_attention_heads=8),),
    "texts cut by a stride": (
        tokenizer(truncation={"direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 3}),
    ),
    "vocabulary of words alone": (without("tokenizer.json"),),
    "no configuration of a tokenizer": (without("tokenizer_config.json"),),
    "a chunked feed-forward": (merged("config", chunk_size_feed_forward=2),),
    "a prompt of a space": (merged("config_sentence_transformers", prompts={"query": " "}),),
    "another unknown token": (merged("tokenizer_config", unk_token="[MASK]"),),
    "another template": (tokenizer(post_processor=None),),
}  # fmt: skip


@pytest.mark.parametrize("name", EITHER)
def test_what_cannot_be_is_refused_and_never_something_else(name: str, tmp_path: Path) -> None:
    folder = copied(tmp_path / "model", "prompts", *EITHER[name])
    try:
        found = opened(folder)
    except CultivarError as error:
        assert "\n" not in str(error)
    else:
        np.testing.assert_allclose(found, provided(folder), rtol=0, atol=2e-5)


def test_a_prompt_that_nobody_defined_is_refused(tmp_path: Path) -> None:
    change = merged("config_sentence_transformers", prompts={"passage": "x "}, default_prompt_name="missing")
    assert "missing" in refusal(copied(tmp_path / "model", "prompts", change))


REFUSED: dict[str, tuple[str, tuple[Change, ...], str]] = {
    "code of the tokenizer": (
        "trunc-left",
        (merged("tokenizer_config", auto_map={"AutoTokenizer": ["own.Tokenizer", None]}),),
        "auto_map",
    ),
    "code of an image processor": (
        "vit-gray3",
        (merged("config", num_channels=3), merged("preprocessor_config", auto_map={"AutoImageProcessor": "own.P"})),
        "auto_map",
    ),
    "relative positions": ("trunc-left", (merged("config", position_embedding_type="relative_key"),), "relative_key"),
    "one token more than rows": ("trunc-left", (added((140, "zzznew")),), "140"),
    "tokens far beyond the table": ("trunc-left", (added((140, "zzznew"), (5000, "zzzfar")),), "without a vector"),
    "a smaller table": (
        "trunc-left",
        (
            merged("config", vocab_size=139),
            weights(lambda state: {
                name: each[:139] if "word_embeddings" in name else each for name, each in state.items()
            }),
        ),
        "139",
    ),
    "a decoder": ("trunc-left", (merged("config", is_decoder=True),), "decoder"),
    "a weight too many": (
        "trunc-left",
        (weights(lambda state: state | {"encoder.layer.0.lora_A.weight": torch.ones(2, 2)}),),
        "lora_A",
    ),
    "a weight too few": (
        "trunc-left",
        (weights(lambda state: {
            name: each for name, each in state.items() if not name.endswith("layer.1.output.dense.weight")
        }),),
        "output.dense.weight",
    ),
    "a layer too few": ("trunc-left", (merged("config", num_hidden_layers=3),), "layer.2"),
    "another width": ("trunc-left", (merged("config", intermediate_size=128),), "intermediate"),
    "a transposed weight": (
        "trunc-left",
        (weights(lambda state: {
            name: each.T if name.endswith("layer.0.intermediate.dense.weight") else each
            for name, each in state.items()
        }),),
        "intermediate.dense.weight",
    ),
    "weights of no numbers": (
        "trunc-left",
        (weights(lambda state: {
            name: torch.full_like(each, torch.nan) if name.endswith("layer.0.output.dense.bias") else each
            for name, each in state.items()
        }),),
        "finite",
    ),
    "a dense module without weights": (
        "prompts",
        (module("2_Dense", "sentence_transformers.models.Dense", {"in_features": 32, "out_features": 8}),),
        "Dense",
    ),
    "a module of its own": ("prompts", (module("2_Own", "own.Module", {}),), "own"),
    "pickled weights alone": (
        "trunc-left", (without("model.safetensors"), text("pytorch_model.bin", "x")), "safetensors",
    ),
    "a configuration that is no JSON": ("trunc-left", (text("config.json", '{"model_type": "bert",'),), "config.json"),
    "a configuration that is a list": ("trunc-left", (text("config.json", "[1, 2]"),), "config.json"),
    "a tokenizer that is no JSON": ("trunc-left", (text("tokenizer.json", "{"),), "tokenizer"),
    "an activation that does not exist": ("trunc-left", (merged("config", hidden_act="gelu9"),), "gelu9"),
    "a size that is text": ("trunc-left", (merged("config", hidden_size="32"),), "hidden_size"),
    "one mean": (
        "vit-gray3", (merged("preprocessor_config", image_mean=[0.5], image_std=[0.5]),), "1 channels",
    ),
    "weights of one channel under three": ("vit-gray3", (merged("config", num_channels=3),), "patch_embeddings"),
    "two means": (
        "vit-gray3",
        (merged("config", num_channels=3), merged("preprocessor_config", image_mean=[0.5, 0.5])),
        "image_mean",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_missing_or_too_much_is_refused_by_name(name: str, tmp_path: Path) -> None:
    given, changes, named = REFUSED[name]
    assert named in refusal(copied(tmp_path / "model", given, *changes))


def coloured(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give a network of one channel three."""
    return {
        name: each.repeat(1, 3, 1, 1) * torch.tensor([0.2, 0.3, 0.5])[:, None, None]
        if "patch_embeddings.projection.weight" in name
        else each
        for name, each in state.items()
    }


PICTURES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "not normalised": {"do_normalize": False},
    "not rescaled": {"do_rescale": False},
    "another factor": {"rescale_factor": 1 / 127.5},
    "nearest": {"resample": 0},
    "lanczos": {"resample": 1},
    "bicubic": {"resample": 3},
    "not resized": {"do_resize": False},
    "a size of two sides": {"size": {"height": 32, "width": 32}},
    "the shortest edge": {"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": 32},
    "another size than the network's": {"size": {"height": 64, "width": 64}},
    "sides exchanged": {"size": {"height": 32, "width": 48}},
    "grey first": {"do_grayscale": True},
    "means of nought": {"image_mean": [0, 0, 0], "image_std": [1, 1, 1]},
    "deviation of nought": {"image_std": [0.5, 0.0, 0.5]},
    "means of 0 to 255": {"image_mean": [127.5] * 3, "image_std": [127.5] * 3},
    "another processor": {"image_processor_type": "CLIPImageProcessor"},
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_prepared_as_the_provider_does_or_refused(name: str, tmp_path: Path) -> None:
    from PIL import Image
    from transformers import AutoImageProcessor, ViTForImageClassification

    folder = copied(
        tmp_path / "model",
        "vit-gray3",
        merged("config", num_channels=3),
        weights(coloured),
        merged("preprocessor_config", **{"image_processor_type": "ViTImageProcessor"} | PICTURES[name]),
    )
    values = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    image = Image.fromarray(values).resize((96, 96), Image.Resampling.BICUBIC)
    try:
        source = find(f"hf:{folder}")
        stages = source.load()
        pixels = source.recipe.convert(image)  # type: ignore[attr-defined]  # of pictures
        with torch.no_grad():
            found = stages.logits(torch.from_numpy(pixels[None].copy())).numpy()
    except CultivarError as error:
        assert "\n" not in str(error)
        return
    processor = AutoImageProcessor.from_pretrained(folder)  # type: ignore[no-untyped-call]  # untyped
    model = ViTForImageClassification.from_pretrained(folder).eval()  # type: ignore[no-untyped-call]  # untyped
    with torch.no_grad():
        expected = model(**processor(image, return_tensors="pt")).logits.numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-2 * float(np.abs(expected).max()))
