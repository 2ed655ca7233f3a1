"""Advice as a whole: what is measured, what is recommended, and how it reads."""

import json
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from adapters.advise.advice import Advice, adapt_command, advise, conclude
from adapters.advise.decision import Preference
from adapters.advise.measurements import Measurements, measure
from adapters.advise.proposal import TechniqueProposal
from adapters.advise.ranking import advise_all
from adapters.advise.trial import attempt, ground
from adapters.datasets import TRAIN, VALIDATION, Dataset, load
from adapters.few_shot import draw
from adapters.sources.bundled import glyph_source
from adapters.sources.stages import Stages
from adapters.techniques import TECHNIQUES, Context
from registry.digests import canonical_json
from registry.errors import DatasetError
from registry.progress import SILENT
from services.cli import main
from tests.adapters.tiny import TinySource, write_shapes

CONTEXT = Context(device=torch.device("cpu"), clock=lambda: 0.0)
"""On this clock nothing takes any time, so that costs are alike whatever else the machine does."""


def ticking() -> Context:
    """Return a context whose clock tells a second more whenever it is asked: each step of training takes one."""
    return Context(device=torch.device("cpu"), clock=map(float, count()).__next__)


@dataclass(frozen=True, kw_only=True)
class Blind(TinySource):
    """A trunk that sees no more than how light a picture is."""

    spec: str = "tiny:blind"

    def load(self, seed: int | None = None) -> Stages:
        stages = super().load(seed)
        if seed is None:
            with torch.no_grad():
                for parameter in stages.stages[1].parameters():
                    if parameter.ndim > 1:
                        parameter.fill_(0.01)
        return stages


@pytest.fixture(scope="module")
def digits() -> Dataset:
    data = load("example:digits", glyph_source().recipe)
    return data.divided({TRAIN: draw(data, 10, seed=0)})


@pytest.fixture(scope="module")
def measured(digits: Dataset) -> Measurements:
    return measure(glyph_source(), digits, CONTEXT)


@pytest.fixture(scope="module")
def advice(digits: Dataset, measured: Measurements) -> Advice:
    return conclude(measured, glyph_source(), digits, CONTEXT)


def test_every_cut_is_measured_with_its_interval(measured: Measurements) -> None:
    assert [cut.name for cut in measured.cuts] == ["stem", "block1", "block2", "pool"]
    assert [cut.boundary for cut in measured.cuts] == [1, 2, 3, 5]
    for cut in measured.cuts:
        assert 0 <= cut.accuracy.low <= cut.accuracy.value <= cut.accuracy.high <= 1
    assert measured.items == 100 and measured.classes == 10 and measured.rarest == measured.typical == 10
    assert measured.last is measured.cuts[-1]
    assert measured.distance is not None and 0 < measured.distance < 2
    assert measured.zero_shot is None, "letters are no digits"


def test_letters_help_with_digits(measured: Measurements) -> None:
    assert measured.last is not None and measured.raw is not None and measured.random is not None
    assert measured.last.accuracy.value > 0.9
    assert measured.raw.lead.low > 0 and measured.raw.removed.low > 0.3
    assert measured.random.removed.value > 0.3


def test_measuring_twice_gives_the_same_figures(digits: Dataset, measured: Measurements) -> None:
    again = measure(glyph_source(), digits, Context(device=torch.device("cpu")))
    assert replace(again, seconds={}) == replace(measured, seconds={})


def test_the_test_part_is_not_looked_at(digits: Dataset, measured: Measurements) -> None:
    others = np.setdiff1d(np.arange(len(digits)), digits.index(TRAIN))
    held_out = digits.divided({TRAIN: digits.index(TRAIN), "test": others})
    assert replace(measure(glyph_source(), held_out, CONTEXT), seconds={}) == replace(measured, seconds={})


def test_a_helpful_source_and_few_items_make_a_frozen_head(advice: Advice) -> None:
    assert advice.recommended.technique == "frozen" and not advice.negative_transfer
    assert advice.candidates[0].proposal == advice.recommended
    assert [candidate.tried for candidate in advice.candidates[:2]] == [True, True]
    assert {candidate.proposal.technique for candidate in advice.candidates} <= set(TECHNIQUES)


def test_advice_reads_with_its_figures(advice: Advice) -> None:
    text = advice.text()
    assert "100 labelled items of 10 classes" in text and "Take frozen." in text
    assert "the source helps." in text and "random weights" in text and "Tried on" in text
    assert all(reason in text for reason in advice.reasons)


