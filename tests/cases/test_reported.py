"""Inputs that were reported and are too large, or too oddly named, to be kept: made as they were."""

import random
import string
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from adapters.datasets import load
from adapters.publish import weights_digests
from adapters.sources.providers import find
from registry.errors import SourceUnavailable
from registry.recipe import ImageRecipe
from tests.builders import picture, text_recipe

PICTURES, TEXTS = ImageRecipe(32, 32), text_recipe()


@pytest.mark.parametrize(
    ("first", "second"),
    [("می\u200cخواهم", "کتاب\u200cها"), ("👨\u200d👩\u200d👧", "🐶"), ("naan", "nan")],
    ids=["persian-zwnj", "emoji-zwj", "nan-folder"],
)
def test_two_class_folders_of_eight_pictures_are_two_labels(tmp_path: Path, first: str, second: str) -> None:
    for number, name in enumerate((first, second)):
        (tmp_path / name).mkdir()
        for seed in range(8):
            (tmp_path / name / f"{seed}.png").write_bytes(picture(8 * number + seed))
    data = load(tmp_path, PICTURES)
    assert set(data.labels) == {first, second} and len(data) == 16


def test_decomposed_files_are_found_by_a_composed_list(tmp_path: Path) -> None:
    lines = ["image,label"]
    for seed in range(16):
        name = f"cr\u00e8me{seed}.png"
        (tmp_path / unicodedata.normalize("NFD", name)).write_bytes(picture(seed))
        lines.append(f"{name},{('line', 'box')[seed % 2]}")
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = load(tmp_path / "list.csv", PICTURES)
    assert data.labels == ("box", "line") and len(data) == 16 and not data.excluded


def test_fifteen_hundred_labels_of_four_texts_are_read(tmp_path: Path) -> None:
    chance = random.Random(0)
    lines = ["text,label"]
    for label in range(1500):
        word = "".join(chance.choices(string.ascii_lowercase, k=8))
        lines += [f"{word} item {at} {chance.choice(word)}{at}{label},class {label}" for at in range(4)]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    data = load(tmp_path / "labels.csv", TEXTS)
    assert data.labels == tuple(f"class {label}" for label in range(1500)) and len(data) == 6000


State = dict[str, Tensor]
SPEC = "timm:resnet10t"


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(0)
    return {name: each.contiguous() for name, each in timm.create_model("resnet10t").state_dict().items()}


def file_of(folder: Path, state: State) -> Path:
    save_file(state, folder / "own.safetensors")
    return folder / "own.safetensors"


@pytest.fixture(scope="module")
def plain(state: State, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    return weights_digests(find(f"{SPEC}@{file_of(tmp_path_factory.mktemp('plain'), state)}").load())


def other(**options: int) -> Callable[[State], State]:
    """Return the weights of a variant that has the trunk of the state where their shapes are equal."""

    def make(state: State) -> State:
        varied = timm.create_model("resnet10t", **options).state_dict()
        return {
            name: state[name] if name in state and state[name].shape == each.shape else each.contiguous()
            for name, each in varied.items()
        }

    return make


TAKEN: Mapping[str, Callable[[State], State]] = {
    "plain": lambda state: state,
    "module": lambda state: {f"module.{name}": each for name, each in state.items()},
    "orig": lambda state: {f"_orig_mod.{name}": each for name, each in state.items()},
    "lightning": lambda state: {f"model.{name}": each for name, each in state.items()},
    "ten": other(num_classes=10),
    "nohead": other(num_classes=0),
}
REFUSED: Mapping[str, tuple[Callable[[State], State], str]] = {
    "extra": (lambda state: state | {"extra.weight": torch.zeros(3)}, "unexpected: extra.weight"),
    "missing": (
        lambda state: {name: each for name, each in state.items() if name != "layer4.0.bn2.running_mean"},
        "missing: layer4.0.bn2.running_mean",
    ),
    "grey": (other(in_chans=1), "shapes differ: conv1.0.weight"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_checkpoint_of_one_s_own_gives_the_plain_trunk(
    name: str, state: State, plain: tuple[str, ...], tmp_path: Path
) -> None:
    assert weights_digests(find(f"{SPEC}@{file_of(tmp_path, TAKEN[name](state))}").load()) == plain


@pytest.mark.parametrize("dropped", [False, True], ids=["fp16", "nonbt"])
def test_halves_and_missing_counters_are_taken(dropped: bool, state: State, tmp_path: Path) -> None:
    given = {
        name: each.half() if each.is_floating_point() and not dropped else each
        for name, each in state.items()
        if not (dropped and name.endswith("num_batches_tracked"))
    }
    stages = find(f"{SPEC}@{file_of(tmp_path, given)}").load()
    assert {each.dtype for each in stages.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", REFUSED)
def test_a_checkpoint_that_differs_is_refused_by_what_differs(
    name: str, state: State, tmp_path: Path
) -> None:
    change, named = REFUSED[name]
    with pytest.raises(SourceUnavailable) as error:
        find(f"{SPEC}@{file_of(tmp_path, change(state))}").load()
    assert named in str(error.value) and "\n" not in str(error.value)


def test_a_network_of_another_input_size_is_named(tmp_path: Path) -> None:
    varied = timm.create_model("vit_tiny_patch16_224", img_size=96).state_dict()
    file = file_of(tmp_path, {name: each.contiguous() for name, each in varied.items()})
    with pytest.raises(SourceUnavailable, match="shapes differ: pos_embed"):
        find(f"timm:vit_tiny_patch16_224@{file}").load()
