"""Advice as a whole: what is measured, what is recommended, and how it reads."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from adapters.advise.advice import Advice, adapt_command, advise, conclude
from adapters.advise.measurements import Measurements, measure
from adapters.advise.proposal import Proposal
from adapters.advise.ranking import advise_all
from adapters.advise.verification import attempt, divided
from adapters.datasets import TRAIN, VALIDATION, Dataset, load
from adapters.shots import draw
from adapters.sources.bundled import glyph_source
from adapters.sources.stages import Stages
from adapters.techniques import TECHNIQUES, Workshop
from registry.digests import canonical_json
from registry.errors import DatasetError
from registry.progress import SILENT
from services.cli import main
from tests.adapters.tiny import TinySource, write_shapes

WORKSHOP = Workshop(device=torch.device("cpu"))


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
    return measure(glyph_source(), digits, WORKSHOP)


@pytest.fixture(scope="module")
def advice(digits: Dataset, measured: Measurements) -> Advice:
    return conclude(measured, glyph_source(), digits, WORKSHOP)


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
    again = measure(glyph_source(), digits, Workshop(device=torch.device("cpu")))
    assert replace(again, seconds={}) == replace(measured, seconds={})


def test_the_test_part_is_not_looked_at(digits: Dataset, measured: Measurements) -> None:
    others = np.setdiff1d(np.arange(len(digits)), digits.index(TRAIN))
    held_out = digits.divided({TRAIN: digits.index(TRAIN), "test": others})
    assert replace(measure(glyph_source(), held_out, WORKSHOP), seconds={}) == replace(measured, seconds={})


def test_a_helpful_source_and_few_items_make_a_frozen_head(advice: Advice) -> None:
    assert advice.recommended.technique == "frozen" and not advice.negative_transfer
    assert advice.candidates[0].proposal == advice.recommended
    assert [candidate.tried for candidate in advice.candidates[:2]] == [True, True]
    assert {candidate.proposal.technique for candidate in advice.candidates} <= set(TECHNIQUES)


def test_advice_reads_with_its_figures(advice: Advice) -> None:
    text = advice.text()
    assert "100 labelled items of 10 classes" in text and "Take frozen." in text
    assert "The source helps." in text and "random weights" in text and "Tried on" in text
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
    deeper = replace(advice, recommended=Proposal("partial", {"depth": 2, "epochs": 5}))
    line, rest = adapt_command(deeper, "data", "test")
    assert line.endswith("--technique partial --test test --depth 2 --config advice.toml")
    assert rest == {"epochs": 5}


def test_a_source_that_sees_nothing_is_flagged(shapes_data: Dataset) -> None:
    found = advise(Blind(), shapes_data, WORKSHOP, tries=False)
    assert found.negative_transfer
    assert found.recommended.technique in ("scratch", "full")
    assert "Negative transfer" in found.text() and "Do not rely on" in found.text()
    assert not any(candidate.tried for candidate in found.candidates)


def test_labels_that_the_source_knows_are_tried_without_training(shapes_data: Dataset) -> None:
    measured = measure(TinySource(), shapes_data, WORKSHOP)
    assert measured.zero_shot is not None and 0 <= measured.zero_shot.value <= 1


def test_one_item_of_a_class_leaves_nothing_to_measure(digits: Dataset) -> None:
    few = digits.divided({TRAIN: draw(digits, 1, seed=0)})
    found = advise(glyph_source(), few, WORKSHOP)
    assert found.measured.judged == 0 and found.measured.cuts == ()
    assert found.recommended.technique == "frozen" and found.settings == {"head": "centroid"}
    assert "single item" in found.text()


def test_two_items_of_a_class_are_enough_for_figures(digits: Dataset) -> None:
    found = advise(glyph_source(), digits.divided({TRAIN: draw(digits, 2, seed=0)}), WORKSHOP, tries=False)
    assert found.measured.judged == 20 and found.measured.cuts
    assert found.measured.curve is not None and found.measured.curve.slope is None


def test_one_class_is_refused(digits: Dataset) -> None:
    with pytest.raises(DatasetError, match="two or more"):
        measure(glyph_source(), replace(digits, labels=("0",)), WORKSHOP)


def test_a_quarter_is_kept_for_judging_where_there_is_no_validation_part(digits: Dataset) -> None:
    learnt, judged = divided(digits, seed=0)
    assert not set(learnt) & set(judged) and len(judged) == 30
    assert set(learnt) | set(judged) == set(digits.index(TRAIN))
    assert np.array_equal(np.bincount(digits.targets(judged)), np.full(10, 3))


def test_the_validation_part_judges_where_there_is_one() -> None:
    data = load("example:digits", glyph_source().recipe)
    learnt, judged = divided(data, seed=0)
    assert set(judged) == set(data.index(VALIDATION))
    assert len(learnt) == 400 and set(learnt) <= set(data.index(TRAIN))
    assert np.ptp(np.bincount(data.targets(learnt))) < 12


def test_a_trial_is_of_items_that_it_did_not_learn_from(digits: Dataset) -> None:
    learnt, judged = divided(digits, seed=0)
    trial = attempt(Proposal("lp-ft"), glyph_source(), digits.divided({TRAIN: learnt}), judged, WORKSHOP)
    assert len(trial.right) == len(trial.errors) == 30
    assert trial.accuracy.value > 0.8 and (trial.errors >= 0).all() and (trial.errors <= 2).all()


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
    assert document["candidates"][0].keys() >= {"technique", "metric", "low", "high", "seconds"}
    assert document["candidates"][0]["technique"] == document["recommended"]["technique"]
    assert [each["source"] for each in document["sources"]] == ["bundled:glyphs"]


def test_the_command_advises_like_a_colleague(folder: Path) -> None:
    result = run(str(folder), "--source", "bundled:glyphs", "--no-verify")
    assert "labelled items of 3 classes" in result.stdout and "cultivar adapt" in result.stdout
    assert "Tried on" not in result.stdout
