"""Any stage leaves one vector: the mean over places of a map, or over the tokens that count."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from adapters.readout import Layout, Pool, layouts, readout
from adapters.sources.normalisation import Normalisation
from adapters.sources.stages import Stages
from tests.adapters.tiny import TinySource
from tests.adapters.tiny_text import TinyTextSource


class Leave(nn.Module):
    """Leaves zeros of one shape."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(value), *self.shape)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((16,), "vector"),
        ((5, 16), "tokens"),
        ((16, 7, 7), "channels-first"),
        ((7, 7, 16), "channels-last"),
        ((16, 7, 5), "channels-first"),
        ((7, 7, 7), "channels-first"),
        ((512, 1, 1), "channels-first"),
    ],
)
def test_the_layout_is_read_off_the_shape(shape: tuple[int, ...], layout: Layout) -> None:
    stages = Stages(
        "shapes",
        OrderedDict[str, nn.Module](first=Leave(*shape), last=Leave(3)),
        features_dim=3,
        input_size=(4, 4),
        normalisation=Normalisation.of([0.5], [0.5]),
    )
    assert layouts(stages) == (layout, "vector")


def test_layouts_of_pictures_and_of_texts() -> None:
    assert layouts(TinySource().load()) == ("channels-first", "channels-first", "vector")
    assert layouts(TinyTextSource().load()) == ("tokens", "tokens", "tokens", "vector")


@pytest.mark.parametrize(
    ("layout", "shape", "axes"),
    [
        ("tokens", (2, 5, 3), (1,)),
        ("channels-first", (2, 3, 4, 4), (2, 3)),
        ("channels-last", (2, 4, 4, 3), (1, 2)),
    ],
)
def test_a_pool_averages_over_places(layout: Layout, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    value = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Pool(layout)(value), value.mean(axes))
    assert Pool(layout)(value).shape == (2, 3)


def test_a_vector_is_left_as_it_is() -> None:
    value = torch.arange(6.0).reshape(2, 3)
    assert Pool("vector", masked=True)(value) is value


def test_tokens_that_a_mask_leaves_out_do_not_count() -> None:
    value = torch.tensor([[[1.0], [3.0], [100.0]], [[2.0], [50.0], [50.0]]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert Pool("tokens", masked=True)(value, mask).tolist() == [[2.0], [2.0]]


def test_a_text_without_a_token_has_zeros() -> None:
    means = Pool("tokens", masked=True)(torch.ones(1, 3, 2), torch.zeros(1, 3, dtype=torch.int64))
    assert means.tolist() == [[0.0, 0.0]]


def test_several_means_stand_one_behind_the_other() -> None:
    stages = TinyTextSource().load()
    fields = stages.example()
    with torch.no_grad():
        low = stages.run(fields["input_ids"], stop=2, sides=fields)
        pooled = stages.run(low, 2, sides=fields)
    together = readout(stages, [2, 4])
    assert together.masked
    found = together(low, pooled, fields["attention_mask"])
    torch.testing.assert_close(found, torch.cat([low.mean(1), pooled], dim=1))


def test_only_tokens_ask_for_a_mask() -> None:
    assert not readout(TinyTextSource().load(), [4]).masked
    assert not readout(TinySource().load(), [1, 3]).masked
