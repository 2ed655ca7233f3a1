"""A source is verified once, and again when anything that it depends on changes."""

import json
import shutil
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.adaptation import Order, adapt
from adapters.sources import verifier as ours
from adapters.sources.source import Source
from adapters.sources.verifier import Verifier
from registry.errors import SourceDiffers
from registry.progress import SILENT, Progress, ProgressStep
from registry.recipe import TextRecipe
from registry.registry import Registry
from registry.settings import Settings
from tests.adapters.families import vectors_source, write_texts
from tests.adapters.tiny import TinySource
from tests.contracts.reference import Moved


class Counting(Progress):
    """Counts how often a source is verified."""

    def __init__(self) -> None:
        self.times = 0

    def step(self, what: str, total: float | None = None) -> AbstractContextManager[ProgressStep]:
        self.times += what.startswith("verifying ")
        return SILENT.step(what, total)

    def say(self, text: str) -> None:
        pass


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return vectors_source(tmp_path)


@pytest.fixture
def watched() -> Counting:
    return Counting()


@pytest.fixture
def verifier(tmp_path: Path, watched: Counting) -> Verifier:
    return Verifier(tmp_path / "verified", watched)


def test_what_agreed_is_remembered(source: Source, verifier: Verifier, watched: Counting) -> None:
    first = verifier.verify(source)
    assert first is not None
    assert verifier.verify(source) == first
    assert watched.times == 1


def test_without_a_folder_nothing_is_remembered(source: Source, watched: Counting) -> None:
    for _ in range(2):
        Verifier(progress=watched).verify(source)
    assert watched.times == 2


def test_what_differed_is_compared_again(source: Source, verifier: Verifier, watched: Counting) -> None:
    class Other(Moved):
        def reference(self):  # type: ignore[no-untyped-def]
            return self.base.reference()

    for _ in range(2):
        with pytest.raises(SourceDiffers):
            verifier.verify(Other.of(source))
    assert watched.times == 2


def test_a_file_that_changes_is_verified_anew(
    source: Source, verifier: Verifier, watched: Counting, tmp_path: Path
) -> None:
    verifier.verify(source)
    file = tmp_path / "words.vec"
    old = file.read_text()
    file.write_text(old.replace("0.1", "0.2"))
    verifier.verify(vectors_source_again(source))
    assert watched.times == 2
    file.write_text(old)
    verifier.verify(vectors_source_again(source))
    assert watched.times == 2


def vectors_source_again(source: Source) -> Source:
    from adapters.sources.providers import find

    return find(source.spec)


def test_another_recipe_is_verified_anew(source: Source, verifier: Verifier, watched: Counting) -> None:
    verifier.verify(source)
    assert isinstance(source.recipe, TextRecipe)
    other = replace(source.recipe, buckets=(64, 512))
    verifier.verify(replace(source, recipe=other))
    assert watched.times == 2


def test_other_code_or_libraries_are_verified_anew(
    source: Source, verifier: Verifier, watched: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier.verify(source)
    changed = tmp_path / "stages.py"
    changed.write_text("# another way\n")
    code = list(ours._code())
    assert {name for name, _ in code} >= {
        "adapters.sources/stages.py",
        "adapters.sources/hf/families.py",
        "adapters.sources/timm_cuts.json",
        "registry.recipe/text.py",
    }
    monkeypatch.setattr(ours, "_code", lambda: [*code[1:], (code[0][0], changed)])
    verifier.verify(source)
    assert watched.times == 2
    monkeypatch.setattr(ours, "version", lambda name: "99.0")
    verifier.verify(source)
    assert watched.times == 3


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"key": 1}', b"\xff" * 100_000])
def test_a_damaged_result_is_computed_again(
    damage: bytes, source: Source, verifier: Verifier, watched: Counting, tmp_path: Path
) -> None:
    first = verifier.verify(source)
    (file,) = (tmp_path / "verified").iterdir()
    file.write_bytes(damage)
    assert verifier.verify(source) == first
    assert watched.times == 2
    assert verifier.verify(source) == first
    assert watched.times == 2


def test_a_result_that_was_written_over_is_computed_again(
    source: Source, verifier: Verifier, watched: Counting, tmp_path: Path
) -> None:
    first = verifier.verify(source)
    (file,) = (tmp_path / "verified").iterdir()
    value = json.loads(file.read_bytes())
    value["verification"]["max_abs_difference"]["features"] = 0.0
    file.write_text(json.dumps(value))
    assert verifier.verify(source) == first
    assert watched.times == 2


def test_a_folder_that_cannot_be_written_stops_nothing(
    source: Source, watched: Counting, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    verifier = Verifier(tmp_path / "file", watched)
    assert verifier.verify(source) == verifier.verify(source)
    assert watched.times == 2
    shutil.rmtree(tmp_path / "file", ignore_errors=True)


def test_a_source_without_code_of_others_needs_none(verifier: Verifier, watched: Counting) -> None:
    assert verifier.verify(TinySource()) is None
    assert watched.times == 0


def test_the_proof_stands_in_the_manifest(source: Source, verifier: Verifier, tmp_path: Path) -> None:
    data = str(write_texts(tmp_path / "texts.jsonl", per_class=12))
    with Registry.open(Settings.read(tmp_path / "home")) as registry:
        for technique, proof in (("frozen", verifier.verify(source)), ("scratch", None)):
            order = Order(
                data=data,
                source=source,
                target=technique,
                technique=technique,
                source_task="words",
                settings={} if technique == "frozen" else {"epochs": 1},
            )
            if technique == "scratch":
                order = replace(order, source_task=None)
            adaptation = adapt(order, registry, verifier=verifier)
            assert adaptation.manifest.origin.verification == proof
            assert "verify" in adaptation.seconds or proof is None
