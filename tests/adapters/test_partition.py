import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import DenseNet

from adapters.sources.cut_search import propose_cuts
from adapters.sources.normalisation import Normalisation, Normalise
from adapters.sources.partition import stage
from adapters.sources.pinning import sketch
from adapters.sources.stages import Stages
from adapters.sources.torchvision import TorchvisionProvider, build
from adapters.sources.weights import stage_weights_digest
from registry.errors import InvalidValue

NORMALISATION = Normalisation.of([0.4, 0.5, 0.6], [0.2, 0.25, 0.3])
SIDE = 32


class Small(nn.Module):
    """Two blocks and a skip connection around the second."""

    def __init__(self) -> None:
        super().__init__()
        self.low = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
        self.block = nn.Conv2d(8, 8, 3, padding=1)
        self.high = nn.Sequential(nn.Conv2d(8, 16, 3), nn.ReLU())
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        low = self.low(x)
        high = self.high(F.relu(self.block(low) + low))
        logits: Tensor = self.fc(self.drop(high.mean((2, 3))))
        return logits


def staged(network: nn.Module, cuts: Sequence[str], head: str, dimension: int, side: int = SIDE) -> Stages:
    torch.manual_seed(0)
    return stage(
        network,
        cuts,
        head,
        architecture="test",
        features_dim=dimension,
        input_size=(side, side),
        normalisation=NORMALISATION,
    )


