"""Checkpoints as training scripts leave them: taken as what they are, or refused by what differs."""

import argparse
import io
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from adapters.adaptation import Order, adapt
from adapters.datasets import load
from adapters.publish import weights_digests
from adapters.sources import checkpoints
from adapters.sources.own_weights import PREFIXES
from adapters.sources.providers import find
from adapters.sources.source import Source
from adapters.sources.timm import build as build_timm
from adapters.sources.torchvision import TorchvisionSource
from adapters.sources.torchvision import build as build_torchvision
from adapters.techniques import Context, technique
from registry.errors import CultivarError, DatasetError, InvalidSetting, SourceUnavailable, UnknownSource
from registry.progress import SILENT, Progress
from registry.recipe import ImageRecipe
from registry.registry import Registry
from registry.settings import Settings
from tests.adapters.families import smaller
from tests.adapters.tiny import SHAPES, write_shapes

RESNET, SHUFFLENET = "timm:test_resnet", "torchvision:shufflenet_v2_x0_5"
SPECS = (RESNET, SHUFFLENET)
State = dict[str, Tensor]


def network_of(spec: str, classes: int = 1000) -> nn.Module:
    """Return a network with random weights and batch statistics that are not those of a new one."""
    torch.manual_seed(0)
    if spec.startswith("timm:"):
        network = build_timm(spec.partition(":")[2])
    else:
        source = find(spec)
        assert isinstance(source, TorchvisionSource)
        network = build_torchvision(source.model, source.weights)
    for name, buffer in network.named_buffers():
        if buffer.is_floating_point():
            buffer.add_(0.1)
        elif name.endswith("num_batches_tracked"):
            buffer.add_(7)
    if classes != 1000:
        head = network.fc
        assert isinstance(head, nn.Linear)
        network.fc = nn.Linear(head.in_features, classes)
    return network


@pytest.fixture(scope="module")
def states() -> Mapping[str, State]:
    return {spec: network_of(spec).state_dict() for spec in SPECS}


def written(path: Path, state: Mapping[str, object]) -> Path:
    if path.suffix == ".safetensors":
        save_file({name: each.contiguous() for name, each in state.items() if isinstance(each, Tensor)}, path)
    else:
        torch.save(state, path)
    return path


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: each for name, each in state.items()}


def without(state: State, beginning: str) -> State:
    return {name: each for name, each in state.items() if not name.startswith(beginning)}


def digests(source: Source) -> tuple[str, ...]:
    return weights_digests(source.load())


@pytest.fixture(scope="module")
def whole(
    states: Mapping[str, State], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, tuple[str, ...]]:
    """Digests of the stages of each network, from a plain file."""
    folder = tmp_path_factory.mktemp("plain")
    return {
        spec: digests(find(f"{spec}@{written(folder / f'{number}.safetensors', states[spec])}"))
        for number, spec in enumerate(SPECS)
    }


def optimised(state: State) -> dict[str, object]:
    """Return what a training script saves beside the weights."""
    return {
        "epoch": 12,
        "arch": "resnet",
        "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]},
        "args": argparse.Namespace(lr=0.1, model="resnet"),
        "best": 0.9,
        "state_dict": state,
    }


