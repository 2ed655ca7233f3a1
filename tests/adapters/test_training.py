"""The loop: batches, schedule, precision, hooks, and what it refuses."""

import io
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import nn

from adapters.datasets.rows import DenseRows, RaggedRows
from adapters.sources.stages import StageRun
from adapters.training import Callback, Epoch, Examples, TrainingPlan, predict, train
from registry.errors import AdaptationError, InvalidSetting
from registry.progress import SILENT, Bars
from tests.builders import text_recipe

CPU = torch.device("cpu")


PLAN = TrainingPlan(
    epochs=20,
    batch_size=8,
    optimiser="sgd",
    learning_rate=0.1,
    head_factor=1.0,
    weight_decay=0.0,
    warmup=0.1,
    clip=1.0,
    label_smoothing=0.0,
    patience=None,
    augment=False,
    batch_norm="learn",
)


def plan(**changed: Any) -> TrainingPlan:
    return replace(PLAN, **changed)


def examples(count: int = 33) -> Examples:
    random = np.random.default_rng(0)
    targets = np.arange(count) % 3
    inputs = np.eye(3, 6, dtype=np.float32)[targets] * 3 + random.normal(size=(count, 6)).astype(np.float32)
    return of(inputs, targets)


def of(inputs: np.ndarray, targets: np.ndarray, name: str = "h") -> Examples:
    return Examples(DenseRows({name: inputs}), np.arange(len(inputs)), targets)


def inputs_of(data: Examples) -> np.ndarray:
    assert isinstance(data.rows, DenseRows)
    return data.rows.arrays["h"]


def body_of(*modules: nn.Module) -> StageRun:
    return StageRun(
        OrderedDict((str(place), module) for place, module in enumerate(modules)),
        [()] * len(modules),
        "pixels",
    )


def network(seed: int = 0) -> tuple[StageRun, nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return body_of(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2)), nn.Linear(8, 3)


def run(
    settings: TrainingPlan, data: Examples | None = None, seed: int = 0, **more: Any
) -> tuple[nn.Module, nn.Module, tuple[Epoch, ...]]:
    body, head = network()
    history = train(body, head, data or examples(), settings, seed=seed, device=CPU, progress=SILENT, **more)
    return body, head, history


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_it_learns(optimiser: str) -> None:
    data = examples()
    body, head, history = run(plan(optimiser=optimiser, learning_rate=0.05), data)
    with torch.no_grad():
        answers = head(body(torch.from_numpy(inputs_of(data)))).argmax(dim=1).numpy()
    assert (answers == data.targets).mean() > 0.9
    assert history[-1].loss < history[0].loss and [epoch.number for epoch in history] == list(range(1, 21))


