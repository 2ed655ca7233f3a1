"""What is taken of two candidates, by what they cost and by what trials show; trials are made of known figures."""

from collections.abc import Sequence

import numpy as np
import pytest

from adapters.advise.cost import Cost
from adapters.advise.decision import (
    MOST_TRIAL_MINUTES,
    Decision,
    Pair,
    Preference,
    compare,
    decide,
    shortlist,
)
from adapters.advise.proposal import TechniqueProposal
from adapters.advise.trial import Ground, Trial
from registry.progress import SILENT, ProgressStep

FROZEN, TUNED = TechniqueProposal("frozen"), TechniqueProposal("lp-ft", retrained=3)
WHERE = Ground(np.arange(300), np.arange(300, 400))
CHEAP, DEAR = Cost(fit=6.0, rest=12.0, trial=1.0), Cost(fit=588.0, rest=12.0, trial=90.0, at_most=True)


def trial(
    proposal: TechniqueProposal,
    wrong: Sequence[int],
    error: float = 0.3,
    count: int = 100,
    groups: int | None = None,
) -> Trial:
    """Return a trial that is wrong on some examples."""
    right = np.ones(count, bool)
    right[list(wrong)] = False
    noise = np.random.default_rng(len(wrong)).uniform(0.9, 1.1, count)
    together = None if groups is None else np.arange(count) % groups
    return Trial(proposal, right, error * noise, 1.0, together)


def pair(
    costs: tuple[Cost, Cost] = (CHEAP, DEAR),
    prefer: Preference = Preference.COST,
    first: TechniqueProposal = FROZEN,
    second: TechniqueProposal = TUNED,
) -> Pair:
    return Pair(first, second, costs, prefer)


class Trials:
    """Makes the trials that it is given, and knows which were made."""

    def __init__(self, *trials: Trial) -> None:
        self.trials = {each.proposal.technique: each for each in trials}
        self.made: list[str] = []

    def __call__(self, proposal: TechniqueProposal, step: ProgressStep) -> Trial:
        self.made.append(proposal.technique)
        return self.trials[proposal.technique]

    def decide(self, choice: Pair) -> Decision:
        return decide(choice, WHERE, self, SILENT)


def test_points_that_the_interval_does_not_show_are_not_worth_minutes() -> None:
    trials = Trials(trial(FROZEN, range(12)), trial(TUNED, range(10), error=0.1))
    found = trials.decide(pair())
    assert found.proposal is FROZEN and trials.made == ["frozen", "lp-ft"]
    (reason,) = found.reasons
    assert "By accuracy, lp-ft is +2.0 points (" in reason and "the interval holds 0" in reason
    assert "lp-ft would take up to 10 minutes instead of 0.3 minutes." in reason
    assert reason.endswith("Taken: frozen.")


def test_a_dearer_one_that_is_better_by_more_than_the_interval_is_taken() -> None:
    found = Trials(trial(FROZEN, range(30)), trial(TUNED, range(10))).decide(pair())
    assert found.proposal is TUNED
    assert "+20.0 points" in found.reasons[0] and "more than the interval" in found.reasons[0]
    assert "10 minutes instead of 0.3" in found.reasons[0]


def test_the_rules_order_does_not_make_a_dear_one_cheap() -> None:
    trials = Trials(trial(FROZEN, range(12)), trial(TUNED, range(10)))
    found = trials.decide(pair((DEAR, CHEAP), first=TUNED, second=FROZEN))
    assert found.proposal is FROZEN and trials.made == ["frozen", "lp-ft"], "the cheap one is tried first"


def test_where_accuracy_is_preferred_minutes_do_not_count() -> None:
    trials = Trials(trial(FROZEN, range(12)), trial(TUNED, range(10)))
    found = trials.decide(pair(prefer=Preference.ACCURACY))
    assert found.proposal is TUNED and "accuracy is preferred" in found.reasons[0]
    assert "minutes" not in found.reasons[0]


def test_a_dear_trial_that_could_show_nothing_is_not_made() -> None:
    trials = Trials(trial(FROZEN, range(3)), trial(TUNED, []))
    found = trials.decide(pair())
    assert found.proposal is FROZEN and trials.made == ["frozen"]
    assert "wrong on 3 of 100" in found.reasons[0] and "it was not tried" in found.reasons[0]
    assert "10 minutes instead of 0.3 minutes" in found.reasons[0]
    once_more = Trials(trial(FROZEN, range(4)), trial(TUNED, []))
    once_more.decide(pair())
    assert once_more.made == ["frozen", "lp-ft"], "four mistakes can be told from none"