FORMS: Mapping[str, Callable[[State], Mapping[str, object]]] = {
    "plain.pth": dict,
    "module.pth": lambda state: prefixed("module.", state),
    "orig.safetensors": lambda state: prefixed("_orig_mod.", state),
    "lightning.ckpt": lambda state: {
        "state_dict": prefixed("model.", state),
        "pytorch-lightning_version": "2",
    },
    "detector.bin": lambda state: prefixed("backbone.", state),
    "nested.pt": lambda state: prefixed("module._orig_mod.", state),
    "reversed.pt": lambda state: prefixed("_orig_mod.module.", state),
    "twice.pth": lambda state: prefixed("model.backbone.", state) | {"criterion.weight": torch.ones(3)},
    "script.pth.tar": optimised,
    "model.pth": lambda state: {"model": prefixed("module.", state), "ema_decay": 0.9},
    "wrapped.pth": lambda state: {"model": {"state_dict": state}},
    "averaged.pth": lambda state: {"model_ema": state, "epoch": 3},
    "both.pth": lambda state: {"state_dict": state, "state_dict_ema": prefixed("module.", state)},
}


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("form", FORMS)
def test_whatever_stands_around_the_weights_the_trunk_is_the_same(
    form: str, spec: str, states: Mapping[str, State], whole: Mapping[str, tuple[str, ...]], tmp_path: Path
) -> None:
    source = find(f"{spec}@{written(tmp_path / form, FORMS[form](states[spec]))}")
    assert source.weights_at_hand()
    stages = source.load()
    assert weights_digests(stages) == whole[spec]
    assert source.outputs() == 1000
    assert isinstance(stages.head, nn.Linear)
    assert torch.equal(stages.head.weight, states[spec]["fc.weight"])


def test_the_trunk_is_that_of_the_published_weights(
    states: Mapping[str, State], whole: Mapping[str, tuple[str, ...]]
) -> None:
    source = find(RESNET)
    assert not source.weights_at_hand()
    network = build_timm("test_resnet.r160_in1k", dict(states[RESNET]))
    assert weights_digests(source.staged(network)) == whole[RESNET]  # type: ignore[attr-defined]  # a traced source


@pytest.mark.parametrize("spec", SPECS)
def test_a_file_claims_nothing_that_it_does_not_know(
    spec: str, states: Mapping[str, State], tmp_path: Path
) -> None:
    file = written(tmp_path / "w.pth", states[spec])
    source = find(f"{spec}@{file}")
    assert (source.spec, source.task, source.labels, source.licence) == (f"{spec}@{file}", None, (), None)
    assert source.recipe == find(spec).recipe
    configuration = find(spec).spec.partition(":")[2]
    assert source.remarks()[-1].startswith(f"w.pth: preprocessing of {configuration}")


def test_weights_before_the_file_name_the_configuration(states: Mapping[str, State], tmp_path: Path) -> None:
    file = written(tmp_path / "w.pth", states[SHUFFLENET])
    first, second = (find(f"torchvision:resnet50@IMAGENET1K_V{number}@{file}") for number in (1, 2))
    assert (first.recipe, second.recipe) == (
        ImageRecipe(224, 224, resize=256),
        ImageRecipe(224, 224, resize=232),
    )
    assert find(f"timm:resnet50.a1_in1k@{file}").recipe == find("timm:resnet50.a1_in1k").recipe


@pytest.mark.parametrize(
    ("form", "remarks"),
    [
        ("module.pth", ["stripped the prefix 'module.'"]),
        ("nested.pt", ["stripped the prefix 'module._orig_mod.'"]),
        ("twice.pth", ["'model.backbone.'", "left out criterion.weight, which lack that prefix"]),
        ("script.pth.tar", ["took 'state_dict', left out epoch, arch, optimizer, args, best"]),
        ("both.pth", ["took 'state_dict', left out state_dict_ema"]),
        ("averaged.pth", ["took 'model_ema', left out epoch"]),
    ],
)
def test_what_was_stripped_and_left_out_is_said(
    form: str, remarks: list[str], states: Mapping[str, State], tmp_path: Path
) -> None:
    source = find(f"{RESNET}@{written(tmp_path / form, FORMS[form](states[RESNET]))}")
    said = "\n".join(source.remarks())
    for remark in remarks:
        assert remark in said


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("rows", [2, 10, 1200])
def test_a_head_of_another_size_is_kept_as_it_is(
    rows: int, spec: str, whole: Mapping[str, tuple[str, ...]], tmp_path: Path
) -> None:
    state = network_of(spec, rows).state_dict()
    source = find(f"{spec}@{written(tmp_path / 'ten.pth', prefixed('module.', state))}")
    assert source.outputs() == rows
    stages = source.load()
    assert weights_digests(stages) == whole[spec]
    assert stages.logits(torch.zeros(1, 160, 160, 3, dtype=torch.uint8)).shape == (1, rows)


