"""What can be refused at once is refused before an item is read or anything is hashed."""

import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from adapters.adaptation import Order, adapt
from adapters.advise.ranking import advise_all
from adapters.datasets import reading
from adapters.sources.source import Source
from adapters.sources.stages import Stages
from registry import disk
from registry.blobs import LocalBlobs
from registry.cache import DiskStore
from registry.digests import Digest
from registry.errors import CultivarError, SourceUnavailable, StorageFailure
from registry.progress import SILENT, Lines, Progress, ProgressStep
from registry.recipe import ImageRecipe
from registry.registry import Registry
from registry.settings import Settings
from tests.adapters.tiny import TinySource, write_shapes


@dataclass(frozen=True, kw_only=True)
class Absent(TinySource):
    """A source whose weights are not at hand."""

    def weights_at_hand(self) -> bool:
        return False

    def load(self, seed: int | None = None) -> Stages:
        raise SourceUnavailable("expected weights at weights.pth; there are none")


@dataclass(frozen=True, kw_only=True)
class Unlabelled(TinySource):
    """A source that does not say what its outputs mean."""

    labels: tuple[str, ...] = ()

    def load(self, seed: int | None = None) -> Stages:
        return TinySource().load(seed)


@dataclass(frozen=True, kw_only=True)
class Undeclared(TinySource):
    """A source that does not declare its task."""

    task: str = None  # type: ignore[assignment]  # as every source's may be, though not the plain one's


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes"), per_class=12)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry.open(Settings.read(tmp_path / "home", actor="ada", environment={})) as opened:
        yield opened


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of what was decoded or hashed, which nothing may be."""
    touched: list[str] = []

    def spied(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            touched.append(name)
            return function(*arguments, **named)

        return call

    monkeypatch.setattr(ImageRecipe, "decode", spied("decode", ImageRecipe.decode))
    monkeypatch.setattr(reading, "_bytes", spied("read", reading._bytes))
    monkeypatch.setattr(Digest, "of", spied("hash", Digest.of))
    yield touched
    assert touched == []


def order(folder: Path, **changes: Any) -> Order:
    plain = Order(data=str(folder), source=TinySource(), target="shapes", technique="frozen")
    return replace(plain, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "Shapes"}, "lower-case"),
        ({"target": ""}, "lower-case"),
        ({"target": "more/shapes"}, "lower-case"),
        ({"target": "s" * 64}, "lower-case"),
        ({"promote": "Production"}, "a stage is"),
        ({"promote": "candidate"}, "candidate"),
        ({"promote": ""}, "a stage is"),
        ({"technique": "frozzen"}, "'frozen'"),
        ({"settings": {"l2": -1.0}}, "l2"),
        ({"settings": {"l3": 1.0}}, "l3"),
        ({"technique": "auto", "settings": {"l2": 1.0}}, "adviser"),
        ({"technique": "partial", "settings": {"depth": 3}}, "depth of 3"),
        ({"technique": "lora", "settings": {"depth": 9}}, "depth of 9"),
        ({"technique": "layers", "settings": {"cuts": ["middle"]}}, "middle"),
        ({"technique": "as-is", "settings": {"label_map": {"bars": "stripes"}}}, "stripes"),
        ({"technique": "as-is", "source": Unlabelled()}, "no labels"),
        ({"source": Absent()}, "weights.pth"),
        ({"source_task": "letters"}, "leave out --source-task"),
        ({"source": Undeclared(), "source_task": "Letters"}, "lower-case"),
        ({"source": Undeclared()}, "--source-task"),
        ({"data": "nowhere"}, "nowhere"),
        ({"test": "elsewhere"}, "elsewhere"),
        ({"test": "example:numbers"}, "numbers"),
    ],
)
def test_a_wrong_order_is_refused_before_an_item_is_read(
    folder: Path, registry: Registry, untouched: list[str], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CultivarError, match=message):
        adapt(order(folder, **changes), registry)
    assert untouched == []


def test_a_registry_that_cannot_be_written_to_is_refused_before_an_item_is_read(
    folder: Path, registry: Registry, untouched: list[str]
) -> None:
    assert registry.blob_folder is not None
    shutil.rmtree(registry.blob_folder / "staging")
    with pytest.raises(StorageFailure, match="written to"):
        adapt(order(folder), registry)


@pytest.mark.parametrize("technique", ["frozen", "full", "scratch"])
def test_a_full_disk_is_refused_before_an_item_is_read(
    folder: Path,
    registry: Registry,
    tmp_path: Path,
    untouched: list[str],
    monkeypatch: pytest.MonkeyPatch,
    technique: str,
) -> None:
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 1_500_000)
    store = DiskStore(tmp_path / "features", 1 << 30)
    with pytest.raises(StorageFailure) as caught:
        adapt(order(folder, technique=technique), registry, store=store)
    assert "about 4.2 MB" in str(caught.value) and "found 1.5 MB" in str(caught.value)
    assert "the version 4.2 MB" in str(caught.value) and "the feature cache 1.2 kB" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("sources", "changes", "message"),
    [
        ([TinySource(), Absent()], {}, "weights.pth"),
        ([TinySource()], {"data": "nowhere"}, "nowhere"),
        ([TinySource()], {"test": "elsewhere"}, "elsewhere"),
    ],
    ids=["weights", "data", "test"],
)
def test_advice_is_refused_before_an_item_is_read(
    folder: Path, untouched: list[str], sources: list[Source], changes: dict[str, str], message: str
) -> None:
    given = {"data": str(folder), "test": None} | changes
    with pytest.raises(CultivarError, match=message):
        advise_all(sources, **given, seed=0, tries=False, progress=SILENT)  # type: ignore[arg-type]  # texts


class Interrupting(Progress):
    """Ctrl-C as a step begins; without one to interrupt, the names of all of them."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.steps: list[str] = []

    @contextmanager
    def step(self, what: str, total: float | None = None) -> Iterator[ProgressStep]:
        self.steps.append(what)
        if self.at == len(self.steps):
            raise KeyboardInterrupt
        with SILENT.step(what, total) as step:
            yield step

    def say(self, text: str) -> None:
        pass


def test_ctrl_c_in_any_step_leaves_nothing_broken(folder: Path, registry: Registry, tmp_path: Path) -> None:
    seen = Interrupting()
    with Registry.open(Settings.read(tmp_path / "other", actor="ada", environment={})) as other:
        adapt(order(folder, promote="production"), other, seen)
    phases = ["loading the source", "reading", "fitting frozen", "tracing the network", "storing segments"]
    phases += ["parity", "predicting the test examples", "baseline on the raw inputs", "map of the features"]
    phases += ["registering", "promoting"]
    assert set(phases) <= set(seen.steps)
    for at in (seen.steps.index(phase) + 1 for phase in phases[:-1]):
        with pytest.raises(KeyboardInterrupt):
            adapt(order(folder, promote="production"), registry, Interrupting(at))
        assert registry.targets() == [] and registry.verify().ok
    registry.collect(grace=timedelta(0))
    assert registry.blob_folder is not None
    assert list(LocalBlobs(registry.blob_folder).list()) == []


def test_every_phase_is_told_of_where_there_is_no_terminal(folder: Path, registry: Registry) -> None:
    stream = io.StringIO()
    lines = Lines(Console(file=stream, width=200), first=0.01, every=0.01)
    adapt(order(folder), registry, lines)
    for phase in ("reading: ", "tracing the network", "parity: ", "baseline on the raw inputs"):
        assert phase in stream.getvalue()
