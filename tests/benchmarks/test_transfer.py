"""What the benchmark of transfer says of figures: on figures made by hand."""

from collections.abc import Mapping, Sequence

import pytest

from benchmarks.transfer import (
    BEST,
    CYRILLIC,
    DIGITS,
    FULL,
    QUARTERS,
    RAW,
    SCRATCH,
    SHUFFLED,
    STUDIES,
    Found,
    Study,
    Way,
)

SHOTS = (5, 10, 20)
DRAWS = (-0.01, 0.0, 0.01)


def found(**changed: Sequence[float]) -> Found:
    """Return figures that show all that is claimed, but for those that are changed."""
    curves: Mapping[Way, Sequence[float]] = {
        BEST: (0.9, 0.95, 0.97),
        SCRATCH: (0.6, 0.8, 0.9),
        RAW: (0.7, 0.8, 0.85),
        FULL: (0.8, 0.9, 0.99),
        SHUFFLED: (0.5, 0.6, 0.7),
        Way("shuffled", QUARTERS): (0.7, 0.8, 0.9),
        Way("shuffled", "layers"): (0.7, 0.8, 0.9),
    }
    names = {"best": BEST, "scratch": SCRATCH, "full": FULL, "shuffled": SHUFFLED}
    curves = {**curves, **{names[name]: curve for name, curve in changed.items()}}
    return Found(
        {
            way: {
                number: [value + draw for draw in DRAWS]
                for number, value in zip(SHOTS, curves.get(way, (0.8, 0.9, 0.95)), strict=True)
            }
            for way in {**DIGITS.ways, **CYRILLIC.ways}
        }
    )


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_claims_hold_where_they_show(study: Study) -> None:
    assert all(study.claims(found()).values())


@pytest.mark.parametrize(
    ("changed", "claim"),
    [
        ({"scratch": (0.6, 0.92, 0.93)}, "frozen leads scratch"),
        ({"full": (0.95, 0.96, 0.99)}, "frozen is ahead of full fine-tuning at 5"),
        ({"full": (0.8, 0.9, 0.96)}, "full or lp-ft is ahead"),
        ({"scratch": (0.85, 0.91, 0.92)}, "5 labels on the trunk"),
        ({"shuffled": (0.5, 0.6, 0.86)}, "shuffled labels are flagged"),
        ({"shuffled": (0.5, 0.6, 0.9)}, "the middle cut of shuffled"),
        ({"scratch": (0.6, 0.8, 0.96)}, "10 labels on the trunk"),
        ({"shuffled": (0.75, 0.6, 0.7)}, "layers chosen from shuffled labels"),
        ({"best": (0.65, 0.95, 0.97)}, "letters are above raw"),
    ],
)
def test_a_claim_that_does_not_show_is_said_not_to(changed: dict[str, Sequence[float]], claim: str) -> None:
    verdicts = DIGITS.claims(found(**changed))
    (words,) = [each for each in verdicts if each.startswith(claim)]
    assert not verdicts[words]


@pytest.mark.parametrize(
    ("changed", "claim"),
    [
        ({"full": (0.9, 0.95, 0.99)}, "frozen is ahead of full fine-tuning at 5"),
        ({"full": (0.8, 0.9, 0.97)}, "full or lp-ft is ahead of frozen at 20"),
        ({"scratch": (0.6, 0.8, 0.98)}, "frozen is ahead of scratch"),
        ({"best": (0.65, 0.95, 0.97)}, "letters are above raw"),
    ],
)
def test_what_does_not_show_on_cyrillic_is_said_not_to(
    changed: dict[str, Sequence[float]], claim: str
) -> None:
    verdicts = CYRILLIC.claims(found(**changed))
    (words,) = [each for each in verdicts if each.startswith(claim)]
    assert not verdicts[words]


def test_labels_are_worth_what_scratch_needs_for_the_same() -> None:
    assert found().worth(BEST, SCRATCH, 5) == pytest.approx(4)


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_every_way_is_measured_on_every_draw_and_shots_are_those_that_were_measured(study: Study) -> None:
    measured = study.cells(SHOTS, 2)
    assert len(measured) == 2 * len(SHOTS) * len(study.ways)
    gained = Found.gathered(measured, [cell.seed / 10 for _, cell in measured])
    assert gained.shots == SHOTS
    assert all(gained.accuracies[way][5] == [0.0, 0.1] for way in study.ways)


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_tables_have_a_row_for_every_way(study: Study) -> None:
    text = "\n".join(study.lines(found()))
    assert all(f"| {way} |" in text for way in study.ways)