def pixels(rows: int = 2, side: int = SIDE) -> Tensor:
    return torch.randint(
        0, 256, (rows, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


@pytest.fixture
def small() -> Small:
    torch.manual_seed(0)
    return Small()


class TestNormalisation:
    def test_equals_the_textbook_formula(self) -> None:
        given = pixels()
        expected = (
            given.permute(0, 3, 1, 2).double() / 255 - torch.tensor(NORMALISATION.mean).reshape(3, 1, 1)
        ) / (torch.tensor(NORMALISATION.std).reshape(3, 1, 1))
        normalised = Normalise(NORMALISATION)(given)
        assert normalised.is_contiguous()
        torch.testing.assert_close(normalised.double(), expected, rtol=0, atol=1e-6)

    @pytest.mark.parametrize(("mean", "std"), [([], []), ([0.5], [0.5, 0.5]), ([0.5], [0.0])])
    def test_refuses_statistics_that_do_not_fit(self, mean: list[float], std: list[float]) -> None:
        with pytest.raises(InvalidValue, match="one mean and one std"):
            Normalisation.of(mean, std)


class TestStages:
    @pytest.mark.parametrize(
        "model",
        [
            "squeezenet1_1",
            "resnet18",
            "mobilenet_v3_small",
            "shufflenet_v2_x0_5",
            "densenet121",
            "googlenet",
            "swin_t",
        ],
    )
    def test_one_after_another_are_the_network(self, model: str) -> None:
        source = TorchvisionProvider().source(f"torchvision:{model}")
        torch.manual_seed(0)
        network = build(model, source.weights).eval()
        stages = source.staged(network)
        given = pixels(side=source.smallest)
        with torch.no_grad():
            whole = network(Normalise(source.normalisation)(given))
            assert torch.equal(stages.logits(given), whole)
            value: Tensor = given
            for k in range(len(stages)):
                value = stages.run(value, k, k + 1)
            assert torch.equal(value, stages(given))

    def test_share_their_parameters_with_the_network_under_their_own_paths(self, small: Small) -> None:
        stages = staged(small, ["low", "high", "pool"], "fc", 16)
        (name, parameter), *_ = stages.stages[0].named_parameters()
        assert name == "low.0.weight"
        assert parameter is small.low[0].weight
        assert {id(p) for p in stages.parameters()} == {id(p) for p in small.parameters()}

    def test_can_be_copied_apart(self, small: Small) -> None:
        stages = staged(small, ["low", "high", "pool"], "fc", 16)
        other = copy.deepcopy(stages)
        with torch.no_grad():
            next(other.stages[0].parameters()).zero_()
            assert not torch.equal(other(pixels()), stages(pixels()))

    def test_follow_the_training_mode_in_every_stage(self) -> None:
        network = DenseNet(
            growth_rate=4, block_config=(2, 2), num_init_features=8, drop_rate=0.5, num_classes=3
        )
        cuts = ["features.denseblock1", "features.norm5", "pool"]
        stages = staged(network, cuts, "classifier", network.classifier.in_features)
        given = pixels(4)
        with torch.no_grad():
            assert torch.equal(stages(given), stages(given))
            split = stages.split(1)
            carried = split.lower(given)
            assert torch.equal(carried, split.lower(given))
            assert not torch.equal(split.upper(carried), split.upper(carried))
            split.upper.eval()
            assert torch.equal(split.upper(carried), split.upper(carried))

    def test_lower_stages_stay_in_eval_mode_without_gradients(self, small: Small) -> None:
        split = staged(small, ["low", "high", "pool"], "fc", 16).split(1)
        statistics = small.state_dict()["low.1.running_mean"].clone()
        split.lower.train()
        carried = split.lower(pixels())
        assert not carried.requires_grad
        assert torch.equal(small.state_dict()["low.1.running_mean"], statistics)
        assert all(not p.requires_grad for p in small.low.parameters())
        assert all(p.requires_grad for p in small.high.parameters())

    def test_all_or_none_may_be_frozen(self, small: Small) -> None:
        stages = staged(small, ["low", "high", "pool"], "fc", 16)
        given = pixels()
        assert torch.equal(stages.split(3).upper(given), given)
        assert torch.equal(stages.split(0).lower(given), given)
        with pytest.raises(InvalidValue, match="3 stages to freeze, got 4"):
            stages.split(4)

    def test_depths_count_stages_that_have_something_to_train(self, small: Small) -> None:
        assert staged(small, ["low", "high", "pool"], "fc", 16).depths() == (1, 0)

    def test_depths_do_not_count_a_norm(self, small: Small) -> None:
        torch.manual_seed(0)
        normed = nn.Sequential(
            small.low, small.high, nn.BatchNorm2d(16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), small.fc
        )
        assert staged(normed, ["0", "1", "3"], "5", 16).depths() == (1, 0)

    def test_without_a_head_have_no_logits(self, small: Small) -> None:
        stages = staged(small, ["low", "high", "pool"], "fc", 16)
        stages.head = None
        with pytest.raises(InvalidValue, match="no output layer"):
            stages.logits(pixels())

    def test_a_convolutional_head_hangs_off_the_map_before_pooling(self) -> None:
        source = TorchvisionProvider().source("torchvision:squeezenet1_1")
        stages = source.load(seed=0)
        assert stages.head_after == len(stages) - 1
        with torch.no_grad():
            assert stages(pixels()).shape == (2, 512)


class TestRefusals:
    def test_a_skip_connection_may_not_cross_a_cut(self, small: Small) -> None:
        with pytest.raises(InvalidValue, match="pass around block"):
            staged(small, ["block", "high", "pool"], "fc", 16)

    def test_a_path_has_to_exist(self, small: Small) -> None:
        with pytest.raises(InvalidValue, match="'middle' that the network calls once, it is called 0 times"):
            staged(small, ["middle", "high", "pool"], "fc", 16)

    def test_the_last_name_lies_in_the_last_stage(self, small: Small) -> None:
        staged(small, ["low", "high", "drop"], "fc", 16)
        with pytest.raises(InvalidValue, match="last cut"):
            staged(small, ["low", "high", "low"], "fc", 16)

    def test_code_between_cuts_may_not_depend_on_the_training_mode(self) -> None:
        class Moody(Small):
            def forward(self, x: Tensor) -> Tensor:
                x = self.low(x)
                x = F.dropout(x, 0.5, self.training)
                logits: Tensor = self.fc(self.high(x).mean((2, 3)))
                return logits

        with pytest.raises(InvalidValue, match="other code in training"):
            staged(Moody(), ["low", "high", "pool"], "fc", 16)


class TestWeightsDigests:
    def test_follow_the_stage_that_changed_and_no_other(self, small: Small) -> None:
        stages = staged(small, ["low", "high", "pool"], "fc", 16)
        before = [stage_weights_digest(stages, k) for k in range(3)]
        small.state_dict()["high.0.bias"][0] += 1
        after = [stage_weights_digest(stages, k) for k in range(3)]
        assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True]

    def test_include_buffers(self, small: Small) -> None:
        stages = staged(small, ["low", "high", "pool"], "fc", 16)
        before = stage_weights_digest(stages, 0)
        small.state_dict()["low.1.running_var"].add_(1)
        assert stage_weights_digest(stages, 0) != before

    def test_tell_sizes_and_architectures_apart(self, small: Small) -> None:
        stages = staged(small, ["low", "high", "pool"], "fc", 16)
        digests = {stage_weights_digest(stages, 2)}
        stages.input_size = (64, 64)
        digests.add(stage_weights_digest(stages, 2))
        stages.architecture = "other"
        digests.add(stage_weights_digest(stages, 2))
        assert len(digests) == 3

    def test_do_not_depend_on_modes_or_gradients(self, small: Small) -> None:
        stages = staged(small, ["low", "high", "pool"], "fc", 16)
        before = [stage_weights_digest(stages, k) for k in range(3)]
        stages.split(1)
        assert [stage_weights_digest(stages, k) for k in range(3)] == before


@pytest.mark.parametrize("spec", TorchvisionProvider().specs())
def test_pinned_cuts_of_every_listed_model_carry_one_tensor(spec: str) -> None:
    source = TorchvisionProvider().source(spec)
    stages = source.staged(sketch(source.model, source.weights)).to("meta")
    assert stages.names == source.cuts
    given = torch.empty(2, source.smallest, source.smallest, 3, dtype=torch.uint8, device="meta")
    assert stages(given).shape == (2, source.dimension)
    assert stages.logits(given).shape == (2, len(source.labels))


class TestProposal:
    def test_finds_the_blocks_of_a_residual_network(self) -> None:
        network = sketch("resnet18", TorchvisionProvider().source("torchvision:resnet18").weights)
        proposal = propose_cuts(network, torch.empty(2, 3, 224, 224, device="meta"))
        assert proposal.cuts == ("layer1", "layer2", "layer3", "layer4", "avgpool")
        assert (proposal.head, proposal.dimension) == ("fc", 512)

    def test_spreads_over_the_blocks_of_a_transformer(self) -> None:
        network = sketch("vit_b_16", TorchvisionProvider().source("torchvision:vit_b_16").weights)
        proposal = propose_cuts(network, torch.empty(2, 3, 224, 224, device="meta"))
        layers = [f"encoder.layers.encoder_layer_{n}" for n in (2, 5, 8)]
        assert proposal.cuts == (*layers, "encoder.ln", "pool")

    def test_a_network_without_a_single_tensor_inside_is_refused(self) -> None:
        with pytest.raises(InvalidValue, match="no single tensor"):
            propose_cuts(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), torch.rand(2, 3, 2, 2))
