"""The whole trip, from a folder of pictures to a promoted version, on a source that trains in a blink."""

import multiprocessing
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.adaptation import Adaptation, Order, adapt
from adapters.datasets import load
from adapters.publish import weights_digests
from registry.blobs import open_blobs
from registry.digests import Digest
from registry.errors import DatasetError, InvalidSetting, ParityError
from registry.manifest import FEATURES, LOGITS
from registry.predictions import Predictions
from registry.program import Program
from registry.registry import Registry
from registry.settings import Settings
from tests.adapters.tiny import TinySource, write_shapes
from tests.adapters.tiny_text import TinyTextSource, write_texts, write_words

TECHNIQUES = ("as-is", "features", "frozen", "partial", "full", "lp-ft", "scratch")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes"), per_class=30)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings.read(tmp_path_factory.mktemp("home"), actor="ada", environment={})


@pytest.fixture(scope="module")
def registry(settings: Settings) -> Iterator[Registry]:
    with Registry.open(settings) as registry:
        yield registry


def order(folder: Path, technique: str, **changes: Any) -> Order:
    settings = {} if technique in ("as-is", "features", "frozen") else {"epochs": 2}
    if technique == "partial":
        settings["depth"] = 1
    base = Order(
        data=str(folder), source=TinySource(), target="figures", technique=technique, settings=settings
    )
    return replace(base, **changes)


def run(folder: Path, registry: Registry, technique: str, **changes: Any) -> Adaptation:
    return adapt(order(folder, technique, **changes), registry)


def _adapt_elsewhere(folder: Path, settings: Settings, target: str) -> None:
    with Registry.open(settings) as registry:
        run(folder, registry, "frozen", target=target)


def roles(adaptation: Adaptation) -> list[str]:
    return [segment.role for segment in adaptation.manifest.segments]


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_every_technique_is_proved_and_registered(technique: str, folder: Path, registry: Registry) -> None:
    adaptation = run(folder, registry, technique, target=f"figures-{technique}")
    version, manifest = adaptation.version, adaptation.manifest
    assert version.digest == manifest.digest == registry.resolve(version.ref).digest
    assert version.source == ("random" if technique == "scratch" else "shapes")
    assert version.stages == ("candidate",)
    assert sum(manifest.parity.inputs.values()) == 256
    for name, difference in manifest.parity.max_abs_difference.items():
        assert difference <= manifest.parity.tolerance[name]
    if technique == "features":
        assert version.kind == "embedding" and not manifest.heads
    else:
        assert manifest.parity.top1_agreement == 1.0
        assert manifest.heads[0].labels[:3] == ("bars", "checks", "disc")


@pytest.mark.parametrize(
    ("technique", "expected"),
    [
        ("frozen", ["trunk", "trunk", "trunk", "head"]),
        ("features", ["trunk", "trunk", "trunk"]),
        ("partial", ["trunk", "tail", "tail", "head"]),
        ("full", ["tail", "tail", "tail", "head"]),
        ("scratch", ["tail", "tail", "tail", "head"]),
    ],
)
def test_segments_say_what_was_frozen(
    technique: str, expected: list[str], folder: Path, registry: Registry
) -> None:
    assert roles(run(folder, registry, technique, target=f"figures-{technique}")) == expected


def stored(settings: Settings) -> set[str]:
    return {blob.digest for blob in open_blobs(settings).list()}


TEXTS: dict[str, tuple[str, dict[str, object], list[str]]] = {
    "frozen": ("frozen", {}, ["trunk"] * 4 + ["head"]),
    "layers": ("layers", {"cuts": ["low", "high"]}, ["trunk"] * 4 + ["head"]),
    "layers-to-the-top": ("layers", {"cuts": ["low", "pool"]}, ["trunk"] * 5 + ["head"]),
    "lora": ("lora", {"epochs": 2}, ["trunk"] + ["tail"] * 3 + ["head"]),
    "several": ("frozen", {}, ["trunk"] * 4 + ["head"]),
}
"""By target: the technique, its settings, and what the segments are."""