def test_a_head_of_a_convolution_has_another_size_too(tmp_path: Path) -> None:
    source = find("torchvision:squeezenet1_1")
    assert isinstance(source, TorchvisionSource)
    network = build_torchvision(source.model, source.weights, num_classes=7)
    own = find(f"{source.spec.partition('@')[0]}@{written(tmp_path / 'w.pth', network.state_dict())}")
    stages = own.load()
    assert own.outputs() == 7
    pixels = torch.zeros(2, 224, 224, 3, dtype=torch.uint8)
    assert stages.logits(pixels).shape == (2, 7) and stages(pixels).shape == (2, 512)


@pytest.mark.parametrize("spec", SPECS)
def test_a_file_without_a_head_has_a_trunk(
    spec: str, states: Mapping[str, State], whole: Mapping[str, tuple[str, ...]], tmp_path: Path
) -> None:
    state = without(states[spec], "fc.")
    source = find(f"{spec}@{written(tmp_path / 'nohead.safetensors', state)}")
    assert source.outputs() is None and "there is no output layer" in source.remarks()[0]
    stages = source.load()
    assert stages.head is None and weights_digests(stages) == whole[spec]


def test_a_head_of_another_form_is_left_out(
    states: Mapping[str, State], whole: Mapping[str, tuple[str, ...]], tmp_path: Path
) -> None:
    state = without(states[RESNET], "fc.")
    state |= {"fc.0.weight": torch.ones(4, 8), "fc.0.bias": torch.ones(4), "fc.2.weight": torch.ones(5, 4)}
    source = find(f"{RESNET}@{written(tmp_path / 'w.pth', state)}")
    assert "left out fc.0.weight, fc.0.bias, fc.2.weight" in source.remarks()[0]
    assert source.load().head is None and digests(source) == whole[RESNET]


@pytest.mark.parametrize("spec", [*SPECS, "torchvision:mnasnet0_5"])
def test_counters_of_batches_may_be_missing_and_halves_are_widened(spec: str, tmp_path: Path) -> None:
    state = network_of(spec).state_dict()
    older = {
        name: each.half() if each.is_floating_point() else each
        for name, each in state.items()
        if not name.endswith("num_batches_tracked")
    }
    stages = find(f"{spec}@{written(tmp_path / 'w.safetensors', older)}").load()
    assert {each.dtype for each in stages.parameters()} == {torch.float32}
    first = next(iter(stages.stages[0].parameters()))
    assert torch.equal(first, next(iter(state.values())).half().float())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda state: state | {"extra.weight": torch.zeros(3)}, r"^unexpected: extra\.weight; in "),
        (
            lambda state: {k: v for k, v in state.items() if k != "bn1.running_mean"},
            r"^missing: bn1\.running_mean; in ",
        ),
        (lambda state: dict(list(state.items())[:20]), r"^missing: \S+, \S+, \S+ and \d+ more; in "),
        (
            lambda state: state | {"conv1.0.weight": state["conv1.0.weight"][:, :1]},
            r"^shapes differ: conv1\.0\.weight is float32 \[\d+, 1, 3, 3\] and has to be float32 \[\d+, 3, 3, 3\]; in ",
        ),
        (
            lambda state: state | {"conv1.0.weight": state["conv1.0.weight"].to(torch.int8)},
            "conv1.0.weight is int8",
        ),
        (
            lambda state: prefixed("teacher.", state),
            r"they are there under the prefix 'teacher\.': save them without",
        ),
        (lambda state: {"layer.weight": torch.zeros(2)}, "none of its names is one of the"),
        (
            lambda state: prefixed("module.", state) | prefixed("backbone.", state),
            "more than once, under the prefixes",
        ),
        (
            lambda state: state | prefixed("module.", state),
            "more than once, under the prefixes '' and 'module.'",
        ),
        (
            lambda state: (
                state | {"layer1.0.conv1.weight": torch.full_like(state["layer1.0.conv1.weight"], torch.nan)}
            ),
            r"^layer1\.0\.conv1\.weight in .* not finite in float32",
        ),
        (lambda state: state | {"fc.bias": torch.full((1000,), torch.inf)}, r"^fc\.bias in "),
        (lambda state: {"state_dict": state, "model": state}, "under 'state_dict' and 'model'"),
        (lambda state: {"epoch": 1, "lr": 0.1}, "no named tensors, but epoch, lr"),
        (lambda state: {}, "no named tensors, but nothing"),
    ],
)
def test_what_differs_is_named_first(
    changed: Callable[[State], Mapping[str, object]],
    message: str,
    states: Mapping[str, State],
    tmp_path: Path,
) -> None:
    source = find(f"{RESNET}@{written(tmp_path / 'w.pth', changed(states[RESNET]))}")
    for use in (source.remarks, source.load):
        with pytest.raises(SourceUnavailable, match=message) as caught:
            use()
        assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_weights_of_another_input_size_are_refused_by_what_differs(tmp_path: Path) -> None:
    state = timm.create_model("test_vit3", pretrained=False, img_size=96).state_dict()
    with pytest.raises(
        SourceUnavailable, match=r"^shapes differ: pos_embed is float32 \[1, 3\d, \d+\] and has to be float32"
    ):
        find(f"timm:test_vit3@{written(tmp_path / 'vit96.safetensors', state)}").load()


