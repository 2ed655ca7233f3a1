"""What every technique keeps to, whatever it does: subclass, and set ``name``."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, cast

import numpy as np
import pytest
import torch

from adapters.datasets import TEST, Dataset
from adapters.evaluation import measure
from adapters.features import tensors
from adapters.freezing import FreezeProof, tensor_digest
from adapters.sources.source import Source
from adapters.techniques import TECHNIQUES, Context, Fitted, Technique, technique
from registry.digests import canonical_json
from registry.errors import DatasetError, InvalidSetting
from tests.adapters.tiny import TinySource
from tests.adapters.tiny_text import TinyTextSource

CPU = torch.device("cpu")


class TechniqueContract:
    """Inherit, set ``name``, and override what differs."""

    name: ClassVar[str]
    settings: ClassVar[Mapping[str, Any]] = {}
    accuracy: ClassVar[float | None] = 0.8
    """What it has to reach on data that anything can learn; None where it learns nothing."""

    @pytest.fixture(scope="class")
    @classmethod
    def source(cls) -> Source:
        return TinySource()

    @pytest.fixture(scope="class")
    @classmethod
    def dataset(cls, shapes_data: Dataset) -> Dataset:
        return shapes_data

    @pytest.fixture(scope="class")
    @classmethod
    def fitted(cls, source: Source, dataset: Dataset) -> Fitted:
        return cls.technique().fit(source, dataset, Context(seed=3, device=CPU))

    def moves(self, parameter: torch.Tensor) -> bool:
        """Say whether a parameter of a stage that is not frozen is expected to move."""
        return True

    @classmethod
    def technique(cls) -> Technique:
        return technique(cls.name, cls.settings)

    def test_it_is_found_by_its_name(self) -> None:
        assert type(self.technique()) is TECHNIQUES[self.name]

    def test_an_unknown_setting_is_refused(self) -> None:
        with pytest.raises(InvalidSetting, match="no setting 'momentums'"):
            technique(self.name, {"momentums": 1})

    def test_the_same_seed_gives_the_same_network(
        self, source: Source, dataset: Dataset, fitted: Fitted
    ) -> None:
        again = self.technique().fit(source, dataset, Context(seed=3, device=CPU))
        assert _tensors(again) == _tensors(fitted)
        assert again.config == fitted.config and again.history == fitted.history

    def test_frozen_stages_are_the_sources_bit_for_bit(self, source: Source, fitted: Fitted) -> None:
        assert FreezeProof.of(fitted.stages, fitted.frozen) == FreezeProof.of(source.load(), fitted.frozen)

    def test_stages_that_are_not_frozen_have_moved(self, source: Source, fitted: Fitted) -> None:
        original = source.load()
        for k in range(fitted.frozen, len(original)):
            pairs = zip(original.stages[k].parameters(), fitted.stages.stages[k].parameters(), strict=True)
            for before, after in pairs:
                assert torch.equal(before, after) != self.moves(before)

    def test_the_result_is_in_eval_mode_and_float32_on_the_cpu(self, fitted: Fitted) -> None:
        parts = [fitted.stages.stages] + ([] if fitted.head is None else [fitted.head])
        for part in parts:
            assert not any(module.training for module in part.modules())
            for parameter in part.parameters():
                assert parameter.dtype == torch.float32 and parameter.device == CPU

    def test_train_never_reaches_a_frozen_stage(self, source: Source, dataset: Dataset) -> None:
        fitted = self.technique().fit(source, dataset, Context(seed=3, device=CPU))
        stages = fitted.stages
        stages.train()
        for stage in stages.stages[: fitted.frozen]:
            assert not any(module.training for module in stage.modules())

    def test_logits_have_a_column_for_each_label(self, dataset: Dataset, fitted: Fitted) -> None:
        fields = _fields(dataset, np.arange(5))
        assert fitted.features(fields).shape == (5, _width(fitted))
        if fitted.head is not None:
            assert fitted.logits(fields).shape == (5, len(fitted.labels))

    def test_a_linear_head_shows_its_weights(self, fitted: Fitted) -> None:
        if isinstance(fitted.head, torch.nn.Linear):
            assert fitted.weight is not None and fitted.bias is not None
            assert fitted.weight.shape == (len(fitted.labels), _width(fitted))
            assert fitted.bias.shape == (len(fitted.labels),)

    def test_the_config_in_force_is_plain_and_builds_the_technique_again(self, fitted: Fitted) -> None:
        canonical_json(dict(fitted.config))
        technique(self.name, fitted.config)

    def test_the_global_generators_are_left_alone(self, source: Source, dataset: Dataset) -> None:
        before, legacy = torch.random.get_rng_state(), str(np.random.get_state())
        self.technique().fit(source, dataset, Context(seed=3, device=CPU))
        assert torch.equal(torch.random.get_rng_state(), before)
        assert str(np.random.get_state()) == legacy

    def test_it_learns(self, dataset: Dataset, fitted: Fitted) -> None:
        if self.accuracy is None:
            return
        index = dataset.index(TEST)
        logits = fitted.logits(_fields(dataset, index)).numpy()
        figures = measure(logits, dataset.targets(index, fitted.labels), fitted.labels)
        assert cast(float, figures["accuracy"]) >= self.accuracy

    def test_data_without_labels_is_refused_where_labels_are_needed(
        self, source: Source, dataset: Dataset
    ) -> None:
        bare = replace(dataset, labels=(), items=tuple(replace(item, label=None) for item in dataset.items))
        if not self.technique().labelled:
            assert self.technique().fit(source, bare, Context(device=CPU)).labels == ()
        elif self.accuracy is not None:
            with pytest.raises(DatasetError, match="labels"):
                self.technique().fit(source, bare, Context(device=CPU))


class OnTexts(TechniqueContract):
    """The same on texts: inherit from it and the class that names the technique."""

    @pytest.fixture(scope="class")
    @classmethod
    def source(cls) -> Source:
        return TinyTextSource()

    @pytest.fixture(scope="class")
    @classmethod
    def dataset(cls, moods_data: Dataset) -> Dataset:
        return moods_data


def _fields(dataset: Dataset, index: np.ndarray) -> dict[str, torch.Tensor]:
    return tensors(dataset.rows.batch(index), CPU)


def _width(fitted: Fitted) -> int:
    """Return how long a feature vector is: as wide as what is tapped, together."""
    if not fitted.taps:
        return fitted.stages.features_dim
    shapes = [fitted.stages.shapes()[boundary - 1] for boundary in fitted.taps]
    return sum(shape[0] if len(shape) == 3 else shape[-1] for shape in shapes)


def _tensors(fitted: Fitted) -> list[str]:
    modules = [fitted.stages.stages] + ([] if fitted.head is None else [fitted.head])
    return [tensor_digest(tensor) for module in modules for tensor in module.state_dict().values()]
