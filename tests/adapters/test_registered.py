"""Transfers chain: a registered version is a source, down to its retrained stages."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from adapters.adaptation import Adaptation, Order, adapt
from adapters.publish import weights_digests
from adapters.sources.providers import find
from adapters.sources.registered import RegisteredSource, RegistryProvider
from adapters.sources.source import Source
from adapters.sources.stages import Stages
from adapters.sources.weights import fill_state, state_bytes
from registry.errors import InvalidValue, NotFound, SourceUnavailable, UnknownSource
from registry.registry import Registry
from registry.settings import Settings
from tests.adapters.tiny import TinySource, write_shapes
from tests.contracts.source import SourceContract

FEW = {"epochs": 2}


class Away(TinySource):
    """A source whose weights are not at hand."""

    def weights_at_hand(self) -> bool:
        return False

    def load(self, seed: int | None = None) -> Stages:
        if seed is None:
            raise SourceUnavailable("the weights are not at hand")
        return super().load(seed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes"), per_class=20)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    settings = Settings.read(tmp_path_factory.mktemp("home"), actor="ada", environment={})
    with Registry.open(settings) as registry:
        yield registry


@pytest.fixture(scope="module")
def provider(registry: Registry) -> RegistryProvider:
    return RegistryProvider(registry, lambda spec: TinySource())


def carried(
    registry: Registry, folder: Path, source: Source, target: str, technique: str, **settings: object
) -> Adaptation:
    return adapt(
        Order(data=str(folder), source=source, target=target, technique=technique, settings=settings),
        registry,
    )


@pytest.fixture(scope="module")
def chain(registry: Registry, folder: Path, provider: RegistryProvider) -> list[Adaptation]:
    """Three transfers: the last stage retrained, then a head, then the last stage again."""
    first = carried(registry, folder, TinySource(), "one", "partial", depth=1, **FEW)
    second = carried(registry, folder, provider.source("registry:shapes/one@1"), "two", "frozen")
    third = carried(
        registry, folder, provider.source("registry:one/two@1"), "three", "partial", depth=1, **FEW
    )
    return [first, second, third]


class TestRegisteredSource(SourceContract):
    @pytest.fixture
    def source(self, chain: list[Adaptation], provider: RegistryProvider) -> RegisteredSource:
        return provider.source("registry:two@1")


def digests(adaptation: Adaptation, role: str) -> list[str]:
    return [segment.digest for segment in adaptation.manifest.segments if segment.role == role]


def test_its_target_is_the_next_ones_source_task(chain: list[Adaptation]) -> None:
    assert [str(each.version.ref) for each in chain] == ["shapes/one@1", "one/two@1", "two/three@1"]
    assert chain[1].manifest.origin.parent == chain[0].version.digest
    assert chain[2].manifest.origin.parent == chain[1].version.digest
    assert chain[1].manifest.origin.spec == "registry:shapes/one@1"


def test_a_frozen_transfer_extends_its_parents_segments(chain: list[Adaptation]) -> None:
    first, second, third = ([s.digest for s in each.manifest.segments if s.role != "head"] for each in chain)
    assert first == second
    assert third[0] == first[0] and third[1] != first[1]


def test_only_retrained_stages_have_a_stored_state(chain: list[Adaptation]) -> None:
    first, second, third = (
        {s.name: s.state for s in each.manifest.segments if s.role != "head"} for each in chain
    )
    assert first["low"] is None and first["high"] is not None and first["pool"] is None
    assert second == first
    assert third["high"] not in (None, first["high"])


def test_its_network_is_the_version_bit_for_bit(chain: list[Adaptation], provider: RegistryProvider) -> None:
    stages = provider.source("registry:two/three@1").load()
    weights = [s.weights for s in chain[2].manifest.segments if s.role != "head"]

    assert list(weights_digests(stages)) == weights


def test_its_own_head_comes_along(
    chain: list[Adaptation], provider: RegistryProvider, registry: Registry, folder: Path
) -> None:
    source = provider.source("registry:shapes/one@1")
    assert source.labels == ("bars", "checks", "disc")
    answer = carried(registry, folder, source, "again", "as-is")
    assert answer.manifest.metrics["accuracy"] == chain[0].manifest.metrics["accuracy"]


def test_a_scratch_version_needs_no_source_outside(registry: Registry, folder: Path) -> None:
    carried(registry, folder, Away(), "raw", "scratch", **FEW)
    source = RegistryProvider(registry, lambda spec: Away()).source("registry:raw@1")
    assert source.weights_at_hand()
    with torch.no_grad():
        assert source.load()(torch.zeros(2, 12, 12, 1, dtype=torch.uint8)).shape == (2, 8)


def test_a_frozen_trunk_needs_the_source_it_came_from(chain: list[Adaptation], registry: Registry) -> None:
    source = RegistryProvider(registry, lambda spec: Away()).source("registry:shapes/one@1")
    assert not source.weights_at_hand()
    with pytest.raises(SourceUnavailable, match="not at hand"):
        source.load()


def test_features_of_several_layers_cannot_be_carried_on(
    registry: Registry, folder: Path, provider: RegistryProvider
) -> None:
    carried(registry, folder, TinySource(), "tapped", "layers", cuts=["low"])
    with pytest.raises(UnknownSource, match="takes its features from low, readout"):
        provider.source("registry:tapped@1")


def test_what_is_not_registered_is_not_found(registry: Registry, provider: RegistryProvider) -> None:
    with pytest.raises(NotFound):
        provider.source("registry:nothing@1")
    with pytest.raises(UnknownSource, match="only where there is a registry"):
        find("registry:nothing@1")


def test_every_version_is_on_offer(chain: list[Adaptation], provider: RegistryProvider) -> None:
    assert {"registry:shapes/one@1", "registry:one/two@1", "registry:two/three@1"} <= set(provider.specs())


def test_a_state_of_another_stage_is_refused() -> None:
    stages = TinySource().load()
    with pytest.raises(InvalidValue, match="that of another"):
        fill_state(stages, 1, state_bytes(stages, 0))
    with pytest.raises(InvalidValue, match="expected the stored state"):
        fill_state(stages, 1, b"pickle")


def test_equal_stages_have_equal_states() -> None:
    first, second = (state_bytes(TinySource().load(), 1) for _ in range(2))
    assert first == second and np.frombuffer(first, np.uint8).any()
