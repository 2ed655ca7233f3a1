"""What every source keeps: subclass, and give a ``source`` fixture."""

from abc import ABC, abstractmethod

import pytest
import torch

from adapters.export import export
from adapters.sources.source import Source
from adapters.sources.weights import stage_weights_digest
from registry.digests import Digest


def pixels_for(source: Source, rows: int = 2) -> torch.Tensor:
    """Return random pixels, uint8 [rows, smallest, smallest, channels]."""
    generator = torch.Generator().manual_seed(1)
    shape = (rows, source.smallest, source.smallest, source.normalisation.channels)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


class SourceContract(ABC):
    @pytest.fixture
    @abstractmethod
    def source(self) -> Source:
        """The source under test, small enough to load in a second or two."""

    def test_says_what_it_is(self, source: Source) -> None:
        scheme, colon, model = source.spec.partition(":")
        assert scheme and colon and model
        assert source.modality == source.recipe.modality
        assert len(set(source.labels)) == len(source.labels)
        assert source.recipe.fields[0].shape[-1] == source.normalisation.channels
        assert source.recipe.fields[0].shape[1:3] == source.input_size
        assert source.smallest <= min(source.input_size)

    def test_stages_are_its_cuts_and_leave_features(self, source: Source) -> None:
        stages = source.load(seed=0)
        assert stages.names == source.cuts
        assert stages.input_size == source.input_size
        assert stages.normalisation == source.normalisation
        with torch.no_grad():
            features = stages(pixels_for(source))
        assert features.shape == (2, source.dimension)
        assert features.dtype == torch.float32
        assert torch.isfinite(features).all()

    def test_its_own_head_has_a_logit_for_each_label(self, source: Source) -> None:
        stages = source.load(seed=0)
        if stages.head is None:
            assert not source.labels
            return
        with torch.no_grad():
            assert stages.logits(pixels_for(source)).shape == (2, len(source.labels))

    def test_loads_in_eval_mode_on_the_cpu(self, source: Source) -> None:
        stages = source.load(seed=0)
        assert not any(module.training for module in stages.modules())
        assert {parameter.device.type for parameter in stages.parameters()} == {"cpu"}

    def test_random_weights_follow_the_seed_alone(self, source: Source) -> None:
        torch.manual_seed(5)
        before = torch.random.get_rng_state()
        first, again, other = (_digests(source, seed) for seed in (3, 3, 4))
        assert first == again
        assert first != other
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_a_stage_run_from_a_cached_tensor_leaves_it_as_it_was(self, source: Source) -> None:
        stages = source.load(seed=0)
        stages.train()
        value = pixels_for(source, rows=4)
        with torch.no_grad():
            for stage in stages.stages:
                kept = value.clone()
                following = stage(value)
                assert torch.equal(value, kept)
                value = following

    def test_its_last_weighty_stage_can_be_retrained_alone(self, source: Source) -> None:
        stages = source.load(seed=0)
        k = stages.depths()[0]
        split = stages.split(k)
        split.lower.train()
        assert not any(module.training for module in split.lower.modules())
        split.upper(split.lower(pixels_for(source))).sum().backward()
        assert all(parameter.grad is None for parameter in split.lower.parameters())
        assert any(parameter.grad is not None for parameter in split.upper.parameters())

    def test_exports(self, source: Source) -> None:
        stages = source.load(seed=0)
        stages.input_size = (source.smallest, source.smallest)
        segments = export(stages, first=len(stages) - 1)
        assert [segment.name for segment in segments] == [source.cuts[-1]]
        assert segments[-1].outputs == ("features",)


def _digests(source: Source, seed: int) -> list[Digest]:
    stages = source.load(seed=seed)
    return [stage_weights_digest(stages, k) for k in range(len(stages))]
