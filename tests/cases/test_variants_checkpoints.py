"""Further checkpoints as training scripts and services leave them: the same trunk, or a refusal by name."""

import collections
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from adapters.publish import weights_digests
from adapters.sources.providers import find
from registry.errors import CultivarError

State = dict[str, Tensor]
SPECS = {"timm:test_resnet": "fc.", "torchvision:mobilenet_v3_small": "classifier.3."}


def network(spec: str, **options: Any) -> nn.Module:
    torch.manual_seed(7)
    provider, _, name = spec.partition(":")
    built: nn.Module = (
        timm.create_model(name, pretrained=False, **options)
        if provider == "timm"
        else torchvision.models.get_model(name, weights=None, **options)
    )
    with torch.no_grad():
        for buffer in built.buffers():
            if buffer.is_floating_point():
                buffer.add_(0.25)
    return built


@pytest.fixture(scope="module")
def states() -> Mapping[str, State]:
    return {spec: network(spec).state_dict() for spec in SPECS}


@pytest.fixture(scope="module")
def trunks(
    states: Mapping[str, State], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, tuple[str, ...]]:
    folder = tmp_path_factory.mktemp("plain")
    return {spec: digests(spec, saved(folder / f"{at}.pth", states[spec])) for at, spec in enumerate(SPECS)}


def saved(path: Path, content: object) -> Path:
    if path.suffix == ".safetensors":
        assert isinstance(content, dict)
        save_file({name: each.contiguous() for name, each in content.items()}, path)
    else:
        torch.save(content, path)
    return path


def digests(spec: str, file: Path) -> tuple[str, ...]:
    return weights_digests(find(f"{spec}@{file}").load())


def under(prefix: str, state: State) -> State:
    return {prefix + name: each for name, each in state.items()}


def beside(state: object) -> dict[str, object]:
    return {
        "epoch": 3, "loss": torch.tensor(0.5), "model_state_dict": state,
        "optimizer_state_dict": {"state": {0: {"exp_avg": torch.ones(9), "step": torch.tensor(4)}}, "param_groups": []},
        "scheduler": {"last_epoch": 3, "milestones": collections.Counter({30: 1})},
        "rng": torch.zeros(5, dtype=torch.uint8),
    }  # fmt: skip


