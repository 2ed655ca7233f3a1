import itertools
from math import floor
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform, resolve_model_data_config
from timm.models import get_pretrained_cfg
from torch import nn

from adapters.sources import providers
from adapters.sources.normalisation import Normalise
from adapters.sources.source import Source
from adapters.sources.timm import TimmProvider, build, pinned
from adapters.sources.timm_cuts import landmarks
from registry.errors import InvalidValue, SourceUnavailable, UnknownSource
from registry.recipe import ImageRecipe
from tests.contracts.source import SourceContract, fields_for

SMALL = (
    "test_resnet.r160_in1k",
    "test_convnext.r160_in1k",
    "test_efficientnet.r160_in1k",
    "lcnet_050.ra2_in1k",
)

FAMILIES = (
    "convnext_atto",
    "efficientnet_b0",
    "mixer_b16_224",
    "mobilenetv3_small_050",
    "resnet10t",
    "resnet18",
    "resnetv2_18",
    "swin_tiny_patch4_window7_224",
    "vit_tiny_patch16_224",
)


def source_of(model: str) -> Source:
    return TimmProvider().source(f"timm:{model}")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches of Hugging Face's hub and of torch's."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "hf"


class TestTimmSource(SourceContract):
    @pytest.fixture(params=SMALL)
    def source(self, request: pytest.FixtureRequest) -> Source:
        return source_of(request.param)


@pytest.mark.parametrize(
    "model",
    [
        "test_vit3.r160_in1k",
        "resnetv2_18.ra4_e3600_r224_in1k",
        "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
        *SMALL,
    ],
)
def test_stages_answer_as_the_network_does(model: str) -> None:
    source = source_of(model)
    assert source.normalisation is not None
    stages = source.load(seed=3)
    torch.manual_seed(3)
    network = timm.create_model(model, pretrained=False).eval()
    pixels = fields_for(source)["pixels"]
    with torch.no_grad():
        torch.testing.assert_close(stages.logits(pixels), network(Normalise(source.normalisation)(pixels)))


@pytest.mark.parametrize("model", FAMILIES)
def test_pinned_cuts_are_what_the_rule_reads(model: str) -> None:
    with torch.device("meta"):
        network = timm.create_model(model, pretrained=False)
        assert landmarks(network, get_pretrained_cfg(model)) == pinned()[model]


def test_blocks_of_a_transformer_are_cut_into_quarters() -> None:
    assert pinned()["vit_tiny_patch16_224"].cuts == ("blocks.2", "blocks.5", "blocks.8", "blocks.11", "pool")
    assert pinned()["resnet18"].cuts == ("layer1", "layer2", "layer3", "layer4", "pool")
    assert pinned()["efficientnet_b0"].cuts == ("blocks.1", "blocks.2", "blocks.4", "blocks.6", "bn2", "pool")


def test_most_of_what_timm_has_published_can_be_cut() -> None:
    architectures = {model.partition(".")[0] for model in timm.list_pretrained()}
    assert len(pinned().keys() & architectures) > 0.78 * len(architectures)
    specs = TimmProvider().specs()
    assert "timm:vit_small_patch16_224.augreg_in1k" in specs
    assert len(specs) == len(set(specs)) > 1000


@pytest.mark.parametrize(
    "model",
    ["resnet18.a1_in1k", "vit_small_patch16_224.augreg_in1k", "efficientnet_b0.ra_in1k", "resnet50.a1_in1k"],
)
def test_the_recipe_is_timms_evaluation_transform(model: str) -> None:
    source = source_of(model)
    assert isinstance(source.recipe, ImageRecipe)
    assert source.normalisation is not None
    data = resolve_model_data_config(timm.create_model(model, pretrained=False))
    random = np.random.default_rng(0).integers(0, 256, (277, 390, 3), np.uint8)
    picture = Image.fromarray(random)
    expected = create_transform(**data)(picture)
    pixels = torch.from_numpy(source.recipe.convert(picture).copy())[None]
    torch.testing.assert_close(Normalise(source.normalisation)(pixels)[0], expected, rtol=0, atol=1e-5)
    assert source.recipe.resize == floor(data["input_size"][1] / data["crop_pct"])


