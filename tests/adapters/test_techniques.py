"""Each technique keeps the contract, and does what sets it apart."""

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adapters.datasets import TEST, TRAIN, VALIDATION, Dataset
from adapters.datasets.rows import DenseRows
from adapters.features import tensors
from adapters.sources.stages import Stages
from adapters.techniques import ALIASES, TECHNIQUES, Context, Fitted, technique
from adapters.techniques.as_is import JoinLabels, read_label_map
from adapters.techniques.trained import Trained
from adapters.training import Callback, Epoch
from registry.errors import DatasetError, FrozenPartMoved, InvalidSetting
from tests.adapters.tiny import DIMENSION, Pool, TinySource
from tests.adapters.tiny_text import TinyTextSource
from tests.contracts.technique import OnTexts, TechniqueContract

CPU = torch.device("cpu")


class TestAsIs(TechniqueContract):
    name = "as-is"
    accuracy = None


class TestFeatures(TechniqueContract):
    name = "features"
    accuracy = None


class TestFrozen(TechniqueContract):
    name = "frozen"


class TestFrozenByRidge(TechniqueContract):
    name = "frozen"
    settings: ClassVar = {"head": "ridge"}


class TestPartial(TechniqueContract):
    name = "partial"
    settings: ClassVar = {"epochs": 4}


class TestPartialWithAugmentation(TechniqueContract):
    name = "partial"
    settings: ClassVar = {"epochs": 4, "augment": True}
    accuracy = 0.5


class TestFull(TechniqueContract):
    name = "full"
    settings: ClassVar = {"epochs": 15}


class TestLpFt(TechniqueContract):
    name = "lp-ft"
    settings: ClassVar = {"epochs": 4}


class TestFrozenByCentroid(TechniqueContract):
    name = "frozen"
    settings: ClassVar = {"head": "centroid"}
    accuracy = 0.5


class TestScratch(TechniqueContract):
    name = "scratch"
    settings: ClassVar = {"epochs": 15}


class TestLayers(TechniqueContract):
    name = "layers"


class TestLayersByName(TechniqueContract):
    name = "layers"
    settings: ClassVar = {"cuts": ["pool", "low"]}


class TestLora(TechniqueContract):
    name = "lora"
    settings: ClassVar = {"epochs": 3, "rank": 2, "learning_rate": 0.01}

    def moves(self, parameter: Tensor) -> bool:
        return parameter.ndim > 1


class TestContrastive(TechniqueContract):
    name = "contrastive"
    settings: ClassVar = {"pairs": 2, "most_steps": 12, "learning_rate": 1e-3}


class TestFrozenOnTexts(OnTexts):
    name = "frozen"


class TestLayersOnTexts(OnTexts):
    name = "layers"
    settings: ClassVar = {"cuts": ["low", "pool"]}


class TestPartialOnTexts(OnTexts):
    name = "partial"
    settings: ClassVar = {"epochs": 3}


class TestFullOnTexts(OnTexts):
    name = "full"
    settings: ClassVar = {"epochs": 12, "learning_rate": 0.01}


class TestLpFtOnTexts(OnTexts):
    name = "lp-ft"
    settings: ClassVar = {"epochs": 3}


class TestLoraOnTexts(TestLora, OnTexts):
    pass


class TestContrastiveOnTexts(TestContrastive, OnTexts):
    pass


class TestScratchOnTexts(OnTexts):
    name = "scratch"
    settings: ClassVar = {"epochs": 12, "learning_rate": 0.01}


@dataclass(frozen=True, kw_only=True)
class Remembering(TinySource):
    """Keeps hold of the networks that it gave away, as careless code would."""

    given: list[Stages] = field(default_factory=list)

    def load(self, seed: int | None = None) -> Stages:
        stages = super().load(seed)
        self.given.append(stages)
        return stages


@dataclass(frozen=True)
class Drift(Callback):
    """Runs the frozen stages in training mode, so that batch-norm statistics move."""

    source: Remembering
    pixels: Tensor

    def on_epoch(self, network: nn.Module, epoch: Epoch) -> None:
        low = self.source.given[-1].stages[0]
        for module in low.modules():
            module.train()
        with torch.no_grad():
            low(self.pixels)