def test_a_publishers_own_names_are_converted_by_timm(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_timm("convnext_atto")
    theirs = {}
    for name, each in network.state_dict().items():
        name = name.replace("stages.0.downsample", "downsample_layers.0").replace(
            "stem.", "downsample_layers.0."
        )
        name = name.replace(".blocks.", ".").replace("conv_dw.", "dwconv.").replace("mlp.fc", "pwconv")
        for stage in range(1, 4):
            name = name.replace(f"stages.{stage}.downsample", f"downsample_layers.{stage}")
        name = name.replace("head.norm", "norm").replace("head.fc", "head")
        theirs[name] = each
    source = find(f"timm:convnext_atto@{written(tmp_path / 'w.pth', {'model': theirs})}")
    assert "names converted by timm" in source.remarks()[0]
    plain = find(f"timm:convnext_atto@{written(tmp_path / 'plain.pth', network.state_dict())}")
    assert digests(source) == digests(plain)


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (str(self.mark),)


def test_code_in_a_file_is_named_and_not_run(states: Mapping[str, State], tmp_path: Path) -> None:
    for number, held in enumerate([Hostile(tmp_path / "ran"), nn.Linear(2, 2)]):
        file = written(tmp_path / f"{number}.pth", {"state_dict": states[RESNET], "extra": held})
        with pytest.raises(SourceUnavailable, match=r"it holds an object of \S+, which would have to be run"):
            find(f"{RESNET}@{file}").load()
    assert not (tmp_path / "ran").exists()


def test_files_of_the_older_format_are_read(
    states: Mapping[str, State], whole: Mapping[str, tuple[str, ...]], tmp_path: Path
) -> None:
    torch.save(optimised(states[RESNET]), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert digests(find(f"{RESNET}@{tmp_path / 'old.pth'}")) == whole[RESNET]


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def compressed(data: bytes) -> bytes:
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as old,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
        new.writestr("archive/data/bomb", bytes(1 << 24))
    return stream.getvalue()


def announced(data: bytes) -> bytes:
    """Return a safetensors file whose header says that a tensor has 8 TiB."""
    header = b'{"conv1.weight":{"dtype":"F32","shape":[1048576,2097152],"data_offsets":[0,8796093022208]}}'
    return struct.pack("<Q", len(header)) + header + bytes(64)


def long_header(data: bytes) -> bytes:
    return struct.pack("<Q", 1 << 62) + bytes(64)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "damage", [truncated, compressed, announced, long_header, lambda _: b"", lambda _: b"GIF89a"]
)
def test_damaged_files_are_refused_in_one_sentence(
    damage: Callable[[bytes], bytes], suffix: str, states: Mapping[str, State], tmp_path: Path
) -> None:
    whole = written(tmp_path / "whole.pth", states[RESNET])
    file = tmp_path / f"damaged{suffix}"
    file.write_bytes(damage(whole.read_bytes()))
    with pytest.raises(SourceUnavailable, match=r"damaged\.") as caught:
        find(f"{RESNET}@{file}").load()
    assert len(str(caught.value)) < 500 + len(str(tmp_path))


def test_a_tensor_larger_than_its_bytes_is_refused(states: Mapping[str, State], tmp_path: Path) -> None:
    huge = torch.zeros(1).expand(1 << 20, 1 << 20)
    file = written(tmp_path / "w.pth", states[RESNET] | {"conv1.0.weight": huge})
    with pytest.raises(SourceUnavailable, match="shapes differ"):
        find(f"{RESNET}@{file}").load()


def test_a_file_over_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "MAX_BYTES", 10)
    (tmp_path / "w.pth").write_bytes(bytes(11))
    with pytest.raises(SourceUnavailable, match="has 11 bytes; a file of weights has at most 10"):
        find(f"{RESNET}@{tmp_path / 'w.pth'}").load()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("torchvision:resnet5o", "did you mean 'resnet50'"),
        ("torchvision:resnet50@IMAGENET1K_V3", r"got 'IMAGENET1K_V3'; did you mean 'IMAGENET1K_V\d'"),
        (
            "torchvision:resnet50@weights.npz",
            r"\(\.safetensors, \.pth, .* \.tar\), got 'weights.npz'",
        ),
        ("torchvision:resnet50@folder/", "got 'folder/'"),
        ("timm:resnet5o", "did you mean 'resnet50'"),
        ("timm:resnet50.a1_1nk", "has no weights 'a1_1nk' in timm .*; did you mean 'a1_in1k'"),
        ("timm:resnet18@", "got ''"),
        ("timm:resnet18@weights.onnx", r"got 'weights\.onnx'"),
    ],
)
def test_a_spec_that_names_nothing_is_answered_with_the_nearest(spec: str, message: str) -> None:
    with pytest.raises(UnknownSource, match=message):
        find(spec)