def test_one_seed_gives_the_same_bits_and_another_does_not() -> None:
    first, again, other = (run(plan(epochs=3), seed=seed) for seed in (1, 1, 2))
    weights = [body.state_dict()["stages.0.weight"] for body, _, _ in (first, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert first[2] == again[2]


def test_a_last_batch_of_one_joins_the_one_before_it() -> None:
    sizes: list[int] = []

    class Watch(nn.Module):
        def forward(self, value: torch.Tensor) -> torch.Tensor:
            sizes.append(len(value))
            return value

    body, head = network()
    watched = body_of(Watch(), *body.stages.values())
    train(watched, head, examples(17), plan(epochs=1), seed=0, device=CPU, progress=SILENT)
    assert sizes == [8, 9]


def test_the_rate_climbs_and_falls_to_nothing() -> None:
    rates: list[float] = []

    class Rates(Callback):
        def on_epoch(self, network: nn.Module, epoch: Epoch) -> None:
            rates.append(epoch.rate)

    run(plan(warmup=0.3), callbacks=(Rates(),))
    peak = rates.index(max(rates))
    assert 4 <= peak <= 6 and rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True) and rates[-1] == pytest.approx(0, abs=1e-6)
    assert max(rates) == pytest.approx(0.1, rel=0.02)


def test_a_loss_that_is_not_finite_stops_with_advice() -> None:
    data = examples()
    inputs_of(data)[5, 0] = np.inf
    with pytest.raises(AdaptationError, match=r"loss became nan in epoch 1; try a learning rate below 0\.1"):
        run(plan(), data)


def test_every_hook_is_called_in_its_place() -> None:
    calls: list[str] = []

    class Trace(Callback):
        def on_start(self, network: nn.Module, plan: TrainingPlan) -> None:
            calls.append("start")

        def on_step(self, network: nn.Module, loss: float) -> None:
            calls.append("step")

        def on_epoch(self, network: nn.Module, epoch: Epoch) -> None:
            calls.append("epoch")

        def on_end(self, network: nn.Module, history: Sequence[Epoch]) -> None:
            calls.append("end")

    run(plan(epochs=2), examples(16), callbacks=(Callback(), Trace()))
    assert calls == ["start", "step", "step", "epoch", "step", "step", "epoch", "end"]


def test_statistics_that_are_kept_do_not_move_while_scales_learn() -> None:
    fresh = network()[0].state_dict()
    kept, learnt = (run(plan(epochs=2, batch_norm=each))[0].state_dict() for each in ("keep", "learn"))
    assert torch.equal(kept["stages.1.running_mean"], fresh["stages.1.running_mean"])
    assert not torch.equal(kept["stages.1.weight"], fresh["stages.1.weight"])
    assert not torch.equal(learnt["stages.1.running_mean"], fresh["stages.1.running_mean"])


def test_biases_and_scales_are_not_decayed() -> None:
    layer, head = nn.Linear(6, 4), nn.Linear(4, 3)
    body = body_of(layer)
    with torch.no_grad():
        layer.bias.fill_(5.0)
        layer.weight.zero_()
        head.weight.zero_()
    flat = of(np.zeros((6, 6), np.float32), np.arange(6) % 3)
    train(
        body,
        head,
        flat,
        plan(epochs=1, batch_size=6, weight_decay=0.5),
        seed=0,
        device=CPU,
        progress=SILENT,
    )
    assert torch.equal(layer.bias, torch.full((4,), 5.0))


def test_augmentation_moves_pictures_and_mirrors_none() -> None:
    seen: list[torch.Tensor] = []

    class Keep(nn.Module):
        def forward(self, value: torch.Tensor) -> torch.Tensor:
            seen.append(value)
            return value.float().mean(dim=(1, 2))

    ramp = np.broadcast_to(np.arange(16, dtype=np.uint8)[None, None, :, None] * 16, (32, 16, 16, 3)).copy()
    data = of(ramp, np.arange(32) % 2, "pixels")
    body = body_of(Keep())
    train(body, nn.Linear(3, 2), data, plan(epochs=1, augment=True), seed=0, device=CPU, progress=SILENT)
    pictures = torch.cat(seen)
    assert pictures.dtype == torch.uint8 and pictures.shape == (32, 16, 16, 3)
    assert len({picture.numpy().tobytes() for picture in pictures}) > 16
    assert (pictures[:, :, 1:].int() >= pictures[:, :, :-1].int()).all()


def test_bars_say_how_it_goes() -> None:
    stream = io.StringIO()
    body, head = network()
    train(body, head, examples(), plan(epochs=2), seed=0, device=CPU, progress=Bars(Console(file=stream)))
    assert "training" in stream.getvalue() and "2/2" in stream.getvalue()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 0}, "epochs is 1"),
        ({"batch_size": 1}, "batch_size is 2"),
        ({"learning_rate": 0.0}, "learning_rate is above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is above 0"),
        ({"warmup": 1.0}, "warmup is a share"),
        ({"label_smoothing": 1.0}, "label_smoothing is a share"),
        ({"clip": 0.0}, "clip is above 0"),
        ({"patience": 0}, "patience is 1"),
        ({"batch_norm": "drop"}, "batch_norm is learn or keep"),
        ({"layer_decay": 0.0}, "layer_decay is above 0"),
        ({"layer_decay": 1.1}, "layer_decay is above 0"),
        ({"unfreeze": "slowly"}, "unfreeze is at-once or gradual"),
        ({"class_weights": "rare"}, "class_weights is equal or balanced"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSetting, match=message):
        plan(**changed)