@pytest.mark.parametrize("settings", [{"epochs": 1}, {"epochs": 1, "augment": True}])
def test_batch_norm_statistics_that_drift_in_a_frozen_trunk_are_caught(
    shapes_data: Dataset, settings: dict[str, Any]
) -> None:
    source = Remembering()
    rogue = Drift(source, torch.from_numpy(shapes_data.pixels[:8]))
    context = Context(device=CPU, callbacks=(rogue,))
    with pytest.raises(FrozenPartMoved, match=r"low: 1\.1\.running_mean"):
        technique("partial", settings).fit(source, shapes_data, context)


def test_training_alone_moves_no_statistics_of_a_frozen_stage(shapes_data: Dataset) -> None:
    augmented = technique("partial", {"epochs": 2, "augment": True})
    assert augmented.fit(TinySource(), shapes_data, Context(device=CPU)).frozen == 1


def test_depth_counts_stages_with_parameters_from_the_top(shapes_data: Dataset) -> None:
    shallow = technique("partial", {"epochs": 1}).fit(TinySource(), shapes_data, Context(device=CPU))
    deep = technique("partial", {"epochs": 1, "depth": 2}).fit(TinySource(), shapes_data, Context(device=CPU))
    assert (shallow.depth, shallow.frozen) == (1, 1)
    assert (deep.depth, deep.frozen) == (2, 0)


def test_a_depth_beyond_the_network_is_refused(shapes_data: Dataset) -> None:
    with pytest.raises(InvalidSetting, match="2 stages to retrain, got a depth of 3"):
        technique("partial", {"depth": 3}).fit(TinySource(), shapes_data, Context(device=CPU))


def test_frozen_learns_from_the_validation_part_too_because_it_chooses_nothing_by_it(
    shapes_data: Dataset,
) -> None:
    everything = shapes_data.index(TRAIN, VALIDATION)
    cut = shapes_data.divided({TRAIN: everything[::2], VALIDATION: everything[1::2]})
    whole = shapes_data.divided({TRAIN: everything})
    first, second = (
        technique("frozen", {"calibrate": False}).fit(TinySource(), data, Context(device=CPU))
        for data in (cut, whole)
    )
    assert torch.equal(first.weight, second.weight)  # type: ignore[arg-type]  # a tensor


def test_training_stops_early_and_keeps_the_best_epoch(shapes_data: Dataset) -> None:
    index = shapes_data.index(TRAIN, VALIDATION)
    data = shapes_data.divided({TRAIN: index[::2], VALIDATION: index[1::2]})
    settings = {"epochs": 60, "patience": 2, "learning_rate": 0.3, "calibrate": False}
    fitted = technique("full", settings).fit(TinySource(), data, Context(device=CPU))
    losses = [epoch["validation_loss"] for epoch in fitted.history]
    assert len(losses) < 60 and losses.index(min(losses)) == len(losses) - 3
    held = data.index(VALIDATION)
    logits = fitted.logits(torch.from_numpy(data.pixels[held]))
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(data.targets(held))).item()
    assert loss == pytest.approx(min(losses), rel=1e-4)


def test_scratch_starts_from_other_weights_than_the_sources(shapes_data: Dataset) -> None:
    fits = [
        technique("scratch", {"epochs": 1}).fit(TinySource(), shapes_data, Context(seed=seed, device=CPU))
        for seed in (1, 2)
    ]
    first, second = (fitted.stages.stages[0].state_dict()["1.0.weight"] for fitted in fits)
    assert not torch.equal(first, second)


def test_an_interrupt_leaves_the_process_as_it_was(shapes_data: Dataset) -> None:
    class Interrupt(Callback):
        def on_step(self, network: nn.Module, loss: float) -> None:
            raise KeyboardInterrupt

    state = torch.random.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        technique("full").fit(TinySource(), shapes_data, Context(device=CPU, callbacks=(Interrupt(),)))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_small_dataset_gets_more_epochs_and_flags_win() -> None:
    full = technique("full")
    assert isinstance(full, Trained)
    stages = TinySource().load()
    assert full.plan(stages, 50).epochs == 200
    assert full.plan(stages, 500).epochs == 32
    assert full.plan(stages, 100_000).epochs == 10
    chosen = technique("full", {"epochs": 3})
    assert isinstance(chosen, Trained) and chosen.plan(stages, 50).epochs == 3


def test_networks_with_layer_normalisation_are_trained_by_adamw() -> None:
    stages = TinySource().load()
    full = technique("full")
    assert isinstance(full, Trained)
    assert full.plan(stages, 100).optimiser == "sgd"
    stages.stages.append(nn.LayerNorm(DIMENSION))
    plan = full.plan(stages, 100)
    assert (plan.optimiser, plan.learning_rate) == ("adamw", 1e-4)


