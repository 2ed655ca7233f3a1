"""What follows from which figures, without any network."""

from dataclasses import replace
from typing import Any

from adapters.advise.curve import Curve
from adapters.advise.measurements import Baseline, Cut, Measurements
from adapters.advise.proposal import TechniqueProposal
from adapters.advise.rules import LEAST_REMOVED, Ruling, rule
from adapters.techniques import TECHNIQUES
from registry.statistics import Interval


def around(value: float, half: float = 0.03) -> Interval:
    return Interval(value, (value - half, value + half), "made", 200, 200, 200.0)


def undecided(value: float) -> Interval:
    return Interval(value, None, "made", 8, 8, 8.0, "8 examples, 10 are needed")


def cut(name: str, boundary: int, accuracy: float, lead: float = 0.0) -> Cut:
    return Cut(name, boundary, 32, 0.1, around(accuracy), around(lead))


HELPFUL = Measurements(
    source="a:source",
    data="pictures",
    modality="image",
    items=200,
    classes=10,
    rarest=20,
    typical=20,
    judged=200,
    cuts=(cut("low", 1, 0.7, -0.2), cut("middle", 2, 0.85, -0.05), cut("pool", 4, 0.9)),
    depths=3,
    layered=False,
    raw=Baseline(around(0.8), around(0.1), around(0.4)),
    random=Baseline(around(0.75), around(0.15), around(0.4)),
    zero_shot=None,
    curve=Curve((50, 100, 200), (0.8, 0.85, 0.9), around(0.05)),
    distance=None,
    seconds={},
)


def names(**changes: Any) -> list[str]:
    return [proposal.technique for proposal in rule(replace(HELPFUL, **changes)).proposals]


def test_a_rising_curve_asks_for_tuning() -> None:
    assert names()[:2] == ["lp-ft", "frozen"]


def test_few_items_of_a_class_ask_for_a_head_alone() -> None:
    assert names(typical=10, rarest=10)[0] == "frozen"
    assert rule(replace(HELPFUL, typical=2, rarest=2)).proposals[0].settings == {"head": "centroid"}


def test_few_texts_may_be_told_apart_in_pairs() -> None:
    assert names(typical=8, rarest=8, modality="text")[:2] == ["frozen", "contrastive"]


def test_a_flat_curve_asks_for_a_head_alone() -> None:
    flat = Curve((50, 100, 200), (0.9, 0.9, 0.9), around(0.005))
    assert names(curve=flat)[0] == "frozen"


def test_a_great_many_items_ask_for_full_retraining() -> None:
    assert names(items=20_000, typical=2000, rarest=2000)[0] == "full"


def test_a_transformer_with_a_rising_curve_gets_low_rank_updates() -> None:
    assert names(layered=True)[0] == "lora"


def test_only_techniques_that_exist_are_proposed() -> None:
    assert set(names(layered=True)) <= set(TECHNIQUES)


def test_a_source_no_better_than_raw_inputs_is_flagged() -> None:
    ruling = rule(replace(HELPFUL, raw=Baseline(around(0.9), around(0.0), around(0.02))))
    assert ruling.negative and ruling.proposals[0].technique == "scratch"
    assert "raw inputs" in ruling.reasons[0] and "90.0 %" in ruling.reasons[0]


def test_a_source_no_better_than_random_weights_is_flagged() -> None:
    ruling = rule(replace(HELPFUL, random=Baseline(around(0.89), around(0.01), around(LEAST_REMOVED - 0.02))))
    assert ruling.negative and ruling.proposals[0].technique == "full"
    assert "random weights" in ruling.reasons[0]


def test_a_helpful_source_is_not_flagged_and_its_figures_are_told() -> None:
    ruling = rule(HELPFUL)
    assert not ruling.negative
    assert (
        ruling.reasons[0].startswith("By squared error, the source helps.")
        and "90.0 % (87.0–93.0)" in ruling.reasons[0]
    )


def test_what_is_not_decidable_is_told_and_not_flagged() -> None:
    few = Baseline(around(0.8, 0.3), undecided(0.1), undecided(0.4))
    ruling = rule(replace(HELPFUL, raw=few, curve=Curve((8,), (0.9,), undecided(0.005))))
    assert not ruling.negative
    assert ruling.reasons[0].startswith(
        "Whether the source helps is not decidable: 8 examples, 10 are needed."
    )
    assert any("(not decidable)" in reason for reason in ruling.reasons)


def test_labels_that_the_source_knows_well_need_no_training() -> None:
    assert names(zero_shot=around(0.95))[0] == "as-is"
    assert "as-is" not in names(zero_shot=around(0.6))


def test_a_better_middle_is_said_and_what_lies_above_it_retrained() -> None:
    cuts = (cut("low", 1, 0.7, -0.1), cut("middle", 2, 0.95, 0.1), cut("pool", 4, 0.85))
    ruling = rule(replace(HELPFUL, cuts=cuts))
    assert any("after middle" in reason for reason in ruling.reasons)
    partial = next(proposal for proposal in ruling.proposals if proposal.technique == "partial")
    assert partial.depth == 1


def test_a_middle_that_beats_raw_inputs_is_a_way_out_of_a_bad_end() -> None:
    cuts = (cut("low", 1, 0.7, -0.1), cut("middle", 2, 0.95, 0.15), cut("pool", 4, 0.8))
    bad = Baseline(around(0.85), around(-0.05), around(-0.1))
    first, second = rule(replace(HELPFUL, cuts=cuts, raw=bad)).proposals[:2]
    assert first.technique == "scratch" and second == TechniqueProposal("layers")
    better = Baseline(around(0.97), around(-0.17), around(-0.3))
    assert rule(replace(HELPFUL, cuts=cuts, raw=better)).proposals[1].technique == "full"


def test_nothing_measured_still_makes_advice() -> None:
    bare = replace(HELPFUL, judged=0, rarest=1, typical=1, cuts=(), raw=None, random=None, curve=None)
    ruling: Ruling = rule(bare)
    assert ruling.proposals[0].settings == {"head": "centroid"} and not ruling.negative


def test_far_data_are_said_to_be_far() -> None:
    assert "far" in rule(replace(HELPFUL, distance=1.6)).reasons[-1]
    assert "near" in rule(replace(HELPFUL, distance=0.2)).reasons[-1]