@pytest.fixture(scope="module")
def moods(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    tables = tmp_path_factory.mktemp("texts")
    one, several = write_texts(tables / "moods.csv", 40), write_words(tables / "words.csv", 80)
    return {name: several if name == "several" else one for name in TEXTS}


@pytest.fixture(scope="module")
def carried(moods: dict[str, Path], registry: Registry) -> dict[str, Adaptation]:
    return {
        name: adapt(
            Order(
                data=str(moods[name]),
                source=TinyTextSource(),
                target=f"moods-{name}",
                technique=technique,
                settings=settings,
            ),
            registry,
        )
        for name, (technique, settings, _) in TEXTS.items()
    }


@pytest.mark.parametrize("name", TEXTS)
def test_versions_of_texts_are_proved_and_registered(name: str, carried: dict[str, Adaptation]) -> None:
    manifest = carried[name].manifest
    assert manifest.modality == "text" and roles(carried[name]) == TEXTS[name][2]
    assert sum(manifest.parity.inputs.values()) == 256
    assert manifest.parity.max_abs_difference.keys() == {FEATURES, LOGITS}
    for port, difference in manifest.parity.max_abs_difference.items():
        assert difference <= manifest.parity.tolerance[port]
    assert manifest.heads[0].kind == ("multilabel" if name == "several" else "classification")


@pytest.mark.parametrize("name", TEXTS)
def test_a_version_of_texts_classifies_what_it_never_saw(
    name: str, carried: dict[str, Adaptation], registry: Registry
) -> None:
    manifest = carried[name].manifest
    program, recipe = Program(manifest, registry.blob, outputs=[LOGITS]), registry.recipe(manifest)
    labels = manifest.heads[0].labels
    texts = ["good good day", "a good the good night , good", "bad bad day", "a bad the bad night , bad"]
    logits = program.run(recipe.collate([recipe.prepare(text) for text in texts]))[LOGITS]
    assert logits.shape == (4, len(labels))
    if name == "several":
        good, bad = logits[:, labels.index("good")], logits[:, labels.index("bad")]
        assert (good > 0).tolist() == [True, True, False, False] == (bad < 0).tolist()
    else:
        answers = [labels[at] for at in logits.argmax(axis=1)]
        assert answers == ["glad", "glad", "sad", "sad"]


def test_features_of_other_layers_are_another_space(carried: dict[str, Adaptation]) -> None:
    spaces = {
        name: adaptation.manifest.space
        for name, adaptation in carried.items()
        if adaptation.manifest.space is not None
    }
    assert spaces["frozen"].id == spaces["several"].id
    assert len({space.id for space in spaces.values()}) == 4
    assert (spaces["layers"].pooling, spaces["layers"].dimension) == ("avg+avg", 16)
    assert (spaces["frozen"].pooling, spaces["frozen"].dimension) == ("mean", 8)


def test_stages_above_the_last_layer_taken_are_left_out(carried: dict[str, Adaptation]) -> None:
    names = [segment.name for segment in carried["layers"].manifest.segments]
    assert names == ["embeddings", "low", "high", "readout", "head"]
    below = [segment.digest for segment in carried["frozen"].manifest.segments][:3]
    assert [segment.digest for segment in carried["layers"].manifest.segments][:3] == below


def test_merged_updates_share_the_stage_below_them(carried: dict[str, Adaptation]) -> None:
    lora, frozen = (
        [segment.digest for segment in carried[name].manifest.segments] for name in ("lora", "frozen")
    )
    assert lora[0] == frozen[0] and lora[3] == frozen[3]
    assert lora[1] != frozen[1] and lora[2] != frozen[2]


def test_two_frozen_targets_share_the_whole_trunk(
    folder: Path, registry: Registry, settings: Settings, tmp_path: Path
) -> None:
    first = run(folder, registry, "frozen", target="one")
    before = stored(settings)
    second = run(write_shapes(tmp_path, per_class=25, start=100), registry, "frozen", target="two")
    trunks = [
        [segment.digest for segment in each.manifest.segments if segment.role == "trunk"]
        for each in (first, second)
    ]
    assert trunks[0] == trunks[1]
    assert first.version.space_id == second.version.space_id
    (head,) = (segment.digest for segment in second.manifest.segments if segment.role == "head")
    own = {
        digest
        for kind, digest in second.manifest.blobs()
        if kind in ("items", "predictions", "evidence", "sketch")
    }
    assert stored(settings) - before == own | {head, second.version.digest}


def test_a_retrained_last_stage_shares_all_below_and_leaves_the_space(
    folder: Path, registry: Registry
) -> None:
    frozen = run(folder, registry, "frozen", target="one")
    partial = run(folder, registry, "partial", target="three")
    below = [segment.digest for segment in frozen.manifest.segments]
    above = [segment.digest for segment in partial.manifest.segments]
    assert above[0] == below[0]
    assert above[1] != below[1]
    assert above[2] == below[2], "pooling holds no weights: it is shared above a retrained stage as well"
    assert partial.version.space_id != frozen.version.space_id


def test_another_process_writes_the_same_trunk(folder: Path, registry: Registry, tmp_path: Path) -> None:
    here = run(folder, registry, "frozen", target="one")
    elsewhere = Settings.read(tmp_path, actor="bob", environment={})
    process = multiprocessing.get_context("spawn").Process(
        target=_adapt_elsewhere, args=(folder, elsewhere, "one")
    )
    process.start()
    process.join(120)
    assert process.exitcode == 0
    with Registry.open(elsewhere) as other:
        there = other.manifest(other.resolve("one@1"))
    assert [each.digest for each in there.segments[:3]] == [
        each.digest for each in here.manifest.segments[:3]
    ]


def test_the_same_order_again_returns_the_same_version(folder: Path, registry: Registry) -> None:
    first = run(folder, registry, "frozen", target="again")
    again = run(folder, registry, "frozen", target="again")
    assert again.version.ref == first.version.ref
    assert len(registry.versions(target="again").versions) == 1


def test_it_is_promoted_when_that_is_asked_for(folder: Path, registry: Registry) -> None:
    adaptation = run(folder, registry, "frozen", target="live", promote="production")
    assert adaptation.version.stages == ("production",)
    assert registry.resolve("live").ref == adaptation.version.ref
    assert adaptation.promotion is not None


def test_stored_predictions_are_those_that_the_version_gives(folder: Path, registry: Registry) -> None:
    manifest = run(folder, registry, "frozen", target="predicted").manifest
    assert manifest.predictions is not None
    predictions = Predictions.parse(registry.blob(manifest.predictions))
    dataset = load(folder, TinySource().recipe)
    program = Program(manifest, registry.blob, outputs=[LOGITS])
    held_out = {item.digest: item for item in dataset.split("test")}
    recipe = registry.recipe(manifest)
    for raw, logits in list(zip(predictions.items, predictions.logits, strict=True))[:5]:
        item = held_out[Digest(f"sha256:{raw.tobytes().hex()}")]
        answer = program.run(recipe.collate([recipe.prepare(item.read())]))[LOGITS][0]
        np.testing.assert_allclose(answer, logits, atol=1e-4)
    right = (predictions.logits.argmax(axis=1) == predictions.labels).mean()
    assert manifest.metrics["accuracy"] == pytest.approx(float(right))


def test_what_it_learnt_from_is_recorded_by_item(folder: Path, registry: Registry) -> None:
    manifest = run(folder, registry, "frozen", target="recorded").manifest
    lines = {name: registry.blob(part.items).decode().split() for name, part in manifest.parts.items()}
    assert {name: len(digests) for name, digests in lines.items()} == {
        name: part.count for name, part in manifest.parts.items()
    }
    assert not set(lines["train"]) & set(lines["test"])


def test_the_sources_weights_are_named_by_their_digest(folder: Path, registry: Registry) -> None:
    manifest = run(folder, registry, "full", target="origin").manifest
    assert manifest.origin.weights == Digest.of_json(list(weights_digests(TinySource().load())))
    assert manifest.origin.spec == "tiny:shapes"


def test_a_declared_source_task_is_not_overruled(folder: Path, registry: Registry) -> None:
    with pytest.raises(InvalidSetting, match="declares the task 'shapes'"):
        run(folder, registry, "frozen", source_task="imagenet-1k")


def test_a_least_count_of_labels_needs_labels(folder: Path, registry: Registry) -> None:
    with pytest.raises(
        InvalidSetting, match="expected no least count of labels, because features needs none"
    ):
        run(folder, registry, "features", target="counted", min_count=2)
    with pytest.raises(DatasetError, match="at least 1000 examples have"):
        run(folder, registry, "frozen", target="counted", min_count=1000)


def test_an_export_that_answers_otherwise_is_not_registered(
    folder: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Program.run

    def off(
        self: Program, fields: dict[str, np.ndarray], outputs: list[str] | None = None
    ) -> dict[str, np.ndarray]:
        answer = original(self, fields, outputs)
        return answer | {FEATURES: answer[FEATURES] + np.float32(0.01)} if FEATURES in answer else answer

    monkeypatch.setattr(Program, "run", off)
    with pytest.raises(ParityError, match="features: the exported version differs"):
        run(folder, registry, "frozen", target="off")
    assert "off" not in registry.targets()