@pytest.mark.parametrize(
    "spec", ["torchvision:resnet18@./none.pth", "torchvision:resnet18@none.pth", "timm:resnet18@none.pth"]
)
def test_a_file_that_is_not_there_is_named(spec: str) -> None:
    source = find(spec)
    assert not source.weights_at_hand()
    with pytest.raises(SourceUnavailable, match=r"none\.pth, there is no such file"):
        source.load()


class Heard(Progress):
    def __init__(self) -> None:
        self.said: list[str] = []

    step = type(SILENT).step

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes"), per_class=12)


def order(source: Source, shapes: Path, technique: str, **changes: object) -> Order:
    base = Order(data=str(shapes), source=smaller(source), target="shapes", technique=technique)
    return replace(base, **{"source_task": "mine", **changes})  # type: ignore[arg-type]  # fields of an order


def test_forms_of_one_checkpoint_share_their_trunk_in_the_registry(
    states: Mapping[str, State], shapes: Path, tmp_path: Path
) -> None:
    ten = network_of(RESNET, 10).state_dict()
    files = [
        written(tmp_path / "a.pth", optimised(prefixed("module.", states[RESNET]))),
        written(tmp_path / "b.safetensors", ten),
    ]
    heard = Heard()
    with Registry.open(Settings.read(tmp_path / "home", environment={})) as registry:
        first, second = (
            adapt(order(find(f"{RESNET}@{file}"), shapes, technique), registry, heard).manifest
            for file, technique in zip(files, ("frozen", "features"), strict=True)
        )
    trunks = [
        [each.digest for each in manifest.segments if each.role == "trunk"] for manifest in (first, second)
    ]
    assert trunks[0] == trunks[1]
    assert first.space == second.space
    assert (first.origin.licence, first.transfer.source) == (None, "mine")
    assert "a.pth: stripped the prefix 'module.'" in heard.said


