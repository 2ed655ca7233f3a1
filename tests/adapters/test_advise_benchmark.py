"""How the benchmark of advice counts: on cells made by hand."""

from pathlib import Path

import pytest

from benchmarks.adviser import POLICIES, Report, Result, cells
from benchmarks.bench import TASKS, TRUNKS
from benchmarks.cells import Cell, Log
from benchmarks.policies import ACCURACY, COST, EVERYTHING, outcomes

CELL = Cell("digits", "letters", 5, 0)


def result(trunk: str, best: str, chosen: str, raw_low: float = 0.5, random: float = 0.5) -> Result:
    accuracy = {name: 0.95 if name == best else 0.9 for name in POLICIES}
    if trunk == "random":
        accuracy["frozen"] = 0.7
    return Result(
        cell=Cell("digits", trunk, 5, 0),
        accuracy=accuracy,
        seconds=dict.fromkeys(POLICIES, 1.0),
        raw=0.8,
        advice={
            "policy": chosen,
            "seconds": 1.0,
            "raw_low": raw_low,
            "random": random,
            "choices": {
                COST: {"policy": chosen, "seconds": 60.0},
                ACCURACY: {"policy": best, "seconds": 120.0},
            },
        },
        minutes={name: 0.5 if name == "frozen" else 9.0 for name in POLICIES},
    )


REPORT = Report(
    (
        result("letters", "frozen", "frozen"),
        result("shuffled", "scratch", "scratch", raw_low=-0.2),
        result("random", "scratch", "full", random=0.05),
    )
)


def test_regret_is_what_the_best_technique_would_have_won() -> None:
    assert REPORT.regrets() == pytest.approx([0, 0, 5])
    assert REPORT.regrets("scratch") == pytest.approx([5, 0, 0])


def test_figures_are_over_all_cells_and_cost_is_a_share_of_fitting_everything() -> None:
    figures = REPORT.figures()
    assert figures["mean regret"] == pytest.approx(5 / 3)
    assert figures["cost"] == pytest.approx(1 / len(POLICIES))
    assert figures["flagged"] == 1 and figures["false alarms"] == 0
    assert not REPORT.met(), "the mean regret is over a point"


def test_a_good_trunk_leads_raw_inputs_and_random_weights_on_the_test_items() -> None:
    assert [each.cell.trunk for each in REPORT.good] == ["letters"]
    assert [each.cell.trunk for each in REPORT.bad] == ["shuffled", "random"] and not REPORT.doubtful


def test_the_report_is_a_table_with_every_policy() -> None:
    text = "\n".join(REPORT.lines())
    assert all(f"| {name} |" in text for name in (*POLICIES, "**adviser**", *TASKS))
    assert all(f"| {name} |" in text for name in (COST, ACCURACY, "always frozen", EVERYTHING))


def test_a_policy_costs_its_advice_and_its_adaptation() -> None:
    found = REPORT.results[2].outcomes
    assert found[COST].minutes == 1.0 + 9.0 and found[COST].regret == pytest.approx(5)
    assert found[ACCURACY].minutes == 2.0 + 9.0 and found[ACCURACY].regret == 0
    assert found["always frozen"].minutes == 0.5
    assert found[EVERYTHING].minutes == 0.5 + 9.0 * (len(POLICIES) - 1) and found[EVERYTHING].regret == 0


def test_what_is_cheap_and_best_has_no_regret() -> None:
    found = outcomes(
        {"frozen": 0.9, "lp-ft": 0.88},
        {"frozen": 0.3, "lp-ft": 10},
        {COST: {"policy": "frozen", "seconds": 30.0}},
    )
    assert found[COST].regret == 0 and found[COST].minutes == pytest.approx(0.8)
    assert found["always lp-ft"].regret == pytest.approx(2)


def test_cells_are_tasks_by_trunks_by_shots_by_draws() -> None:
    assert len(set(cells([5, 20], 3))) == len(TASKS) * len(TRUNKS) * 2 * 3
    assert {cell.task for cell in cells([5], 1, ["even"])} == {"even"}


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    assert Log(tmp_path / "log").once(CELL, "frozen", lambda: {"accuracy": 0.9}) == {"accuracy": 0.9}

    def never() -> dict[str, float]:
        raise AssertionError("it is known already")

    assert Log(tmp_path / "log").once(CELL, "frozen", never) == {"accuracy": 0.9}
