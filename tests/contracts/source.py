"""What every source keeps: subclass, and give a ``source`` fixture."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor

from adapters.export import export
from adapters.sources.source import Source
from adapters.sources.stages import CARRIED, Stages
from adapters.sources.weights import stage_weights_digest
from registry.digests import Digest
from registry.recipe import TextRecipe
from registry.runtime import Session
from registry.segments import Node, merge

LENGTH = 7
"""Tokens of a text, where it does not matter how many."""


def fields_for(source: Source, rows: int = 2, length: int = LENGTH) -> dict[str, Tensor]:
    """Return a batch as the recipe would prepare it, of random content.

    Pictures are of the smallest size; texts have ``length`` tokens of the vocabulary, and no padding.
    """
    generator = torch.Generator().manual_seed(1)
    recipe = source.recipe
    if isinstance(recipe, TextRecipe):
        words = Tokenizer.from_str(recipe.tokenizer).get_vocab_size()
        fields = {
            "input_ids": torch.randint(0, words, (rows, length), generator=generator),
            "attention_mask": torch.ones(rows, length, dtype=torch.int64),
            "token_type_ids": torch.arange(length).ge(length // 2).to(torch.int64).expand(rows, length),
        }
        return {spec.name: fields[spec.name] for spec in recipe.fields}
    channels = recipe.fields[0].shape[-1]
    assert isinstance(channels, int)
    shape = (rows, source.smallest, source.smallest, channels)
    return {"pixels": torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)}


def small(source: Source) -> Stages:
    """Return the network with random weights, for pictures of the smallest size."""
    stages = source.load(seed=0)
    if source.input_size:
        stages.input_size = (source.smallest, source.smallest)
    return stages


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
        assert source.norm in ("none", "l2")
        if source.modality == "text":
            assert source.recipe.fields[0].name == "input_ids"
            assert (source.normalisation, source.input_size, source.smallest) == (None, (), 1)
        else:
            assert source.normalisation is not None
            assert source.recipe.fields[0].shape[-1] == source.normalisation.channels
            assert source.recipe.fields[0].shape[1:3] == source.input_size
            assert source.smallest <= min(source.input_size)

    def test_stages_are_its_cuts_and_leave_features(self, source: Source) -> None:
        stages = source.load(seed=0)
        assert stages.names == source.cuts
        assert stages.inputs == source.recipe.fields
        assert stages.input_size == source.input_size
        assert stages.normalisation == source.normalisation
        with torch.no_grad():
            features = stages(fields_for(source))
        assert features.shape == (2, source.dimension)
        assert features.dtype == torch.float32
        assert torch.isfinite(features).all()
        if source.norm == "l2":
            torch.testing.assert_close(features.norm(dim=1), torch.ones(2))

    def test_its_own_head_has_a_logit_for_each_label(self, source: Source) -> None:
        stages = source.load(seed=0)
        if stages.head is None:
            assert not source.labels
            return
        with torch.no_grad():
            assert stages.logits(fields_for(source)).shape == (2, len(source.labels))

    def test_loads_in_eval_mode_on_the_cpu(self, source: Source) -> None:
        stages = source.load(seed=0)
        assert not any(module.training for module in stages.modules())
        assert {parameter.device.type for parameter in stages.parameters()} <= {"cpu"}
        assert {parameter.dtype for parameter in stages.parameters()} == {torch.float32}

    def test_random_weights_follow_the_seed_alone(self, source: Source) -> None:
        torch.manual_seed(5)
        before = torch.random.get_rng_state()
        first, again, other = (_digests(source, seed) for seed in (3, 3, 4))
        assert first == again
        assert first != other
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_no_weight_belongs_to_two_stages(self, source: Source) -> None:
        stages = source.load(seed=0)
        counts = [len(list(stage.parameters())) for stage in stages.stages]
        assert len({id(parameter) for parameter in stages.stages.parameters()}) == sum(counts)

    def test_a_stage_run_from_a_cached_tensor_leaves_it_as_it_was(self, source: Source) -> None:
        stages = source.load(seed=0)
        stages.train()
        fields = fields_for(source, rows=4)
        value = fields[stages.entry]
        with torch.no_grad():
            for k in range(len(stages)):
                kept = value.clone()
                following = stages.run(value, k, k + 1, sides=fields)
                assert torch.equal(value, kept)
                value = following

    def test_its_last_weighty_stage_can_be_retrained_alone(self, source: Source) -> None:
        stages = source.load(seed=0)
        k = stages.depths()[0]
        split = stages.split(k)
        split.lower.train()
        assert not any(module.training for module in split.lower.modules())
        fields = fields_for(source)
        (split.upper(fields | {CARRIED: split.lower(fields)}) ** 3).sum().backward()
        assert all(parameter.grad is None for parameter in split.lower.parameters())
        assert any(parameter.grad is not None for parameter in split.upper.parameters())

    def test_exports_what_torch_computes(self, source: Source) -> None:
        stages = small(source)
        segments = export(stages)
        assert tuple(segment.name for segment in segments) == source.cuts
        assert segments[-1].outputs == ("features",)
        nodes = [Node(segment.name, segment.model, segment.inputs) for segment in segments]
        session = Session(merge(nodes, {"features": f"{source.cuts[-1]}:features"}), threads=1)
        # Traced with two rows of eight tokens; pictures have no length.
        for rows, length in ((1, 3), (3, 12)):
            fields = fields_for(source, rows, length)
            with torch.no_grad():
                expected = stages(fields).numpy()
            scale = max(1.0, float(np.abs(expected).max()))
            found = session.run(_arrays(fields))["features"]
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * scale)

    def test_padding_changes_nothing(self, source: Source) -> None:
        if not isinstance(source.recipe, TextRecipe):
            pytest.skip("pictures are never padded")
        stages = source.load(seed=0)
        fields = fields_for(source)
        padded = {
            name: torch.nn.functional.pad(
                value, (0, 6), value=source.recipe.pad_id if name == "input_ids" else 0
            )
            for name, value in fields.items()
        }
        with torch.no_grad():
            torch.testing.assert_close(stages(padded), stages(fields), rtol=0, atol=1e-5)

    def test_a_text_without_a_token_has_finite_features(self, source: Source) -> None:
        if not isinstance(source.recipe, TextRecipe):
            pytest.skip("every picture has pixels")
        nothing = fields_for(source)
        nothing["attention_mask"] = torch.zeros_like(nothing["attention_mask"])
        with torch.no_grad():
            assert torch.isfinite(source.load(seed=0)(nothing)).all()


def _arrays(fields: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in fields.items()}


def _digests(source: Source, seed: int) -> list[Digest]:
    stages = source.load(seed=seed)
    return [stage_weights_digest(stages, k) for k in range(len(stages))]
