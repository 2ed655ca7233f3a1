"""What candidates are expected to take: by paces that are measured, and by what techniques compute."""

from itertools import count

import numpy as np
import pytest
import torch

from adapters.advise.cost import Cost, Paces, costs
from adapters.advise.proposal import TechniqueProposal
from adapters.datasets import TRAIN, VALIDATION, Dataset
from adapters.techniques import TECHNIQUES, Context, TrainingEffort, technique
from adapters.training import Callback, Epoch
from tests.adapters.tiny import TinySource

EVERY = [name for name in TECHNIQUES if name not in ("contrastive", "as-is", "features")]


class Steps(Callback):
    def __init__(self) -> None:
        self.steps = 0
        self.epochs = 0

    def on_step(self, network: torch.nn.Module, loss: float) -> None:
        self.steps += 1

    def on_epoch(self, network: torch.nn.Module, epoch: Epoch) -> None:
        self.epochs += 1


@pytest.mark.parametrize("name", ["full", "lp-ft", "scratch", "partial", "lora"])
def test_training_takes_the_steps_that_are_expected_at_most(name: str, shapes_data: Dataset) -> None:
    source, steps = TinySource(), Steps()
    fit = technique(name, {"epochs": 3, "batch_size": 8, "patience": None})
    learnt, held = (len(shapes_data.index(part)) for part in (TRAIN, VALIDATION))
    effort = fit.effort(source.load(), learnt, held)
    fit.fit(source, shapes_data, Context(device=torch.device("cpu"), callbacks=(steps,)))
    assert steps.steps == effort.steps and steps.epochs == 3
    assert effort.batch_size == 8 and not effort.stops_early
    assert effort.checks == (4 if held else 0)


def test_early_stopping_makes_an_upper_bound() -> None:
    stages = TinySource().load()
    assert technique("full", {"epochs": 30, "patience": 5}).effort(stages, 100, 20).stops_early
    assert not technique("full", {"epochs": 30, "patience": 5}).effort(stages, 100, 0).stops_early


def test_a_frozen_head_takes_one_pass_and_one_search() -> None:
    stages = TinySource().load()
    assert technique("frozen").effort(stages, 100, 20) == TrainingEffort(passes=1, searches=1)
    assert technique("frozen", {"head": "centroid"}).effort(stages, 100, 20) == TrainingEffort(passes=1)
    assert technique("as-is").effort(stages, 100, 20) == TrainingEffort()


def test_paces_times_effort_are_seconds() -> None:
    paces = Paces(forward=0.5, search=3.0, export=7.0, load=1.0, steps={"full": 2.0})
    effort = TrainingEffort(passes=2, steps=10, batch_size=4, checks=3, searches=1)
    assert paces.seconds("full", effort, learnt=20, held=4) == 0.5 * (2 * 24 + 3 * 4) + 20.0 + 3.0


def test_every_technique_is_expected_to_take_some_time(shapes_data: Dataset) -> None:
    context = Context(device=torch.device("cpu"))
    found = costs([TechniqueProposal(name) for name in EVERY], TinySource(), shapes_data, 2.0, context)
    assert set(found) == set(EVERY)
    assert all(cost.fit > 0 and cost.rest > 2.0 and cost.trial > 0 for cost in found.values())


def test_longer_schedules_are_dearer(shapes_data: Dataset) -> None:
    context = Context(device=torch.device("cpu"), clock=map(float, count()).__next__)
    found = costs(
        [TechniqueProposal(name) for name in ("frozen", "full", "scratch")],
        TinySource(),
        shapes_data,
        0.0,
        context,
    )
    assert found["frozen"].fit < found["full"].fit < found["scratch"].fit
    assert found["frozen"].trial < found["full"].trial < found["full"].fit


def test_timing_leaves_the_source_and_the_random_generator_as_they_were(shapes_data: Dataset) -> None:
    source, context = TinySource(), Context(device=torch.device("cpu"))
    before = torch.random.get_rng_state()
    digests = [parameter.clone() for parameter in source.load().parameters()]
    costs([TechniqueProposal("full"), TechniqueProposal("lora")], source, shapes_data, 0.0, context)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(map(torch.equal, digests, source.load().parameters()))


def test_a_step_is_timed_by_the_workshops_clock(shapes_data: Dataset) -> None:
    context = Context(device=torch.device("cpu"), clock=map(float, count()).__next__)
    index = shapes_data.index(TRAIN)
    assert technique("full").step_seconds(TinySource(), shapes_data, index, 8, context) == 1.0
    assert technique("frozen").step_seconds(TinySource(), shapes_data, index, 8, context) == 0.0


def test_minutes_are_those_of_the_whole_adaptation() -> None:
    found = Cost(fit=90.0, rest=30.0, trial=5.0)
    assert found.minutes == 2.0 and found.text() == "about 2.0 minutes"
    assert Cost(fit=690.0, rest=30.0, trial=5.0, at_most=True).text() == "at most 12 minutes"


def test_techniques_that_train_the_same_stages_share_a_timed_step() -> None:
    stages = TinySource().load()
    kinds = {
        name: technique(name).step_kind(stages) for name in ("full", "lp-ft", "scratch", "partial", "lora")
    }
    assert kinds["full"] == kinds["lp-ft"] == kinds["scratch"]
    assert len(set(kinds.values())) == 3
    assert np.unique(
        [technique(name).step_kind(stages) is None for name in ("frozen", "layers")]
    ).tolist() == [True]