SAME: dict[str, Callable[[State], object]] = {
    "compiled, then wrapped": lambda state: under("module._orig_mod.", state),
    "wrapped three times": lambda state: under("module.module.module.", state),
    "a Lightning module of a compiled network": lambda state: {
        "state_dict": under("model._orig_mod.", state), "hyper_parameters": {"lr": 1e-3}, "callbacks": {},
    },
    "optimiser and schedule beside": beside,
    "wrapped, optimiser beside": lambda state: beside(under("module.", state)),
    "parameters in the place of tensors": lambda state: {
        name: nn.Parameter(each) if each.is_floating_point() else each for name, each in state.items()
    },
    "an ordered dictionary": lambda state: collections.OrderedDict(state.items()),
    "an averaged model of torch": lambda state: {"n_averaged": torch.tensor(5)} | under("module.", state),
    "the other order": lambda state: dict(reversed(list(state.items()))),
    "channels last": lambda state: {
        name: each.contiguous(memory_format=torch.channels_last) if each.ndim == 4 else each
        for name, each in state.items()
    },
    "views of one storage": lambda state: {
        name: torch.cat([each.flatten(), each.flatten()])[: each.numel()].view(each.shape)
        for name, each in state.items()
    },
    "doubles": lambda state: {
        name: each.double() if each.is_floating_point() else each for name, each in state.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("form", SAME)
def test_the_trunk_is_the_same_in_every_form(
    form: str, spec: str, states: Mapping[str, State], trunks: Mapping[str, tuple[str, ...]], tmp_path: Path
) -> None:
    assert digests(spec, saved(tmp_path / "w.pth", SAME[form](states[spec]))) == trunks[spec]


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("classes", [1, 2, 37])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_another_number_of_classes_is_no_other_trunk(
    suffix: str, classes: int, spec: str, states: Mapping[str, State], tmp_path: Path
) -> None:
    state = network(spec, num_classes=classes).state_dict()
    source = find(f"{spec}@{saved(tmp_path / f'w{suffix}', state)}")
    assert source.outputs() == classes
    logits = source.load().logits(torch.zeros(1, *source.input_size, 3, dtype=torch.uint8))
    assert logits.shape == (1, classes)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_widened(
    spec: str, dtype: torch.dtype, states: Mapping[str, State], tmp_path: Path
) -> None:
    state = {
        name: each.to(dtype) if each.is_floating_point() else each for name, each in states[spec].items()
    }
    stages = find(f"{spec}@{saved(tmp_path / 'w.safetensors', state)}").load()
    first = next(iter(stages.parameters()))
    assert first.dtype == torch.float32
    assert torch.equal(first, next(iter(states[spec].values())).to(dtype).float())


def changed(state: State, at: int, change: Callable[[Tensor], Tensor]) -> State:
    name = [name for name, each in state.items() if each.ndim == 4][at]
    return state | {name: change(state[name])}


def spoilt(value: float) -> Callable[[Tensor], Tensor]:
    def change(tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        tensor.view(-1)[-1] = value
        return tensor

    return change


REFUSED: dict[str, tuple[Callable[[State], object], str]] = {
    "a prefix on half of the names": (
        lambda state: {("module." if at % 2 else "") + name: each for at, (name, each) in enumerate(state.items())},
        "",
    ),
    "a prefix on all but one": (
        lambda state: {
            ("module." if at else "") + name: each for at, (name, each) in enumerate(state.items())
        },
        "",
    ),
    "a prefix that nobody knows": (lambda state: under("net.", state), "net."),
    "a student and a teacher": (
        lambda state: under("student.", state) | under("teacher.", state), "student.",
    ),
    "no numbers": (lambda state: changed(state, 1, spoilt(float("nan"))), "finite"),
    "infinity": (lambda state: changed(state, -1, spoilt(float("-inf"))), "finite"),
    "a transposed filter": (lambda state: changed(state, 0, lambda each: each.transpose(0, 1)), "shape"),
    "one channel": (lambda state: changed(state, 0, lambda each: each[:, :1]), "shape"),
    "a filter too wide": (
        lambda state: changed(state, 0, lambda each: torch.cat([each, each], dim=-1)), "shape",
    ),
    "whole numbers": (lambda state: changed(state, 1, lambda each: (each * 100).to(torch.int8)), "int8"),
    "an empty tensor": (lambda state: changed(state, 1, lambda each: each[:0]), "shape"),
    "a tensor of no device": (lambda state: changed(state, 1, lambda each: each.to("meta")), "without values"),
    "a sparse tensor": (lambda state: changed(state, 1, lambda each: each.to_sparse()), ""),
    "complex numbers": (lambda state: changed(state, 1, lambda each: each.to(torch.complex64)), "complex"),
    "a list of tensors": (lambda state: list(state.values()), ""),
    "one tensor": (lambda state: next(iter(state.values())), ""),
    "an optimiser alone": (lambda _: {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1}]}, ""),
    "nothing": (lambda _: None, ""),
    "numbers for names": (lambda state: dict(enumerate(state.values())), ""),
    "a pickled network": (lambda _: nn.Linear(3, 3), "Linear"),
    "a pickled network inside": (lambda state: {"state_dict": state, "net": nn.Linear(3, 3)}, "Linear"),
    "an adapter": (
        lambda state: state | {"layer1.0.conv1.lora_A.weight": torch.ones(2, 2)}, "lora_A",
    ),
}  # fmt: skip


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_whole_trunk_is_refused_in_one_line(
    name: str, spec: str, states: Mapping[str, State], tmp_path: Path
) -> None:
    change, named = REFUSED[name]
    with pytest.raises(CultivarError) as error:
        find(f"{spec}@{saved(tmp_path / 'w.pth', change(states[spec]))}").load()
    message = str(error.value)
    assert named in message and "w.pth" in message and "\n" not in message and len(message) < 1000


@pytest.mark.parametrize("other", ["timm:test_resnet", "torchvision:shufflenet_v2_x0_5"])
def test_the_weights_of_another_network_are_refused(other: str, tmp_path: Path) -> None:
    file = saved(tmp_path / "w.safetensors", network(other).state_dict())
    with pytest.raises(CultivarError) as error:
        find(f"torchvision:mobilenet_v3_small@{file}").load()
    assert "\n" not in str(error.value) and "w.safetensors" in str(error.value)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("kept", [(), ("weight",), ("bias",)])
def test_a_head_in_part_or_none_leaves_the_trunk(
    kept: tuple[str, ...],
    spec: str,
    states: Mapping[str, State],
    trunks: Mapping[str, tuple[str, ...]],
    tmp_path: Path,
) -> None:
    head = SPECS[spec]
    state = {
        name: each for name, each in states[spec].items()
        if not name.startswith(head) or name.removeprefix(head) in kept
    }  # fmt: skip
    file = saved(tmp_path / "w.pth", state)
    try:
        found = digests(spec, file)
    except CultivarError as error:
        assert kept and "\n" not in str(error) and head.rstrip(".") in str(error)
    else:
        assert found == trunks[spec]