def test_squashed_pictures_are_scaled_straight_to_size() -> None:
    recipe = source_of("convnext_base.fb_in22k_ft_in1k_384").recipe
    assert isinstance(recipe, ImageRecipe)
    assert (recipe.height, recipe.width, recipe.resize) == (384, 384, None)


def test_task_and_labels_follow_the_tag() -> None:
    source = source_of("resnet18.a1_in1k")
    assert (source.task, len(source.labels), source.labels[0]) == ("imagenet-1k", 1000, "tench")
    more = source_of("vit_tiny_patch16_224.augreg_in21k")
    assert (more.task, len(more.labels), len(set(more.labels))) == ("imagenet-21k", 21843, 21843)
    assert more.cuts == source_of("vit_tiny_patch16_224.augreg_in21k_ft_in1k").cuts
    none = source_of("vit_base_patch16_clip_224.openai")
    assert (none.task, none.labels) == (None, ())


def test_a_spec_without_a_tag_means_the_default_weights_and_says_so() -> None:
    source = source_of("resnet18")
    assert source.spec == "timm:resnet18.a1_in1k"
    assert source.licence == "apache-2.0"


@pytest.mark.parametrize("model", ["resnet19", "", "resnet18.none", "resnet18@weights.h5", "hrnet_w18"])
def test_what_timm_has_not_or_cannot_be_cut_is_refused(model: str) -> None:
    with pytest.raises(UnknownSource):
        source_of(model)


def test_missing_weights_are_named_with_the_cache_and_never_downloaded(cache: Path) -> None:
    source = source_of("test_resnet.r160_in1k")
    assert not source.weights_at_hand()
    with pytest.raises(
        SourceUnavailable, match=r"hf download timm/test_resnet\.r160_in1k model\.safetensors"
    ) as caught:
        source.load()
    assert str(cache) in str(caught.value)
    assert not cache.exists()


def saved(file: Path, model: str = "test_resnet.r160_in1k") -> dict[str, torch.Tensor]:
    """Save random weights as timm publishes them."""
    torch.manual_seed(9)
    state: dict[str, torch.Tensor] = build(model).state_dict()
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, file)
    return state


def test_weights_are_read_from_the_cache_of_the_hub(cache: Path) -> None:
    model = cache / "models--timm--test_resnet.r160_in1k"
    state = saved(model / "snapshots" / "abc" / "model.safetensors")
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("abc")
    source = source_of("test_resnet.r160_in1k")
    assert source.weights_at_hand()
    head = source.load().head
    assert isinstance(head, nn.Linear)
    assert torch.equal(head.weight, state["fc.weight"])


def test_weights_are_read_from_a_file_of_yours(tmp_path: Path) -> None:
    file = tmp_path / "own.safetensors"
    state = saved(file)
    source = source_of(f"test_resnet@{file}")
    assert source.spec == f"timm:test_resnet@{file}"
    head = source.load().head
    assert isinstance(head, nn.Linear)
    assert torch.equal(head.weight, state["fc.weight"])


def test_weights_of_another_network_and_broken_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "own.safetensors"
    source = source_of(f"test_convnext@{file}")
    with pytest.raises(SourceUnavailable, match="no such file"):
        source.load()
    saved(file)
    with pytest.raises(SourceUnavailable, match="none of its names"):
        source.load()
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(SourceUnavailable, match="whole safetensors file"):
        source.load()


@pytest.mark.parametrize(
    "model", ["hrnet_w18_small", "twins_svt_small", "xcit_nano_12_p16_224", "levit_128s"]
)
def test_a_network_that_the_rule_cannot_cut_is_refused(model: str) -> None:
    with torch.device("meta"), pytest.raises(InvalidValue):
        landmarks(timm.create_model(model, pretrained=False), get_pretrained_cfg(model))


def test_timm_is_listed_where_it_is_asked_for() -> None:
    assert {source.spec.partition(":")[0] for source in itertools.islice(providers.offered("timm"), 3)} == {
        "timm"
    }
    assert "timm" not in {source.spec.partition(":")[0] for source in providers.offered()}
