import io

import numpy as np
import pytest
from rich.console import Console

from adapters.datasets import TEST, TRAIN, VALIDATION, Dataset, load
from adapters.few_shot import LP_FT, SCRATCH, Contender, FewShotComparison, Protocol, Score, draw, measure
from adapters.sources.providers import find
from registry.digests import canonical_json
from registry.errors import DatasetError, InvalidValue

TINY = Protocol(
    shots=(1, 2),
    seeds=2,
    contenders=(
        Contender("scratch", ({"learning_rate": 0.05}, {"learning_rate": 0.1}), steps=4),
        Contender("frozen", ({"l2": 0.01}, {"l2": 0.1})),
    ),
)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("example:digits", find("bundled:glyphs").recipe)


@pytest.fixture(scope="module")
def comparison() -> FewShotComparison:
    return measure(TINY, processes=2)


def test_every_technique_is_measured_at_every_number_of_shots(comparison: FewShotComparison) -> None:
    places = [(score.technique, score.shots) for score in comparison.scores]
    assert places == [("scratch", 1), ("scratch", 2), ("frozen", 1), ("frozen", 2)]
    for score in comparison.scores:
        assert len(score.accuracies) == 2 and len(score.validation) == 2
        assert all(0 <= value <= 1 for value in (*score.accuracies, *score.validation))


def test_letters_help_with_digits(comparison: FewShotComparison) -> None:
    assert min(comparison.lead("frozen", "scratch", 2)) > 0.1
    assert comparison.score("frozen", 2).mean > 0.7


def test_the_winner_is_the_best_on_the_validation_part(comparison: FewShotComparison) -> None:
    for score in comparison.scores:
        contender = next(each for each in TINY.contenders if each.technique == score.technique)
        assert score.validation[contender.grid.index(score.chosen)] == max(score.validation)


def test_figures_do_not_depend_on_the_number_of_processes(comparison: FewShotComparison) -> None:
    assert measure(TINY, processes=1).to_json() == comparison.to_json()


def test_it_shows_figures_grids_and_what_was_chosen(comparison: FewShotComparison) -> None:
    console = Console(file=io.StringIO(), width=200)
    console.print(comparison)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert f"{100 * comparison.score('frozen', 2).mean:.1f} ±" in text
    assert "scratch, 4 steps: learning_rate 0.05; learning_rate 0.1; chosen" in text
    assert "2 trials for each technique" in text and "pictures as they are" in text
    assert canonical_json(comparison.to_json())


def test_a_draw_is_of_the_training_part_balanced_and_grows(digits: Dataset) -> None:
    few, more = draw(digits, 5, seed=3), draw(digits, 20, seed=3)
    assert set(few) < set(more) <= set(digits.index(TRAIN))
    assert np.array_equal(np.bincount(digits.targets(more)), np.full(10, 20))
    assert set(few) != set(draw(digits, 5, seed=4))
    assert not set(more) & set(digits.index(VALIDATION, TEST))


def test_a_lead_is_taken_seed_by_seed() -> None:
    scores = (Score("frozen", 1, {}, (), (0.9, 0.75)), Score("scratch", 1, {}, (), (0.65, 0.75)))
    assert FewShotComparison(TINY, scores, {}).lead("frozen", "scratch", 1) == (0.25, 0.0)
    with pytest.raises(InvalidValue, match="lp-ft at 1"):
        FewShotComparison(TINY, scores, {}).score("lp-ft", 1)


def test_a_step_is_a_step_however_few_the_examples() -> None:
    assert SCRATCH.settings(0, examples=10, augment=False)["epochs"] == SCRATCH.steps
    assert SCRATCH.settings(0, examples=500, augment=False)["epochs"] == -(-(SCRATCH.steps or 0) // 16)
    assert SCRATCH.settings(0, examples=10, augment=True)["augment"] is True


def test_uneven_grids_and_impossible_protocols_are_refused() -> None:
    with pytest.raises(InvalidValue, match="same number of trials"):
        Protocol(contenders=(SCRATCH, Contender("frozen", ({"l2": 1.0},))))
    with pytest.raises(InvalidValue, match="ascending"):
        Protocol(shots=(5, 1))
    with pytest.raises(InvalidValue, match="2 seeds"):
        Protocol(seeds=1)
    with pytest.raises(DatasetError, match="1000 training items of each class"):
        measure(Protocol(shots=(1000,), contenders=(LP_FT,)))
