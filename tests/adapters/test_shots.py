"""The comparison by the number of labels: whole, repeatable, and blind to the test part."""

from dataclasses import replace

import numpy as np
import pytest

from adapters import shots
from adapters.datasets import TEST, Dataset
from adapters.shots import Comparison, Contender, Protocol, compare
from registry.errors import DatasetError
from tests.adapters.tiny import TinySource

SMALL = Protocol(
    shots=(1, 4),
    seeds=(0, 1),
    pool=30,
    steps=6,
    contenders=(
        Contender("scratch", ({"learning_rate": 0.05}, {"learning_rate": 0.1})),
        Contender("frozen", ({"l2": 0.1}, {"l2": 1.0})),
    ),
)


@pytest.fixture(scope="module")
def comparison(shapes_data: Dataset) -> Comparison:
    return compare(TinySource(), shapes_data, SMALL)


def test_every_technique_is_measured_at_every_number_of_shots(comparison: Comparison) -> None:
    assert [(cell.technique, cell.shots) for cell in comparison.cells] == [
        ("scratch", 1),
        ("scratch", 4),
        ("frozen", 1),
        ("frozen", 4),
    ]
    for cell in comparison.cells:
        assert len(cell.accuracies) == 2
        assert all(0 <= accuracy <= 1 for accuracy in cell.accuracies)
        assert cell.chosen in next(each.grid for each in SMALL.contenders if each.name == cell.technique)


def test_it_can_be_repeated(comparison: Comparison, shapes_data: Dataset) -> None:
    assert compare(TinySource(), shapes_data, SMALL).to_json() == comparison.to_json()


def test_choices_do_not_see_the_test_part(shapes_data: Dataset) -> None:
    pool, draws = shots._set_aside(shapes_data, SMALL)
    assert not set(pool) & set(draws)
    assert not set(shapes_data.index(TEST)) & (set(pool) | set(draws))
    drawn = shots._draw(shapes_data, draws, 4, seed=1)
    assert np.bincount(shapes_data.targets(drawn)).tolist() == [4, 4, 4]


def test_every_technique_gets_as_many_trials() -> None:
    with pytest.raises(ValueError, match="same number of trials"):
        replace(SMALL, contenders=(SMALL.contenders[0], Contender("frozen", ({},))))


def test_too_few_items_are_an_error(shapes_data: Dataset) -> None:
    with pytest.raises(DatasetError, match="40 training items of each class"):
        compare(TinySource(), shapes_data, replace(SMALL, shots=(40,)))


def test_the_table_is_plain_json(comparison: Comparison) -> None:
    document = comparison.to_json()
    assert document["grids"] == {
        "scratch": [{"learning_rate": 0.05}, {"learning_rate": 0.1}],
        "frozen": [{"l2": 0.1}, {"l2": 1.0}],
    }