def test_a_dear_trial_that_takes_too_long_is_skipped_and_said() -> None:
    slow = Cost(fit=6000.0, rest=12.0, trial=60 * MOST_TRIAL_MINUTES + 60, at_most=True)
    trials = Trials()
    found = trials.decide(pair((CHEAP, slow)))
    assert found.proposal is FROZEN and not trials.made and not found.trials
    (reason,) = found.reasons
    assert "was not tried" in reason and "about 3.0 minutes" in reason and "2.0 minutes is the most" in reason
    assert "no figure shows that lp-ft is better than frozen" in reason
    patient = Trials(trial(FROZEN, range(12)), trial(TUNED, range(2)))
    assert patient.decide(pair((CHEAP, slow), Preference.ACCURACY)).proposal is TUNED


def test_without_trials_nothing_shows_that_a_dear_one_is_better() -> None:
    found = decide(pair((DEAR, CHEAP), first=TUNED, second=FROZEN), None, Trials(), SILENT)
    assert found.proposal is FROZEN and "10 minutes instead of 0.3" in found.reasons[0]
    alike = decide(pair((CHEAP, CHEAP), first=TUNED, second=FROZEN), None, Trials(), SILENT)
    assert alike.proposal is TUNED and not alike.reasons, "the rules' order stands"


def test_groups_count_as_what_they_say() -> None:
    wrong = [at for at in range(100) if at % 10 == 0]
    alone = Trials(trial(FROZEN, wrong), trial(TUNED, [])).decide(pair())
    together = Trials(trial(FROZEN, wrong, groups=10), trial(TUNED, [], groups=10)).decide(pair())
    assert alone.proposal is TUNED
    assert together.proposal is FROZEN, "one patient of ten is no proof"


def test_what_cannot_be_decided_takes_the_cheaper() -> None:
    wrong = range(0, 100, 4)
    few = Trials(trial(FROZEN, wrong, groups=2), trial(TUNED, [], error=0.1, groups=2))
    assert few.decide(pair()).proposal is FROZEN
    found = compare(pair((CHEAP, CHEAP)), few.trials["frozen"], few.trials["lp-ft"], 300)
    assert "not decidable" in found.reasons[0]


def by_error(first: Trial, second: Trial) -> Decision:
    """Compare two of equal cost."""
    return compare(pair((CHEAP, CHEAP), first=first.proposal, second=second.proposal), first, second, 100)


def test_of_two_that_cost_alike_less_squared_error_wins_and_the_criterion_is_named() -> None:
    better = by_error(trial(FROZEN, range(20), 0.4), trial(TUNED, range(10), 0.2))
    assert better.proposal is TUNED
    assert "By squared error, lp-ft does without 50 % (" in better.reasons[0]
    assert (
        "the interval does not hold 0" in better.reasons[0]
        and "by accuracy +10.0 points" in better.reasons[0]
    )
    worse = by_error(trial(TUNED, range(10), 0.2), trial(FROZEN, range(20), 0.4))
    assert worse.proposal is TUNED


def test_of_two_alike_the_one_that_retrains_less_wins() -> None:
    tie = by_error(trial(TUNED, range(10)), trial(FROZEN, range(10)))
    assert tie.proposal is FROZEN and "tie" in tie.reasons[0]


def test_where_trials_settle_nothing_the_rules_choose() -> None:
    first = trial(TechniqueProposal("scratch", retrained=3), range(10), 0.2)
    apart = by_error(first, trial(TechniqueProposal("layers"), range(13), 0.2))
    assert apart.proposal.technique == "scratch" and "the rules put scratch first" in apart.reasons[0]


def test_of_two_alike_that_retrain_as_much_the_rules_choose() -> None:
    first = trial(TechniqueProposal("scratch", retrained=3), range(10))
    tie = by_error(first, trial(TechniqueProposal("full", retrained=3), range(10)))
    assert tie.proposal.technique == "scratch"


@pytest.mark.parametrize("prefer", list(Preference))
def test_no_reason_claims_what_its_interval_does_not(prefer: Preference) -> None:
    for wrong, other in ((12, 10), (30, 10), (3, 0), (10, 10)):
        for costs in ((CHEAP, DEAR), (CHEAP, CHEAP)):
            trials = Trials(trial(FROZEN, range(wrong)), trial(TUNED, range(other)))
            (reason,) = trials.decide(pair(costs, prefer)).reasons
            assert "clear" not in reason and "Taken: " in reason
            assert "accuracy" in reason or "squared error" in reason or "wrong on" in reason


def test_a_cheap_third_takes_the_place_of_the_second_of_two_dear_ones() -> None:
    lora = TechniqueProposal("lora", retrained=3)
    costs = {"lora": DEAR, "lp-ft": DEAR, "frozen": CHEAP}
    found = shortlist([lora, TUNED, FROZEN], costs, Preference.COST)
    assert found is not None and (found.first, found.second) == (lora, FROZEN)
    dear = shortlist([lora, TUNED, FROZEN], costs, Preference.ACCURACY)
    assert dear is not None and dear.second is TUNED
    assert shortlist([FROZEN], {"frozen": CHEAP}, Preference.COST) is None