def test_as_is_answers_with_the_sources_own_logits_where_labels_coincide(shapes_data: Dataset) -> None:
    source = TinySource(labels=("Ring", "DISC", "bars", "checks"))
    fitted = technique("as-is").fit(source, shapes_data, Context(device=CPU))
    pixels = torch.from_numpy(shapes_data.pixels[:7])
    with torch.no_grad():
        own = source.load().logits(pixels)
    assert fitted.labels == ("bars", "checks", "disc")
    assert torch.allclose(fitted.logits(pixels), own[:, [2, 3, 1]], atol=1e-6)
    assert fitted.weight is not None


def test_as_is_adds_up_the_probabilities_of_labels_that_stand_for_one(shapes_data: Dataset) -> None:
    source = TinySource(labels=("a", "b", "c", "d"))
    names = {"bars": ["a", "d"], "checks": "b", "disc": [2]}
    fitted = technique("as-is", {"label_map": names}).fit(source, shapes_data, Context(device=CPU))
    pixels = torch.from_numpy(shapes_data.pixels[:7])
    with torch.no_grad():
        own = source.load().logits(pixels).softmax(dim=1)
    expected = torch.stack([own[:, 0] + own[:, 3], own[:, 1], own[:, 2]], dim=1)
    assert torch.allclose(fitted.logits(pixels).softmax(dim=1), expected, atol=1e-6)
    assert fitted.config == {"label_map": {"bars": [0, 3], "checks": [1], "disc": [2]}}


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        ("json", json.dumps({"bars": "a", "checks": "b", "disc": ["c"]})),
        ("toml", 'bars = "a"\nchecks = "b"\ndisc = ["c"]\n'),
    ],
)
def test_a_label_map_is_read_from_a_file(
    tmp_path: Path, shapes_data: Dataset, suffix: str, text: str
) -> None:
    file = tmp_path / f"map.{suffix}"
    file.write_text(text)
    source = TinySource(labels=("a", "b", "c", "d"))
    fitted = technique("as-is", {"label_map": str(file)}).fit(source, shapes_data, Context(device=CPU))
    assert fitted.config == {"label_map": {"bars": [0], "checks": [1], "disc": [2]}}


def test_a_label_map_that_is_too_large_is_refused_and_not_cut(tmp_path: Path) -> None:
    file = tmp_path / "map.toml"
    file.write_text('bars = "a"\n' + "# more\n" * 200_000 + 'checks = "b"\n')
    with pytest.raises(InvalidSetting, match="label map has at most 1,048,576 bytes"):
        read_label_map(file)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"bars": "a", "checks": "b", "disc": "e"}, "no label 'e'"),
        ({"bars": "a", "checks": "a", "disc": "c"}, "can be used once"),
        ({"bars": 9, "checks": "a", "disc": "c"}, "labels 0 to 3, got 9"),
        ({"bars": [], "checks": "a", "disc": "c"}, "by name or number"),
        ({"bars": 1.5, "checks": "a", "disc": "c"}, "by name or number"),
    ],
)
def test_a_wrong_label_map_is_refused(shapes_data: Dataset, names: dict[str, Any], message: str) -> None:
    source = TinySource(labels=("a", "b", "c", "d"))
    with pytest.raises(InvalidSetting, match=message):
        technique("as-is", {"label_map": names}).fit(source, shapes_data, Context(device=CPU))


def test_as_is_names_the_labels_that_nothing_stands_for(shapes_data: Dataset) -> None:
    with pytest.raises(DatasetError, match=r"'disc' \(the nearest is 'discs'\).*give a label map"):
        technique("as-is").fit(
            TinySource(labels=("bars", "checks", "discs", "ring")), shapes_data, Context(device=CPU)
        )


def test_two_source_labels_of_one_name_need_a_number(shapes_data: Dataset) -> None:
    source = TinySource(labels=("bars", "checks", "disc", "disc"))
    with pytest.raises(DatasetError, match="2 labels 'disc'"):
        technique("as-is").fit(source, shapes_data, Context(device=CPU))
    names = {"bars": "bars", "checks": "checks", "disc": 3}
    fitted = technique("as-is", {"label_map": names}).fit(source, shapes_data, Context(device=CPU))
    assert fitted.config == {"label_map": {"bars": [0], "checks": [1], "disc": [3]}}


def test_joined_labels_survive_extreme_logits() -> None:
    join = JoinLabels([[0, 1], [2]])
    joined = join(torch.tensor([[1000.0, -1000.0, 999.0], [-1e4, -1e4, 0.0]]))
    assert torch.isfinite(joined).all()
    assert joined[0].tolist() == [1000.0, 999.0]


