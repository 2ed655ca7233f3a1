"""Every technique on every family of sources: what is frozen stays the source's, what is served answers as torch.

Weights are random and small, saved as each family saves its own; those of ``bundled:glyphs`` are real.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load
from torch import nn

from adapters import techniques
from adapters.adaptation import Adaptation, Order, adapt
from adapters.freezing import FreezeProof
from adapters.parity import MIN_INPUTS
from adapters.publish import weights_digests
from adapters.sources.providers import SCHEMES, find, offered
from adapters.sources.source import Source
from adapters.sources.stages import FrozenStage, Stages
from adapters.sources.weights import holds_weights
from adapters.techniques import TECHNIQUES, Context
from adapters.techniques.trained import Trained
from adapters.training import Callback, Epoch
from registry.errors import CultivarError, DatasetError, FrozenPartMoved, InvalidSetting
from registry.manifest import CLASSIFICATION, MULTILABEL, Manifest, Segment
from registry.registry import Registry
from registry.settings import Settings
from services.commands import demo
from tests.adapters.families import Families
from tests.adapters.tiny import SHAPES

Case = tuple[str, str, Mapping[str, Any], bool]
"""Family, technique, its settings, and whether items have several labels."""
Cell = tuple[str, str, bool]
"""Family, technique, and whether items have several labels."""

ROOT = Path(__file__).parents[2]
BRIEF = {"epochs": 2, "batch_size": 8}
PAIRS = {"most_steps": 4, "batch_size": 8}
LETTERS = {"label_map": {"bars": "H", "checks": ["X", "K"], "disc": "O"}}
NUMBERS = {"label_map": {name: number for number, name in enumerate(SHAPES)}}

# An export takes seconds, however small the network: every pair would take many minutes. So glyphs go through
# all techniques for pictures, BERT through those that texts need, and each other family through some that keep
# stages and some that retrain them. The rest is in WHOLE, which ``--whole`` adds.
MATRIX: Mapping[str, list[tuple[str, Mapping[str, Any]]]] = {
    "glyphs": [
        ("as-is", LETTERS),
        ("features", {}),
        ("frozen", {}),
        ("frozen", {"head": "ridge"}),
        ("frozen", {"head": "centroid"}),
        ("layers", {}),
        ("partial", BRIEF),
        ("full", BRIEF),
        ("lp-ft", BRIEF),
        ("lora", BRIEF),
        ("scratch", BRIEF),
    ],
    # 256 pictures of 224 or 160 pixels are compared once; the rest is shown on fewer pixels.
    "torchvision": [("frozen", {})],
    "torchvision, smaller": [("as-is", NUMBERS), ("partial", BRIEF)],
    "timm, convolutions": [("frozen", {})],
    "timm, smaller": [("full", BRIEF)],
    "timm, transformer": [("lora", BRIEF)],
    "hf, texts": [
        ("frozen", {}),
        ("layers", {}),
        ("partial", BRIEF),
        ("full", BRIEF),
        ("lora", BRIEF),
        ("contrastive", PAIRS),
    ],
    "hf, labelled": [("as-is", {})],
    "hf, pictures": [
        ("frozen", {}),
        ("partial", BRIEF),
        ("lora", BRIEF),
        ("contrastive", PAIRS),
    ],
    "vectors": [("frozen", {}), ("partial", BRIEF)],
    # What one transfer retrained is the next one's frozen part.
    "registry": [("as-is", {}), ("frozen", {}), ("partial", BRIEF), ("lora", BRIEF)],
}
SEVERAL: list[tuple[str, str, Mapping[str, Any]]] = [
    ("hf, texts", "full", BRIEF),
    ("hf, texts", "lora", BRIEF),
    ("hf, pictures", "frozen", {}),
]
CASES: list[Case] = [
    *(
        (family, technique, settings, False)
        for family, pairs in MATRIX.items()
        for technique, settings in pairs
    ),
    *((family, technique, settings, True) for family, technique, settings in SEVERAL),
]

SMALLER = {"torchvision": "torchvision, smaller", "timm, convolutions": "timm, smaller"}
"""What a family is shown by where its own pixels would cost minutes."""
PRODUCT: list[Cell] = [
    *(
        (family, technique, False)
        for family in MATRIX
        if family not in SMALLER.values()
        for technique in TECHNIQUES
    ),
    *(
        (family, technique, True)
        for family in dict.fromkeys(family for family, _, _ in SEVERAL)
        for technique in ("frozen", "partial", "full", "lora")
    ),
]
UNLABELLED = (DatasetError, "has no output layer and no labels of its own; take another technique than as-is")
REFUSED: Mapping[Cell, tuple[type[CultivarError], str]] = {
    ("hf, texts", "as-is", False): UNLABELLED,
    ("hf, pictures", "as-is", False): UNLABELLED,
    ("vectors", "as-is", False): UNLABELLED,
    ("vectors", "lora", False): (InvalidSetting, "has 0 stages to update"),
}


def settings_of(technique: str) -> Mapping[str, Any]:
    """Return settings under which a technique takes seconds."""
    brief: Mapping[str, Mapping[str, Any]] = {"as-is": NUMBERS, "contrastive": PAIRS}
    return brief.get(technique, BRIEF if issubclass(TECHNIQUES[technique], Trained) else {})


def proved(cases: Iterable[Case]) -> set[Cell]:
    """Return the cells of the product that cases are of."""
    family_of = {smaller: family for family, smaller in SMALLER.items()}
    return {(family_of.get(family, family), technique, several) for family, technique, _, several in cases}


WHOLE: list[Case] = [
    (SMALLER.get(family, family), technique, settings_of(technique), several)
    for family, technique, several in PRODUCT
    if (family, technique, several) not in proved(CASES) | REFUSED.keys()
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        cases = CASES + (WHOLE if metafunc.config.getoption("whole") else [])
        metafunc.parametrize("case", cases, ids=name)


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Families]:
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        yield Families(tmp_path_factory.mktemp("families"), patch)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry for all of them; what is in it at the end is sound."""
    settings = Settings.read(tmp_path_factory.mktemp("registry"), actor="ada", environment={})
    with Registry.open(settings) as registry:
        yield registry
        report = registry.verify()
        assert report.ok and bool(report.checked) == bool(registry.targets())


