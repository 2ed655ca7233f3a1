"""What every reference keeps: subclass, and give a ``source`` fixture whose weights are at hand."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
import torch

from adapters.sources.agreement import verify
from adapters.sources.normalisation import Normalisation
from adapters.sources.probes import COUNT, probes_for
from adapters.sources.reference import Reference
from adapters.sources.source import Source
from adapters.sources.stages import Stages
from registry.errors import SourceDiffers
from registry.recipe import ImageRecipe, TextRecipe


@dataclass(frozen=True, kw_only=True)
class Moved(Source):
    """A source whose weights are a little off those of another."""

    base: Source

    @classmethod
    def of(cls, base: Source) -> "Moved":
        return cls(base=base, **{each.name: getattr(base, each.name) for each in fields(Source)})

    def weights_at_hand(self) -> bool:
        return True

    def load(self, seed: int | None = None) -> Stages:
        stages = self.base.load(seed)
        with torch.no_grad():
            for parameter in stages.stages[0].parameters():
                parameter.mul_(1.5)
        return stages


def reference_of(source: Source) -> Reference:
    reference = source.reference()
    assert reference is not None
    return reference


class ReferenceContract(ABC):
    @pytest.fixture
    @abstractmethod
    def source(self) -> Source:
        """The source under test, small, its weights at hand."""

    def test_the_source_agrees_with_it(self, source: Source) -> None:
        verified = verify(source, reference_of(source))
        assert (verified.probes, verified.runs) == (COUNT, COUNT)
        prepared = "tokens" if source.modality == "text" else "pixels"
        names = {prepared, "features", *(("logits",) if source.labels else ())}
        assert set(verified.max_abs_difference) == set(verified.tolerance) == names
        assert all(verified.max_abs_difference[name] <= verified.tolerance[name] for name in names)

    def test_names_its_files_and_libraries(self, source: Source) -> None:
        reference = reference_of(source)
        assert reference.files()
        assert all(file.is_file() for file in reference.files())
        assert reference.libraries
        assert reference.levels in (0, 1)

    def test_an_input_is_answered_alone_as_with_others(self, source: Source) -> None:
        first, second = (probe.given for probe in probes_for(source.recipe)[:2])
        together = reference_of(source).run([first, second])
        alone = reference_of(source).run([second])
        assert set(together) == set(alone) == {"features", *(("logits",) if source.labels else ())}
        for name, values in together.items():
            assert values.dtype == np.float32
            np.testing.assert_allclose(values[1:], alone[name], rtol=0, atol=1e-6)

    def test_another_recipe_is_refused(self, source: Source) -> None:
        recipe = source.recipe
        if isinstance(recipe, TextRecipe):
            length = recipe.max_length - 1
            other = replace(recipe, max_length=length, buckets=TextRecipe.buckets_for(length))
            with pytest.raises(SourceDiffers, match="input_ids of the probe"):
                verify(replace(source, recipe=other), reference_of(source))
            return
        assert isinstance(recipe, ImageRecipe)
        filters = replace(recipe, interpolation="box" if recipe.interpolation == "nearest" else "nearest")
        with pytest.raises(SourceDiffers, match="pixels of the probe"):
            verify(replace(source, recipe=filters), reference_of(source))

    def test_another_normalisation_is_refused(self, source: Source) -> None:
        if source.normalisation is None:
            pytest.skip("texts are not normalised")
        mean, std = source.normalisation.mean, source.normalisation.std
        for other in (Normalisation(mean, tuple(2 * x for x in std)), Normalisation((0.9, *mean[1:]), std)):
            with pytest.raises(SourceDiffers, match="grey levels"):
                verify(replace(source, normalisation=other), reference_of(source))

    def test_other_weights_are_refused(self, source: Source) -> None:
        with pytest.raises(SourceDiffers, match="features of the probe"):
            verify(Moved.of(source), reference_of(source))