class Scramble(nn.Module):
    """Leaves numbers that depend on what it takes, and say nothing of it."""

    def forward(self, maps: Tensor) -> Tensor:
        return torch.sin(1e4 * maps)


@dataclass(frozen=True, kw_only=True)
class NoisyAbove(TinySource):
    """Its upper stages carry noise."""

    def load(self, seed: int | None = None) -> Stages:
        low = super().load(seed).stages[0]
        return Stages(
            self.architecture,
            OrderedDict[str, nn.Module](low=low, high=Scramble(), pool=Pool()),
            features_dim=6,
            input_size=self.input_size,
            normalisation=self.normalisation,
        ).eval()


def test_layers_takes_a_middle_one_where_those_above_carry_noise(shapes_data: Dataset) -> None:
    fitted = technique("layers").fit(NoisyAbove(), shapes_data, Context(device=CPU))
    assert fitted.taps == (1,) and fitted.height == 1
    assert fitted.config["cuts"] == ["low"]
    assert fitted.history[0].keys() == {"cut 3", "left_out_loss"}


def test_layers_stays_with_the_last_one_where_no_other_is_worth_its_room(shapes_data: Dataset) -> None:
    fitted = technique("layers", {"most": 1}).fit(TinySource(), shapes_data, Context(device=CPU))
    assert len(fitted.taps) == 1


def test_layers_names_the_cut_points_that_there_are(shapes_data: Dataset) -> None:
    with pytest.raises(InvalidSetting, match="the cut points low, high, pool, got 'top'"):
        technique("layers", {"cuts": ["top"]}).fit(TinySource(), shapes_data, Context(device=CPU))


@dataclass
class AtTheEnd(Callback):
    """Looks at the network when it has been trained, before anything is merged."""

    fields: dict[str, Tensor]
    logits: Tensor | None = None
    weights: dict[str, Tensor] = field(default_factory=dict)

    def on_end(self, network: nn.Module, history: Sequence[Epoch]) -> None:
        network.train(False)
        with torch.no_grad():
            self.logits = network(self.fields)
        self.weights = {name: each.clone() for name, each in network.state_dict().items()}


@pytest.fixture
def updated(moods_data: Dataset) -> tuple[AtTheEnd, Fitted]:
    """A network of texts with updates beside its weights, and what became of it."""
    fields = tensors(moods_data.rows.batch(np.arange(9)), CPU)
    with torch.no_grad():
        carried = TinyTextSource().load().run(fields["input_ids"], stop=1)
    watcher = AtTheEnd(fields | {"h": carried})
    lora = technique("lora", TestLora.settings)
    return watcher, lora.fit(TinyTextSource(), moods_data, Context(device=CPU, callbacks=(watcher,)))


def test_lora_moves_no_weight_of_the_source_while_it_trains(updated: tuple[AtTheEnd, Fitted]) -> None:
    watcher, _ = updated
    source = TinyTextSource().load()
    own = {
        name.removeprefix("0.stages.").replace(".base_layer", ""): tensor
        for name, tensor in watcher.weights.items()
        if name.startswith("0.") and "lora_" not in name
    }
    expected = {
        f"{stage}.{name}": tensor
        for stage, module in zip(source.names[1:], source.stages[1:], strict=True)
        for name, tensor in module.state_dict().items()
    }
    assert own.keys() == expected.keys()
    assert all(torch.equal(own[name], expected[name]) for name in own)
    assert sum("lora_B" in name for name in watcher.weights) == 5


def test_a_merged_network_answers_as_it_did_with_updates_beside_it(
    updated: tuple[AtTheEnd, Fitted],
) -> None:
    watcher, fitted = updated
    assert watcher.logits is not None
    torch.testing.assert_close(fitted.logits(watcher.fields), watcher.logits, rtol=0, atol=1e-5)


def test_nothing_of_an_update_is_left_after_merging(updated: tuple[AtTheEnd, Fitted]) -> None:
    _, fitted = updated
    source = TinyTextSource().load()
    assert [*fitted.stages.state_dict()] == [*source.state_dict()]
    assert [type(each) for each in fitted.stages.modules()] == [type(each) for each in source.modules()]