def test_advice_is_plain_json(advice: Advice) -> None:
    document = advice.to_json()
    assert canonical_json(document)
    assert document["recommended"] == {"technique": "frozen", "depth": None, "config": {}}
    assert isinstance(document["measured"], dict)
    assert isinstance(document["measured"]["distance"], float)


def test_advice_ends_in_a_command_that_can_be_run(advice: Advice) -> None:
    line, rest = adapt_command(advice, "some pictures", None)
    assert line == ("cultivar adapt 'some pictures' --source bundled:glyphs --target TASK --technique frozen")
    assert rest == {}
    deeper = replace(advice, recommended=TechniqueProposal("partial", {"depth": 2, "epochs": 5}))
    line, rest = adapt_command(deeper, "data", "test")
    assert line.endswith("--technique partial --test test --depth 2 --config advice.toml")
    assert rest == {"epochs": 5}


def test_a_source_that_sees_nothing_is_flagged(shapes_data: Dataset) -> None:
    found = advise(Blind(), shapes_data, CONTEXT, tries=False)
    assert found.negative_transfer
    assert found.recommended.technique in ("scratch", "full")
    assert "Negative transfer" in found.text() and "no help here" in found.text()
    assert not any(candidate.tried for candidate in found.candidates)


def test_labels_that_the_source_knows_are_tried_without_training(shapes_data: Dataset) -> None:
    measured = measure(TinySource(), shapes_data, CONTEXT)
    assert measured.zero_shot is not None and 0 <= measured.zero_shot.value <= 1


def test_one_item_of_a_class_leaves_nothing_to_measure(digits: Dataset) -> None:
    few = digits.divided({TRAIN: draw(digits, 1, seed=0)})
    found = advise(glyph_source(), few, CONTEXT)
    assert found.measured.judged == 0 and found.measured.cuts == ()
    assert found.recommended.technique == "frozen" and found.settings == {"head": "centroid"}
    assert "single item" in found.text()


def test_two_items_of_a_class_are_enough_for_figures(digits: Dataset) -> None:
    found = advise(glyph_source(), digits.divided({TRAIN: draw(digits, 2, seed=0)}), CONTEXT, tries=False)
    assert found.measured.judged == 20 and found.measured.cuts
    assert found.measured.curve is not None and found.measured.curve.slope is None


def test_one_class_is_refused(digits: Dataset) -> None:
    with pytest.raises(DatasetError, match="two or more"):
        measure(glyph_source(), replace(digits, labels=("0",)), CONTEXT)


def test_a_quarter_is_kept_for_judging_where_there_is_no_validation_part(digits: Dataset) -> None:
    found = ground(digits, seed=0)
    learnt, judged = found.learnt, found.judged
    assert not set(learnt) & set(judged) and len(judged) == 30
    assert set(learnt) | set(judged) == set(digits.index(TRAIN))
    assert np.array_equal(np.bincount(digits.targets(judged)), np.full(10, 3))


def test_the_validation_part_judges_where_there_is_one() -> None:
    data = load("example:digits", glyph_source().recipe)
    found = ground(data, seed=0)
    learnt, judged = found.learnt, found.judged
    assert set(judged) == set(data.index(VALIDATION))
    assert len(learnt) == 400 and set(learnt) <= set(data.index(TRAIN))
    assert np.ptp(np.bincount(data.targets(learnt))) < 12


def test_a_trial_is_of_items_that_it_did_not_learn_from(digits: Dataset) -> None:
    trial = attempt(TechniqueProposal("lp-ft"), glyph_source(), digits, ground(digits, seed=0), CONTEXT)
    assert len(trial.right) == len(trial.errors) == 30
    assert trial.accuracy.value > 0.8 and (trial.errors >= 0).all() and (trial.errors <= 2).all()


def grouped(dataset: Dataset, size: int) -> Dataset:
    """Return a dataset whose items belong to groups, a few of each class to a group."""
    targets = dataset.targets(np.arange(len(dataset)))
    ranks = np.array([np.count_nonzero(targets[:at] == targets[at]) for at in range(len(dataset))])
    items = tuple(
        replace(item, group=f"{target} {rank // size}")
        for item, target, rank in zip(dataset.items, targets, ranks, strict=True)
    )
    return replace(dataset, items=items)


def test_groups_stay_whole_when_some_are_kept_for_judging(shapes_data: Dataset) -> None:
    data = grouped(shapes_data, 3).divided({TRAIN: shapes_data.index(TRAIN)})
    found = ground(data, seed=0)
    names = [{data.items[at].group for at in part} for part in (found.learnt, found.judged)]
    assert len(found.judged) and not names[0] & names[1]
    assert set(data.targets(found.judged)) <= set(data.targets(found.learnt))