@pytest.fixture(scope="module")
def source(families: Families, registry: Registry) -> Callable[[str], Source]:
    """Returns the source of a family; that of the registry is a version with two stages retrained."""

    @cache
    def registered() -> Source:
        settings = BRIEF | {"depth": 2}
        version = carried(
            registry, families.source("glyphs"), families.data("glyphs"), "partial", settings
        ).version
        return find(f"registry:{version.ref}", registry)

    return lambda family: registered() if family == "registry" else families.source(family)


def carried(
    registry: Registry,
    source: Source,
    data: str,
    technique: str,
    settings: Mapping[str, Any],
    target: str = "outlines",
) -> Adaptation:
    order = Order(
        data=data,
        source=source,
        target=target,
        technique=technique,
        settings=settings,
        source_task=None if source.task or technique == "scratch" else "made-up",
    )
    return adapt(order, registry)


def name(case: Case) -> str:
    family, technique, settings, several = case
    words = [
        family,
        technique,
        *([settings["head"]] if "head" in settings else []),
        *["several labels"] * several,
    ]
    return ", ".join(words)


def test_what_is_frozen_is_the_sources_and_what_is_served_answers_as_torch(
    case: Case,
    families: Families,
    source: Callable[[str], Source],
    registry: Registry,
) -> None:
    family, technique, settings, several = case
    origin = source(family)
    target = re.sub("[^a-z]+", "-", name(case))
    adaptation = carried(registry, origin, families.data(family, several), technique, settings, target)
    manifest = adaptation.manifest
    _check_parity(manifest)
    untouched = origin.load()
    stages = {segment.name: segment for segment in manifest.segments if segment.name in untouched.names}
    roles = [segment.role for segment in stages.values()]
    assert roles == _roles(technique, untouched)[: len(roles)]
    for k, (own, digest) in enumerate(zip(untouched.names, weights_digests(untouched), strict=True)):
        if own not in stages:
            assert technique == "layers"
        elif stages[own].role == "trunk" or not _retrained(technique, untouched, k):
            assert stages[own].weights == digest
        else:
            assert stages[own].weights != digest
            assert _stored(registry, stages[own]) == _named(untouched.stages[k])
    if manifest.heads:
        assert manifest.heads[0].kind == (MULTILABEL if several else CLASSIFICATION)
    assert registry.verify(adaptation.version.ref).ok


def _check_parity(manifest: Manifest) -> None:
    parity = manifest.parity
    assert sum(parity.inputs.values()) >= MIN_INPUTS
    assert parity.max_abs_difference.keys() == parity.tolerance.keys()
    assert "features" in parity.tolerance and ("logits" in parity.tolerance) == bool(manifest.heads)
    for output, difference in parity.max_abs_difference.items():
        assert difference <= parity.tolerance[output]


def _roles(technique: str, stages: Stages) -> list[str]:
    """Return the role that each stage has to have."""
    frozen = {
        "as-is": len(stages),
        "features": len(stages),
        "frozen": len(stages),
        "layers": len(stages),
        "partial": stages.depths()[0],
        # Embeddings of texts are no layers that a low-rank update is added to.
        "lora": next((k for k in range(len(stages)) if _updated(stages.stages[k])), 0),
    }.get(technique, 0)
    return ["trunk"] * frozen + ["tail"] * (len(stages) - frozen)