def test_a_weight_that_moves_beside_its_update_is_caught(moods_data: Dataset) -> None:
    class Push(Callback):
        def on_epoch(self, network: nn.Module, epoch: Epoch) -> None:
            with torch.no_grad():
                network.get_parameter("0.stages.high.value.bias").add_(1)

    lora = technique("lora", {"epochs": 1})
    with pytest.raises(FrozenPartMoved, match="LoRA leaves alone"):
        lora.fit(TinyTextSource(), moods_data, Context(device=CPU, callbacks=(Push(),)))


def test_lora_counts_only_stages_that_it_can_update(moods_data: Dataset) -> None:
    with pytest.raises(InvalidSetting, match="2 stages to update, got a depth of 3"):
        technique("lora", {"depth": 3}).fit(TinyTextSource(), moods_data, Context(device=CPU))


@pytest.mark.parametrize("name", ["frozen", "layers", "full"])
def test_each_of_several_labels_is_learnt(words_data: Dataset, name: str) -> None:
    settings = {"full": {"epochs": 15, "learning_rate": 0.02}}.get(name, {})
    fitted = technique(name, settings).fit(TinyTextSource(), words_data, Context(device=CPU))
    index = words_data.index(TEST)
    logits = fitted.logits(tensors(words_data.rows.batch(index), CPU)).numpy()
    assert fitted.kind == "multilabel"
    assert ((logits > 0) == words_data.targets(index).astype(bool)).mean() > 0.8


@pytest.mark.parametrize("name", ["contrastive", "frozen"])
def test_what_asks_for_one_label_refuses_several(words_data: Dataset, name: str) -> None:
    settings = {"head": "centroid"} if name == "frozen" else {}
    with pytest.raises(DatasetError, match="several"):
        technique(name, settings).fit(TinyTextSource(), words_data, Context(device=CPU))


def test_an_unknown_technique_names_the_nearest() -> None:
    with pytest.raises(InvalidSetting, match="did you mean 'frozen'"):
        technique("froze")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("full", {"learning_rat": 0.1}, "did you mean 'learning_rate'"),
        ("full", {"epochs": 0}, "epochs is 1 to"),
        ("full", {"epochs": True}, "epochs is int"),
        ("full", {"optimiser": "adam"}, "one of auto, sgd, adamw"),
        ("full", {"learning_rate": -1}, "learning_rate is above 0"),
        ("full", {"batch_size": 1}, "batch_size is 2"),
        ("frozen", {"epochs": 3}, "no setting 'epochs'"),
        ("frozen", {"l2": 0}, "l2 is above 0"),
        ("partial", {"depth": 0}, "depth is 1"),
        ("features", {"depth": 1}, "takes none"),
        ("lora", {"rank": 0}, "rank is 1"),
        ("lora", {"unfreeze": "gradual"}, "unfreeze is at-once"),
        ("lora", {"batch_norm": "learn"}, "batch_norm is keep"),
        ("layers", {"cuts": []}, "cuts is one cut point"),
        ("layers", {"cuts": "pool"}, "cuts is a list"),
        ("contrastive", {"pairs": 0}, "pairs is 1"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSetting, match=message):
        technique(name, settings)


def test_one_class_alone_cannot_be_learnt(shapes_data: Dataset) -> None:
    index = np.flatnonzero([item.label == "bars" for item in shapes_data.items])
    one = Dataset(
        name="one",
        recipe=shapes_data.recipe,
        items=tuple(shapes_data.items[at] for at in index),
        labels=("bars",),
        parts={TRAIN: np.arange(len(index) - 2), TEST: np.arange(len(index) - 2, len(index))},
        rows=DenseRows({"pixels": shapes_data.pixels[index]}),
    )
    for name in ("frozen", "partial", "full", "lp-ft", "scratch"):
        with pytest.raises(DatasetError, match="two or more"):
            technique(name).fit(TinySource(), one, Context(device=CPU))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("finetune", "full"),
        ("fine-tune", "full"),
        ("Fine_Tuning", "full"),
        ("linear-probe", "frozen"),
        ("linear_probe", "frozen"),
        ("head-only", "frozen"),
        ("feature-extraction", "features"),
        ("FULL", "full"),
        ("lp_ft", "lp-ft"),
        ("setfit", "contrastive"),
    ],
)
def test_a_techniques_name_elsewhere_is_suggested_by_ours(name: str, meant: str) -> None:
    with pytest.raises(InvalidSetting, match=f"got '{name}'; did you mean '{meant}'"):
        technique(name)


def test_every_name_elsewhere_is_no_name_of_ours() -> None:
    assert set(ALIASES.values()) <= TECHNIQUES.keys()
    assert ALIASES.keys().isdisjoint(TECHNIQUES)
