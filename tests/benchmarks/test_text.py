"""What the benchmark of texts says of figures: on figures made by hand."""

import pytest

from benchmarks.text import AVERAGED, COUNTED, NEAREST, PAIRED, PLAIN, SOLVED, WAYS, Found, cells

DRAWS = (-0.01, 0.0, 0.01)


def found(counted: tuple[float, float, float] = (0.2, 0.3, 0.4)) -> Found:
    curves = {
        PLAIN: (0.15, 0.2, 0.3),
        COUNTED: counted,
        AVERAGED: (0.3, 0.35, 0.4),
        SOLVED: (0.4, 0.5, 0.6),
        NEAREST: (0.4, 0.5, 0.5),
    }
    accuracies = {
        way: {
            number: [value + draw for draw in DRAWS] for number, value in zip((2, 4, 20), curve, strict=True)
        }
        for way, curve in curves.items()
    }
    return Found({**accuracies, PAIRED: {4: [0.52]}})


def test_claims_hold_where_they_show() -> None:
    assert all(found().verdicts().values())


def test_a_claim_that_does_not_show_is_said_not_to() -> None:
    assert list(found((0.2, 0.3, 0.5)).verdicts().values()) == [True, True, True, False]
    assert list(found((0.4, 0.3, 0.4)).verdicts().values()) == [True, True, False, True]


def test_labels_are_worth_what_counting_needs_for_the_same() -> None:
    assert found().worth(SOLVED, COUNTED, 2) == pytest.approx(10)
    assert "over 5.0" in "\n".join(found().lines())


def test_a_way_with_fewer_draws_is_compared_on_those() -> None:
    assert found().lead(PAIRED, SOLVED, 4).value == pytest.approx(0.52 - 0.49)
    assert "+3.0 (one draw)" in "\n".join(found().lines())


def test_pairs_are_trained_at_one_number_of_shots_only() -> None:
    measured = cells((2, 4), 3, 2)
    assert [cell.shots for way, cell in measured if way == PAIRED] == [4, 4]
    assert len(measured) == 3 * 2 * (len(WAYS) - 1) + 2
    assert Found.gathered(measured, [0.5] * len(measured)).shots == (2, 4)
    assert PAIRED not in {way for way, _ in cells((2, 8), 3, 2)}
