import hashlib
import re
from pathlib import Path

import pytest
import torch
import torchvision

from adapters.sources.checkpoints import read_checkpoint
from adapters.sources.source import Source
from adapters.sources.torchvision import TorchvisionProvider, build, fill, pinned
from registry.errors import SourceUnavailable, UnknownSource
from registry.recipe import ImageRecipe
from tests.contracts.source import SourceContract


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch's hub."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


class TestTorchvisionSource(SourceContract):
    @pytest.fixture(params=["squeezenet1_1", "resnet18", "mobilenet_v3_small"])
    def source(self, request: pytest.FixtureRequest) -> Source:
        return TorchvisionProvider().source(f"torchvision:{request.param}")


def test_every_classification_model_that_torchvision_lists_is_on_offer() -> None:
    listed = torchvision.models.list_models(module=torchvision.models)
    assert [spec.partition(":")[2] for spec in TorchvisionProvider().specs()] == listed
    assert sorted(pinned()) == sorted(listed)


def test_a_spec_without_weights_means_the_default_ones_and_says_so() -> None:
    assert TorchvisionProvider().source("torchvision:resnet50").spec == "torchvision:resnet50@IMAGENET1K_V2"


def test_other_weights_bring_their_own_recipe() -> None:
    first, second = (TorchvisionProvider().source(f"torchvision:resnet50@IMAGENET1K_V{n}") for n in (1, 2))
    assert first.recipe == ImageRecipe(height=224, width=224, resize=256)
    assert second.recipe == ImageRecipe(height=224, width=224, resize=232)
    assert first.cuts == second.cuts


def test_larger_weights_of_a_transformer_take_a_larger_input() -> None:
    source = TorchvisionProvider().source("torchvision:vit_b_16@IMAGENET1K_SWAG_E2E_V1")
    assert source.input_size == (384, 384)
    assert source.smallest == 384
    assert source.licence is not None


def test_task_and_labels_are_imagenets() -> None:
    source = TorchvisionProvider().source("torchvision:resnet18")
    assert source.task == "imagenet-1k"
    assert len(source.labels) == 1000
    assert source.labels[0] == "tench"


@pytest.mark.parametrize("spec", ["torchvision:resnet19", "torchvision:", "torchvision:resnet18@V9"])
def test_an_unknown_model_or_weights_is_refused(spec: str) -> None:
    with pytest.raises(UnknownSource):
        TorchvisionProvider().source(spec)


def test_missing_weights_are_named_with_the_folder_and_never_downloaded(hub: Path) -> None:
    source = TorchvisionProvider().source("torchvision:resnet18")
    assert not source.weights_at_hand()
    with pytest.raises(SourceUnavailable, match=r"resnet18-f37072fd\.pth") as caught:
        source.load()
    assert str(hub) in str(caught.value)
    assert list(hub.iterdir()) == []


def test_weights_in_the_hub_cache_are_checked_against_their_name(hub: Path) -> None:
    source = TorchvisionProvider().source("torchvision:resnet18")
    (hub / "resnet18-f37072fd.pth").write_bytes(b"something else")
    assert source.weights_at_hand()
    with pytest.raises(SourceUnavailable, match="f37072fd"):
        source.load()


def test_weights_under_their_own_hash_are_read(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save({"weight": torch.arange(3.0)}, file)
    name = f"tiny-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.pth"
    state = read_checkpoint(file.rename(tmp_path / name), "https://example.org")
    assert torch.equal(state["weight"], torch.arange(3.0))


def test_a_pickle_that_runs_code_is_not_loaded(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (str(tmp_path / "ran"),)

    file = tmp_path / "hostile.pth"
    torch.save({"weight": Hostile()}, file)
    with pytest.raises(SourceUnavailable, match="tensors"):
        read_checkpoint(file, "https://example.org")
    assert not (tmp_path / "ran").exists()


def test_heads_that_only_training_uses_are_left_out_of_published_weights() -> None:
    weights = TorchvisionProvider().source("torchvision:googlenet").weights
    torch.manual_seed(3)
    published, network = build("googlenet", weights), build("googlenet", weights)
    state = published.state_dict()
    fill(network, {**state, "aux1.conv.conv.weight": torch.zeros(1), "aux2.fc1.bias": torch.zeros(1)})
    assert torch.equal(network.state_dict()["fc.weight"], state["fc.weight"])


def test_the_older_names_that_densenet_is_published_under_are_understood() -> None:
    weights = TorchvisionProvider().source("torchvision:densenet121").weights
    torch.manual_seed(3)
    published, network = build("densenet121", weights), build("densenet121", weights)
    state = published.state_dict()
    fill(
        network,
        {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", name): state[name] for name in state},
    )
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_weights_without_a_classifier_are_not_on_offer() -> None:
    with pytest.raises(UnknownSource, match="vgg16 has the weights IMAGENET1K_V1, got 'IMAGENET1K_FEATURES'"):
        TorchvisionProvider().source("torchvision:vgg16@IMAGENET1K_FEATURES")
