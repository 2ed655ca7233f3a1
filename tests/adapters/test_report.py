"""A report says what there is, of any version, whatever its labels are called."""

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from adapters.evaluation import Evidence, measure
from adapters.evaluation.evidence import FeatureMap, Mistake
from adapters.evaluation.mistakes import thumbnail
from adapters.report.material import Material
from adapters.report.page import page, percent, plain, points, size
from adapters.report.plots import plots
from adapters.report.writing import check_place, report
from registry.digests import Digest
from registry.errors import InvalidSetting, InvalidValue
from registry.manifest import CLASSIFICATION, MULTILABEL, Json
from registry.predictions import Predictions
from registry.registry import Registry
from registry.settings import Settings
from services.cli import main
from tests.builders import Tiny, publish, tiny

HOSTILE = ("<script>alert(1)</script>", '"><img src=http://x.invalid/a onerror=b>', "$x^2$ & _y")
ITEMS = tuple(Digest.of(f"item {number}".encode()) for number in range(60))


class Elements(HTMLParser):
    """Lists the elements of a page and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def predictions(labels: int, several: bool = False) -> Predictions:
    random = np.random.default_rng(0)
    truth = np.arange(60) % labels
    logits = random.normal(size=(60, labels)).astype(np.float32)
    logits[np.arange(60), truth] += 2
    return Predictions.of(ITEMS, np.eye(labels, dtype=np.uint8)[truth] if several else truth, logits)


def evidence(labels: tuple[str, ...], texts: bool = False) -> Evidence:
    random = np.random.default_rng(1)
    picture = None if texts else thumbnail(random.integers(0, 256, (20, 20, 1), dtype=np.uint8))
    return Evidence(
        tuple(
            {"number": at, "loss": 1 / at, "rate": 0.1, "validation_loss": 2 / at, "validation_accuracy": 0.5}
            for at in range(1, 5)
        ),
        FeatureMap(ITEMS, random.normal(size=(60, 2)).astype(np.float32)),
        (Mistake(ITEMS[0], labels[:1], labels[1:2], 0.9, picture, f"a text {labels[0]}" if texts else None),),
        {"raw": {"learnt_from": 9, "right": [1] * len(labels)}},
    )


def version(
    labels: tuple[str, ...] = HOSTILE,
    *,
    kind: str = CLASSIFICATION,
    shown: Evidence | None = None,
    seed: int = 0,
) -> Tiny:
    """A version that has been evaluated."""
    plain_one = tiny(seed=seed, labels=labels)
    answers = predictions(len(labels), kind == MULTILABEL)
    baseline: dict[str, Json] = {
        "accuracy": 0.5, "low": 0.4, "high": 0.6, "difference": 0.1, "difference_low": 0.05, "difference_high": 0.2,
    }  # fmt: skip
    metrics = measure(answers.logits, answers.labels, labels, kind) | {"yardsticks": {"raw": baseline}}
    blobs = [each for each in plain_one.blobs if each[0] != "predictions"]
    blobs.append(("predictions", answers.to_bytes()))
    if shown is not None:
        blobs.append(("evidence", shown.to_bytes()))
    manifest = replace(
        plain_one.manifest,
        heads=(replace(plain_one.manifest.heads[0], kind=kind),),
        metrics=metrics,
        predictions=Digest.of(answers.to_bytes()),
        evidence=None if shown is None else Digest.of(shown.to_bytes()),
        excluded={"broken": 2},
        remarks={"greys <of> 16 bits": 4},
    )
    return Tiny(manifest, tuple(blobs))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def registry(home: Path) -> Iterator[Registry]:
    with Registry.open(Settings.read(home, actor="ada", environment={})) as registry:
        yield registry


@pytest.fixture(scope="module")
def hostile(registry: Registry) -> Material:
    """A version whose labels mean harm."""
    return gathered(registry, version(shown=evidence(HOSTILE, texts=True)))


@pytest.fixture(scope="module")
def hostile_page(hostile: Material) -> str:
    return drawn(hostile)


def gathered(registry: Registry, made: Tiny) -> Material:
    return Material.gather(registry, str(publish(registry, made).ref))


def drawn(material: Material) -> str:
    return page(material, tuple(plots(material)))


def test_a_page_says_how_intervals_were_found_and_which_are_not_decidable(registry: Registry) -> None:
    made = version(("one", "two", "three"))
    text = drawn(gathered(registry, made))
    assert "Wilson’s of accuracy" in text
    assert "interval not decidable: it counts chance gaps" in text
    metrics = {name: value for name, value in made.manifest.metrics.items() if name != "intervals"}
    older = replace(made, manifest=replace(made.manifest, metrics=metrics, seed=7))
    text = drawn(gathered(registry, older))
    assert "by percentile bootstrap" in text and "not decidable" not in text
    assert "%</b><span>" in text


def test_a_page_says_that_all_right_is_no_certainty(registry: Registry) -> None:
    items = tuple(Digest.of(f"right {number}".encode()) for number in range(18))
    truth = np.arange(18) % 3
    answers = Predictions.of(items, truth, np.eye(3, dtype=np.float32)[truth])
    made = version(("one", "two", "three"), seed=8)
    figures = measure(answers.logits, answers.labels, ("one", "two", "three"))
    text = drawn(gathered(registry, replace(made, manifest=replace(made.manifest, metrics=figures))))
    assert f"<b>{percent(1.0)}</b><span>{percent(0.824)} to {percent(1.0)}</span>" in text
    assert "interval not decidable: it takes 10 examples with the rarest label, and there are 6" in text


def test_a_page_counts_groups(registry: Registry) -> None:
    made = version(("one", "two", "three"), seed=9)
    answers = predictions(3)
    groups = np.arange(60) // 5
    figures = measure(answers.logits, answers.labels, ("one", "two", "three"), groups=groups)
    text = drawn(gathered(registry, replace(made, manifest=replace(made.manifest, metrics=figures))))
    assert "the items are in 12 groups, worth" in text


def test_a_page_says_what_the_version_is_and_how_good(registry: Registry) -> None:
    material = gathered(registry, version(("one", "two", "three"), shown=evidence(("one", "two", "three"))))
    text = drawn(material)
    for section in ("How good it is", "Label by label", "Where it errs", "What it was made of", "Segments"):
        assert section in text
    for plot in ("baselines", "confusion", "reliability", "scores", "curves", "map"):
        assert f'id="{plot}-figure_1"' in text
    assert material.version.digest in text and "candidate" in text and "left out: broken" in text
    assert "kept, greys &lt;of&gt; 16 bits" in text
    assert f"<b>{percent(float(str(material.manifest.metrics['accuracy'])))}</b>" in text
    for segment in material.manifest.segments:
        assert segment.digest in text
    assert "data:image/png;base64," in text


def test_nothing_is_run_and_nothing_is_fetched(hostile_page: str) -> None:
    for tag, attributes in Elements(hostile_page).found:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form"}
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href", "action", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,")), attributes
    assert "default-src 'none'" in hostile_page and "@import" not in hostile_page
    assert all(place.startswith("#") for place in re.findall(r"url\(([^)]*)", hostile_page))


def test_hostile_labels_and_texts_are_words(hostile_page: str) -> None:
    text = hostile_page
    assert "<script" not in text and "<img src=http" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "a text &lt;script&gt;" in text
    assert "$x^2$ &amp; _y" in text


def test_ids_on_a_page_are_different_and_led_to(hostile_page: str) -> None:
    elements = Elements(hostile_page).found
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [attributes.get("xlink:href") for _, attributes in elements if "xlink:href" in attributes]
    assert {str(target)[1:] for target in targets} <= set(ids)


def test_one_version_is_one_page_to_the_byte(hostile: Material, hostile_page: str) -> None:
    assert drawn(hostile) == hostile_page


def test_an_older_version_has_a_report_of_what_there_is(registry: Registry) -> None:
    material = gathered(registry, version(("one", "two")))
    text = drawn(material)
    assert "Confusion" in text and "Learning curves" not in text and "Surest mistakes" not in text


def test_a_version_without_head_has_a_report(registry: Registry) -> None:
    text = drawn(gathered(registry, tiny(labels=None)))
    assert "Nothing was measured" in text and "feature vectors" in text and "Parity" in text


def test_a_version_of_several_labels_has_a_report(registry: Registry) -> None:
    labels = ("one", "two", "three")
    text = drawn(gathered(registry, version(labels, kind=MULTILABEL, shown=evidence(labels, texts=True))))
    assert "labels that are there" in text and "micro-F1" in text and "Most frequent confusions" not in text


@pytest.mark.parametrize("count", [30, 101])
def test_many_labels_are_drawn_or_left_out(registry: Registry, count: int) -> None:
    labels = tuple(f"label {number}" for number in range(count))
    names = [plot.name for plot in plots(gathered(registry, version(labels, shown=evidence(labels))))]
    assert ("confusion" in names) == (count <= 100) and "map" in names


def test_a_search_for_a_penalty_is_drawn(registry: Registry) -> None:
    searched = Evidence(({"l2": 0.1, "left_out_loss": 0.5}, {"l2": 0.01, "left_out_loss": 0.4}))
    drawings = {plot.name: plot.svg for plot in plots(gathered(registry, version(shown=searched)))}
    assert "0.1</text>" in drawings["search"] and "math" not in drawings["search"]


def test_a_folder_holds_the_page_and_the_numbers(
    hostile: Material, hostile_page: str, tmp_path: Path
) -> None:
    files = report(hostile, tmp_path / "folder")
    names = {path.name for path in files}
    assert {"index.html", "map.svg", "metrics.json", "predictions.csv"} <= names
    assert all(path.is_file() for path in files)
    assert (tmp_path / "folder" / "index.html").read_text() == hostile_page
    assert json.loads((tmp_path / "folder" / "metrics.json").read_text()) == dict(hostile.manifest.metrics)
    with (tmp_path / "folder" / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 60 and {row["item"] for row in rows} == set(ITEMS)
    assert {row["label"] for row in rows} == set(HOSTILE)
    assert all(1 / 3 <= float(row["confidence"]) <= 1 for row in rows)


def test_a_place_that_cannot_be_written_is_an_error(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InvalidSetting, match="cannot be written"):
        report(gathered(registry, tiny(labels=None)), tmp_path / "file" / "index.html")


def test_predictions_of_other_labels_are_refused(registry: Registry) -> None:
    made = version(("one", "two"))
    answers = predictions(3).to_bytes()
    blobs = (*made.blobs, ("predictions", answers))
    with pytest.raises(InvalidValue, match="do not fit"):
        gathered(registry, Tiny(replace(made.manifest, predictions=Digest.of(answers)), blobs))


def test_the_command_names_what_it_wrote(
    registry: Registry, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(registry, tiny("letters/features", labels=None))
    monkeypatch.chdir(tmp_path)
    options = ["--home", str(home), "report", "letters/features@1"]
    answer = CliRunner().invoke(main, [*options, "--json"])
    assert json.loads(answer.stdout) == {"ref": "letters/features@1", "files": ["letters-features-1.html"]}
    folder = CliRunner().invoke(main, [*options, "-o", "made/"])
    assert folder.exit_code == 0 and folder.stdout.split() == ["made/index.html", "made/metrics.json"]
    missing = CliRunner().invoke(main, ["--home", str(home), "report", "nowhere@1"])
    assert missing.exit_code == 1 and "nowhere" in missing.stderr


def test_numbers_are_written_as_they_are_read() -> None:
    assert percent(0.9944) == "99.4\N{NO-BREAK SPACE}%" and percent(None) == "–"
    assert points(0.0123) == "+1.2" and points(-0.05) == "−5.0" and points(-1e-9) == "0.0"
    assert [size(count) for count in (311, 31_811, 45_000_000)] == ["311 B", "31.8 kB", "45.0 MB"]
    assert plain({"a": [1.23456, None], "b": True, "c": 1}) == "a: 1.235, none; b: yes; c: 1"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("report.pdf", "FILE.html"),
        ("report.HTLM", "FILE.html"),
        ("there.txt", "FILE.html"),
        ("there.txt/page.html", "written to"),
        ("there", "is a file"),
    ],
)
def test_a_place_that_cannot_hold_a_report_is_refused_before_anything_is_read(
    tmp_path: Path, place: str, message: str
) -> None:
    for name in ("there", "there.txt"):
        (tmp_path / name).write_text("kept")
    home = str(tmp_path / "home")
    result = CliRunner().invoke(main, ["--home", home, "report", "nothing", "-o", str(tmp_path / place)])
    assert result.exit_code == 1 and message in result.stderr and not (tmp_path / "home").exists()
    assert result.stderr.count("\n") == 1 and (tmp_path / "there").read_text() == "kept"


@pytest.mark.parametrize(
    "place", ["page.html", "page.HTM", "new", "new.d", "v1.2", "new.pdf/", "deep/er/page.html"]
)
def test_a_place_that_can_hold_a_report_is_taken(tmp_path: Path, place: str) -> None:
    assert check_place(f"{tmp_path}/{place}") == tmp_path / place
    assert list(tmp_path.iterdir()) == []