def test_trials_on_groups_count_the_groups(shapes_data: Dataset) -> None:
    data = grouped(shapes_data, 3).divided({TRAIN: shapes_data.index(TRAIN)})
    trial = attempt(TechniqueProposal("frozen"), TinySource(), data, ground(data, seed=0), CONTEXT)
    assert trial.accuracy.groups < trial.accuracy.examples == len(trial.right)


def test_every_candidate_is_told_what_it_would_take_and_a_dear_one_is_not_taken_for_nothing(
    digits: Dataset, measured: Measurements
) -> None:
    found = conclude(measured, glyph_source(), digits, ticking())
    minutes = {each.proposal.technique: each.to_json()["expected_minutes"] for each in found.candidates}
    assert isinstance(minutes["lp-ft"], float) and isinstance(minutes["frozen"], float)
    assert minutes["lp-ft"] > 8 > minutes["frozen"], "500 steps and more of a second each"
    assert found.recommended.technique == "frozen"
    assert "lp-ft would take about" in found.reasons[-1] and "Taken: frozen." in found.reasons[-1]
    document = found.to_json()
    assert document["prefer"] == "cost"


def test_with_accuracy_preferred_dear_ones_are_tried(digits: Dataset, measured: Measurements) -> None:
    found = conclude(measured, glyph_source(), digits, ticking(), prefer=Preference.ACCURACY)
    assert [candidate.tried for candidate in found.candidates[:2]] == [True, True]
    assert found.to_json()["prefer"] == "accuracy" and "minutes instead" not in found.text()


def test_no_sentence_of_advice_claims_more_than_its_interval(advice: Advice) -> None:
    assert "clearly" not in advice.text()
    assert "squared error" in advice.reasons[-1] and "by accuracy" in advice.reasons[-1]
    assert "Taken: frozen." in advice.reasons[-1]


def run(*arguments: str) -> Any:
    result = CliRunner().invoke(main, ["advise", *arguments])
    assert result.exit_code == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes"), per_class=12)


def test_of_several_sources_the_most_promising_comes_first(folder: Path) -> None:
    found = advise_all([Blind(), TinySource()], str(folder), test=None, seed=0, tries=False, progress=SILENT)
    assert [advice.source for advice in found] == ["tiny:shapes", "tiny:blind"]


def test_the_command_answers_in_one_document(folder: Path) -> None:
    document = json.loads(run(str(folder), "--source", "bundled:glyphs", "--no-verify", "--json").stdout)
    assert document.keys() >= {"recommended", "candidates", "negative_transfer", "reasons", "command"}
    assert document["recommended"].keys() == {"technique", "depth", "config"}
    assert document["candidates"][0].keys() >= {
        "technique",
        "metric",
        "low",
        "high",
        "seconds",
        "expected_minutes",
    }
    assert document["candidates"][0]["technique"] == document["recommended"]["technique"]
    assert [each["source"] for each in document["sources"]] == ["bundled:glyphs"]


def test_the_command_takes_a_preference(folder: Path) -> None:
    arguments = [str(folder), "--source", "bundled:glyphs", "--no-verify", "--json"]
    document = json.loads(run(*arguments, "--prefer", "accuracy").stdout)
    assert document["prefer"] == "accuracy" and document["candidates"][0]["expected_minutes"] > 0
    refused = CliRunner().invoke(main, ["advise", *arguments, "--prefer", "speed"])
    assert refused.exit_code == 2 and "cost" in refused.stderr and "accuracy" in refused.stderr


def test_a_preference_is_for_the_advisers_choice_alone(folder: Path, tmp_path: Path) -> None:
    arguments = [str(folder), "--source", "bundled:glyphs", "--target", "shapes", "--prefer", "accuracy"]
    refused = CliRunner().invoke(
        main, ["adapt", *arguments, "--technique", "frozen", "--home", str(tmp_path / "home")]
    )
    assert refused.exit_code == 1
    assert "--prefer is for the technique auto, got 'frozen'" in refused.stderr.replace("\n", " ")


def test_the_command_advises_like_a_colleague(folder: Path) -> None:
    result = run(str(folder), "--source", "bundled:glyphs", "--no-verify")
    assert "would take" in result.stdout and "minutes" in result.stdout
    assert "labelled items of 3 classes" in result.stdout and "cultivar adapt" in result.stdout
    assert "Tried on" not in result.stdout