def _retrained(technique: str, stages: Stages, k: int) -> bool:
    return _updated(stages.stages[k]) if technique == "lora" else holds_weights(stages, k)


def _updated(stage: nn.Module) -> bool:
    return any(isinstance(module, nn.Linear | nn.Conv2d) for module in stage.modules())


def _stored(registry: Registry, segment: Segment) -> dict[str, torch.Size]:
    """Return names and shapes of what a retrained stage holds: no adapter's parameters are among them."""
    assert segment.state is not None
    return {name: tensor.shape for name, tensor in load(registry.blob(segment.state)).items()}


def _named(stage: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in _tensors(stage)}


def _tensors(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


def test_every_technique_occurs_and_every_family_of_sources() -> None:
    assert {technique for _, technique, _, _ in CASES} == set(TECHNIQUES)
    families = {family.partition(",")[0] for family in MATRIX}
    assert families == {"glyphs", *SCHEMES} - {"bundled"}
    for family in families:
        occurring = {technique for name, technique, _, _ in CASES if name.startswith(family)}
        assert occurring & {"frozen", "partial", "full", "lora"}


def test_every_technique_on_every_family_is_proved_or_refused() -> None:
    assert not proved(CASES + WHOLE) & REFUSED.keys()
    assert proved(CASES + WHOLE) | REFUSED.keys() == set(PRODUCT)
    told = (
        f"{len(PRODUCT)} cells, some with several labels, of which {len(PRODUCT) - len(REFUSED)} are proved\n"
    )
    assert f"{told}and {len(REFUSED)} refused" in (ROOT / "docs" / "adapting.md").read_text()


@pytest.mark.parametrize("cell", REFUSED, ids=lambda cell: ", ".join(cell[:2]))
def test_what_cannot_be_carried_over_is_refused_and_nothing_is_registered(
    cell: Cell, families: Families, source: Callable[[str], Source], registry: Registry
) -> None:
    family, technique, several = cell
    error, message = REFUSED[cell]
    data, settings = families.data(family, several), settings_of(technique)
    with pytest.raises(error, match=message):
        carried(registry, source(family), data, technique, settings, "refused")
    assert "refused" not in registry.targets()


@pytest.mark.parametrize(
    "family", [family for family, _, settings, _ in CASES + WHOLE if "label_map" in settings]
)
def test_labels_of_other_names_are_refused_without_a_map(
    family: str, families: Families, source: Callable[[str], Source], registry: Registry
) -> None:
    with pytest.raises(
        DatasetError, match=r"(knows no label for|does not say what they stand for).* label map"
    ):
        carried(registry, source(family), families.data(family), "as-is", {}, "unmapped")
    assert "unmapped" not in registry.targets()


@dataclass(frozen=True)
class Drift(Callback):
    """Runs the frozen stages in training mode, so that batch-norm statistics move."""

    pixels: torch.Tensor

    def on_epoch(self, network: nn.Module, epoch: Epoch) -> None:
        (lower,) = (part for part in network.modules() if isinstance(part, FrozenStage))
        for module in lower.stages.modules():
            module.training = True
        with torch.no_grad():
            lower(self.pixels)


@pytest.mark.parametrize("family", ["glyphs", "timm, smaller"])
def test_statistics_that_drift_in_a_frozen_part_are_caught_and_nothing_is_registered(
    family: str, families: Families, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = families.source(family)
    pixels = origin.load().example()["pixels"]
    monkeypatch.setattr(techniques, "Context", partial(Context, callbacks=(Drift(pixels),)))
    settings = BRIEF | {"augment": True}
    with pytest.raises(FrozenPartMoved, match="running_mean"):
        carried(registry, origin, families.data(family), "partial", settings, "drifted")
    assert "drifted" not in registry.targets()


def test_no_bundled_source_holds_a_number_that_the_proof_skips() -> None:
    """Every tensor below the features is a parameter or a buffer, and is hashed."""
    for origin in offered("bundled"):
        _check_proof(origin.load())


def _check_proof(stages: Stages) -> None:
    proof = FreezeProof.of(stages, len(stages))
    hashed = {name for name, _ in proof.tensors}
    for stage_name, stage in zip(stages.names, stages.stages, strict=True):
        state = stage.state_dict(keep_vars=True).keys() | {name for name, _ in _tensors(stage)}
        assert {f"{stage_name}: {name}" for name in state} <= hashed
        assert not [
            f"{path}.{name}"
            for path, module in stage.named_modules()
            for name, value in vars(module).items()
            if isinstance(value, torch.Tensor | np.ndarray)
        ]
    assert hashed


def test_the_demo_carries_a_source_that_is_proved_by_a_technique_that_proves() -> None:
    assert demo.SOURCE in {origin.spec for origin in offered("bundled")}
    assert demo.TECHNIQUE == "frozen" and demo.TECHNIQUE in {technique for technique, _ in MATRIX["glyphs"]}