def test_a_file_needs_the_name_of_its_task(states: Mapping[str, State], shapes: Path, tmp_path: Path) -> None:
    file = written(tmp_path / "w.pth", states[RESNET])
    with (
        Registry.open(Settings.read(tmp_path / "home", environment={})) as registry,
        pytest.raises(InvalidSetting, match="--source-task"),
    ):
        adapt(order(find(f"{RESNET}@{file}"), shapes, "frozen", source_task=None), registry)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of four outputs."""
    return written(tmp_path_factory.mktemp("four") / "four.pth", network_of(RESNET, 4).state_dict())


def test_as_is_takes_its_labels_from_a_file(four: Path, shapes: Path, tmp_path: Path) -> None:
    names = tmp_path / "labels.txt"
    names.write_text("\ufeff" + "\r\n".join(["ring", *SHAPES]) + "\r\n", encoding="utf-8")
    source = smaller(find(f"{RESNET}@{four}"))
    dataset = load(str(shapes), source.recipe)
    numbers = {label: number + 1 for number, label in enumerate(SHAPES)}
    found, again = (
        technique("as-is", settings).fit(source, dataset, Context())
        for settings in ({"labels": str(names)}, {"label_map": numbers})
    )
    assert found.labels == again.labels == SHAPES
    assert found.weight is not None and again.weight is not None
    assert torch.equal(found.weight, again.weight)
    assert (
        found.config == again.config == {"label_map": {label: [number] for label, number in numbers.items()}}
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ring\nbars\nchecks\n", "names 3 labels, .* has 4 outputs"),
        ("ring\nbars\nchecks\ndisc\nmore\n", "names 5 labels, .* has 4 outputs"),
        ("ring\nbars\n\nchecks\ndisc\n", "line 3 has an empty label"),
        ("", "is empty"),
        (b"ring\nbars\xff\n", "in UTF-8; byte 9 is not"),
        (None, "expected a file of labels at .*: No such file"),
    ],
)
def test_labels_are_checked_before_a_picture_is_read(
    text: str | bytes | None, message: str, four: Path, shapes: Path, tmp_path: Path
) -> None:
    names = tmp_path / "labels.txt"
    if text is not None:
        names.write_bytes(text if isinstance(text, bytes) else text.encode())
    with (
        Registry.open(Settings.read(tmp_path / "home", environment={})) as registry,
        pytest.raises(InvalidSetting, match=message),
    ):
        adapt(
            order(find(f"{RESNET}@{four}"), shapes, "as-is", settings={"labels": str(names)}),
            registry,
        )


def test_as_is_says_what_a_file_lacks_before_a_picture_is_read(
    four: Path, states: Mapping[str, State], shapes: Path, tmp_path: Path
) -> None:
    headless = written(
        tmp_path / "w.pth",
        without(states[RESNET], "fc."),
    )
    with Registry.open(Settings.read(tmp_path / "home", environment={})) as registry:
        for file, message in ((four, "has 4 outputs and does not say"), (headless, "has no output layer")):
            with pytest.raises(DatasetError, match=message):
                adapt(order(find(f"{RESNET}@{file}"), shapes, "as-is"), registry)
        with pytest.raises(CultivarError, match="no setting 'labels'"):
            adapt(
                order(find(f"{RESNET}@{four}"), shapes, "frozen", settings={"labels": "x"}),
                registry,
            )


def test_the_prefixes_are_those_that_are_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "adapting.md").read_text()
    assert all(f"`{prefix}`" in page for prefix in PREFIXES)