def tower(stages: int = 4) -> tuple[StageRun, nn.Linear]:
    """Return a body of linear stages, and a head."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return body_of(*(nn.Linear(6, 6) for _ in range(stages))), nn.Linear(6, 3)


def fit(
    body: StageRun, head: nn.Module, data: Examples, settings: TrainingPlan, **more: Any
) -> tuple[Epoch, ...]:
    return train(body, head, data, settings, seed=0, device=CPU, progress=SILENT, **more)


def test_each_stage_learns_at_a_share_of_the_rate_above_it() -> None:
    """The first step of AdamW is as long as the rate, whatever the gradient."""
    body, head = tower(3)
    before = _weights(body, head)
    settings = plan(
        epochs=1, batch_size=64, optimiser="adamw", learning_rate=1e-3, warmup=0.0, layer_decay=0.5,
        head_factor=4.0,
    )  # fmt: skip
    fit(body, head, examples(), settings)
    after = _weights(body, head)
    steps = [float((new - old).abs().max()) for old, new in zip(before, after, strict=True)]
    assert steps == pytest.approx([0.25e-3, 0.5e-3, 1e-3, 4e-3], rel=0.01)


def _weights(*modules: nn.Module) -> list[torch.Tensor]:
    named = [pair for module in modules for pair in module.named_parameters()]
    return [each.detach().clone() for name, each in named if name.endswith("weight")]


class Moves(Callback):
    """Notes which stages moved in each epoch."""

    def __init__(self) -> None:
        self.moved: list[list[bool]] = []

    def on_start(self, network: nn.Module, plan: TrainingPlan) -> None:
        self.last = _weights(network)

    def on_epoch(self, network: nn.Module, epoch: Epoch) -> None:
        now = _weights(network)
        self.moved.append([not torch.equal(*pair) for pair in zip(self.last, now, strict=True)])
        self.last = now


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_stages_open_one_after_another_from_the_top(optimiser: str) -> None:
    body, head = tower()
    moves = Moves()
    settings = plan(epochs=8, unfreeze="gradual", optimiser=optimiser, learning_rate=0.01, weight_decay=0.1)
    fit(body, head, examples(), settings, callbacks=(moves,))
    closed = [4, 3, 2, 1, 0, 0, 0, 0]
    assert moves.moved == [[False] * count + [True] * (5 - count) for count in closed]
    assert all(parameter.requires_grad for parameter in body.parameters())


def test_stages_that_stay_closed_keep_their_statistics_too() -> None:
    body = body_of(nn.BatchNorm1d(6), nn.Linear(6, 6))
    seen: list[torch.Tensor] = []

    class Watch(Callback):
        def on_epoch(self, network: nn.Module, epoch: Epoch) -> None:
            seen.append(body.state_dict()["stages.0.running_mean"].clone())

    fit(body, nn.Linear(6, 3), examples(), plan(epochs=4, unfreeze="gradual"), callbacks=(Watch(),))
    assert not seen[0].any() and not seen[1].any() and seen[3].any()


def test_one_epoch_alone_opens_everything() -> None:
    body, head = tower()
    moves = Moves()
    fit(body, head, examples(), plan(epochs=1, unfreeze="gradual"), callbacks=(moves,))
    assert moves.moved == [[True] * 5]


def test_all_stages_can_be_trained_after_an_early_stop() -> None:
    body, head = tower()
    data = examples()
    wrong = Examples(data.rows, data.index, (data.targets + 1) % 3)
    history = fit(body, head, data, plan(epochs=40, unfreeze="gradual", patience=1), validation=wrong)
    assert len(history) < 20
    assert all(parameter.requires_grad for parameter in body.parameters())


def still(**changed: Any) -> TrainingPlan:
    """Return a plan of one step that moves next to nothing."""
    return plan(epochs=1, batch_size=64, learning_rate=1e-9, warmup=0.0, **changed)


def test_balanced_labels_weigh_the_same_together() -> None:
    data = of(inputs_of(examples()), np.repeat([0, 1, 2], [20, 10, 3]))
    body, head = tower(1)
    with torch.no_grad():
        logits = head(body(torch.from_numpy(inputs_of(data))))
    targets = torch.from_numpy(data.targets)
    expected = np.mean(
        [F.cross_entropy(logits[targets == label], targets[targets == label]).item() for label in range(3)]
    )
    (epoch,) = fit(body, head, data, still(class_weights="balanced"))
    assert epoch.loss == pytest.approx(expected, rel=1e-4)


def several(count: int = 33) -> Examples:
    inputs = inputs_of(examples(count))
    return of(inputs, (inputs[:, :3] > [0.5, 1.0, 2.0]).astype(np.uint8))


@pytest.mark.parametrize("weights", ["equal", "balanced"])
def test_several_labels_are_as_many_questions(weights: str) -> None:
    data = several()
    body, head = tower(1)
    with torch.no_grad():
        logits = head(body(torch.from_numpy(inputs_of(data))))
    present = torch.from_numpy(data.targets).float()
    factor = (1 - present).sum(0) / present.sum(0) if weights == "balanced" else torch.ones(3)
    each = present * factor * F.softplus(-logits) + (1 - present) * F.softplus(logits)
    (epoch,) = fit(body, head, data, still(class_weights=weights))
    assert epoch.loss == pytest.approx(each.mean().item(), rel=1e-4)


def test_several_labels_are_learnt_and_the_best_epoch_is_kept() -> None:
    data, held = several(60), several(24)
    body, head = tower(2)
    settings = plan(epochs=60, patience=3, optimiser="adamw", learning_rate=0.05)
    history = fit(body, head, data, settings, validation=held)
    losses = [epoch.validation_loss for epoch in history]
    logits = torch.from_numpy(predict(nn.Sequential(body, head), held, CPU))
    wanted = torch.from_numpy(held.targets)
    best = history[losses.index(min(losses))]  # type: ignore[type-var]  # every epoch has one
    assert F.binary_cross_entropy_with_logits(logits, wanted.float()).item() == pytest.approx(
        best.validation_loss, rel=1e-4
    )
    right = ((logits > 0) == wanted.bool()).all(dim=1).float().mean().item()
    assert right == pytest.approx(best.validation_accuracy) and right > 0.8


def texts(count: int = 300) -> Examples:
    recipe = text_recipe()
    random = np.random.default_rng(0)
    rows = [recipe.prepare("day " * int(random.integers(1, 30))) for _ in range(count)]
    return Examples(RaggedRows.of(recipe, rows), np.arange(count)[::-1], np.arange(count) % 2)


@pytest.mark.parametrize(("count", "size"), [(300, 8), (33, 8), (9, 8), (5, 8), (900, 2)])
def test_batches_of_like_lengths_hold_every_item_once(count: int, size: int) -> None:
    data = texts(count)
    cut = data.slices(np.random.default_rng(1).permutation(count), size)
    assert sorted(np.concatenate(cut).tolist()) == list(range(count))
    assert all(min(2, count) <= len(places) <= size + 1 for places in cut)


def test_batches_of_like_lengths_pad_little_and_come_in_any_order() -> None:
    data = texts()
    cut = data.slices(np.random.default_rng(1).permutation(300), 8)
    lengths = [data.rows.lengths(data.index[places]) for places in cut]
    assert np.mean([np.ptp(each) for each in lengths]) < 3
    firsts = [int(each[0]) for each in lengths]
    assert firsts != sorted(firsts) and firsts != sorted(firsts, reverse=True)


def test_fields_and_targets_of_a_batch_belong_together() -> None:
    data = texts(20)
    fields, targets = data.batch(np.array([3, 0]), CPU)
    assert fields["attention_mask"].sum(1).tolist() == data.rows.lengths(np.array([16, 19])).tolist()
    assert targets.tolist() == [1, 0]
