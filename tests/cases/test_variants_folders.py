"""Further folders as people have them: splits in any spelling, and what systems leave behind."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from adapters.datasets import TEST, TRAIN, VALIDATION, load
from registry.errors import DatasetError
from registry.recipe import ImageRecipe
from registry.registry import Registry
from registry.settings import Settings
from services.cli import main
from tests.builders import picture, publish, tiny

RECIPE = ImageRecipe(8, 8)
CLASSES = ("cat", "dog")


def filled(folder: Path, first: int, count: int = 6) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        (folder / f"{seed}.png").write_bytes(picture(seed))
    return folder


def tree(root: Path, *folders: str, first: int = 0) -> Path:
    for number, folder in enumerate(folders):
        filled(root / folder, first + 100 * number)
    return root


def split(root: Path, *names: str) -> Path:
    return tree(root, *(f"{name}/{label}" for name in names for label in CLASSES))


def refused(root: Path) -> str:
    with pytest.raises(DatasetError) as error:
        load(root, RECIPE)
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("TRAIN", "TEST"), {TRAIN, TEST}),
        (("Train", "Valid"), {TRAIN, VALIDATION}),
        (("train", "dev", "testing"), {TRAIN, VALIDATION, TEST}),
        (("Training", "Testing"), {TRAIN, TEST}),
        (("train_images", "test_images"), {TRAIN, TEST}),
        (("train-set", "val-set"), {TRAIN, VALIDATION}),
        (("Train Data", "Test Data"), {TRAIN, TEST}),
        (("TrainingSet", "ValidationSet", "TestSet"), {TRAIN, VALIDATION, TEST}),
        (("train", "VALIDATION"), {TRAIN, VALIDATION}),
    ],
)
def test_splits_in_any_spelling_are_no_labels(
    tmp_path: Path, names: Sequence[str], expected: set[str]
) -> None:
    data = load(split(tmp_path, *names), RECIPE)
    assert data.labels == CLASSES
    assert expected <= set(data.parts)
    assert len(data.split(TRAIN)) + len(data.split(TEST)) >= 12


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (("train", "val", "validation"), ("val", "validation")),
        (("train", "Test", "test"), ("Test", "test")),
        (("train", "dev", "val"), ("dev", "val")),
        (("train", "training", "test"), ("train", "training")),
        (("train", "test", "holdout"), ("holdout",)),
        (("train", "test", "predict"), ("predict",)),
        (("Train", "Test", "backup of Train"), ("backup of Train",)),
    ],
)
def test_folders_whose_split_is_open_are_named(
    tmp_path: Path, names: Sequence[str], named: Sequence[str]
) -> None:
    message = refused(split(tmp_path, *names))
    assert all(f"'{name}'" in message for name in named)


@pytest.mark.parametrize("extra", ["horse", "unlabelled", "all", "annotations"])
def test_a_folder_of_pictures_beside_splits_is_named(tmp_path: Path, extra: str) -> None:
    split(tmp_path, "train", "test")
    filled(tmp_path / extra, 5000)
    assert f"'{extra}'" in refused(tmp_path)


@pytest.mark.parametrize("names", [("Train", "Test"), ("train", "val", "test"), CLASSES])
def test_data_one_folder_deeper_are_no_labels(tmp_path: Path, names: Sequence[str]) -> None:
    inner = tmp_path / "archive"
    _ = tree(inner, *names) if names == CLASSES else split(inner, *names)
    assert "archive" in refused(tmp_path)


def test_splits_inside_classes_are_no_silent_mixture(tmp_path: Path) -> None:
    """cat/train, cat/test: whatever is made of it, the split is not lost in silence."""
    tree(tmp_path, *(f"{label}/{name}" for label in CLASSES for name in ("train", "test")))
    message = refused(tmp_path)
    assert "train" in message or "test" in message


def test_a_class_folder_missing_from_test_is_no_error(tmp_path: Path) -> None:
    tree(tmp_path, "Train/cat", "Train/dog", "Test/cat")
    data = load(tmp_path, RECIPE)
    assert data.labels == CLASSES and len(data.split(TEST)) == 6


def test_class_folders_in_two_cases_are_said_or_refused(tmp_path: Path) -> None:
    tree(tmp_path, "train/Cat", "train/dog", "test/cat", "test/dog")
    assert "cat" in refused(tmp_path)


def test_a_zip_of_a_mac_with_splits_is_read(tmp_path: Path) -> None:
    split(tmp_path, "Train", "Test")
    tree(tmp_path / "__MACOSX", "Train/cat", first=9000)
    (tmp_path / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (tmp_path / "Train" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (tmp_path / "Train" / "._cat").write_bytes(b"\0\5\x16\7")
    data = load(tmp_path, RECIPE)
    assert data.labels == CLASSES and len(data) == 24 and not data.excluded


LEFT_BEHIND = (
    ".DS_Store", "cat/.DS_Store", "cat/._100.png", "._cat", "Thumbs.db", "cat/Thumbs.db", "cat/thumbs.db",
    "dog/Desktop.ini", "desktop.ini", ".ipynb_checkpoints/a.png", "cat/.ipynb_checkpoints/a-checkpoint.png",
    "__MACOSX/x/._a.png", "cat/__MACOSX/._a.png", ".git/HEAD", ".gitattributes", "cat/.gitkeep",
    ".Trash-1000/files/a.png", ".Spotlight-V100/store.db", ".fseventsd/a", ".cache/huggingface/a.png",
    "dog/.nfs0000001", "dog/.directory", "cat/ehthumbs.db", "$RECYCLE.BIN/S-1-5-21/desktop.ini",
    "System Volume Information/IndexerVolumeGuid", "__pycache__/a.pyc",
)  # fmt: skip


def left(root: Path, names: Sequence[str]) -> None:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        ")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with Registry.open(Settings.read(tmp_path / "home", actor="tests")) as registry:
        registry.promote(publish(registry, tiny("letters/digits", seed=1)).ref, "production")
    return tmp_path / "home"


@pytest.mark.parametrize("name", LEFT_BEHIND)
def test_what_systems_leave_behind_is_no_data(tmp_path: Path, name: str) -> None:
    tree(tmp_path, *CLASSES)
    left(tmp_path, [name])
    data = load(tmp_path, RECIPE)
    assert data.labels == CLASSES and len(data) == 12 and not data.excluded


def test_an_empty_folder_of_a_file_system_is_no_class(tmp_path: Path) -> None:
    tree(tmp_path, *CLASSES)
    (tmp_path / "lost+found").mkdir()
    data = load(tmp_path, RECIPE)
    assert data.labels == CLASSES


@pytest.mark.parametrize("command", ["classify", "embed"])
def test_commands_pass_them_over_too(home: Path, tmp_path: Path, command: str) -> None:
    folder = tree(tmp_path / "data", *CLASSES)
    (folder / "UPPER.PNG").write_bytes(picture(77))
    left(folder, LEFT_BEHIND)
    done = CliRunner().invoke(main, ["--home", str(home), command, "digits", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert len(document["inputs" if command == "embed" else "results"]) == 13


def test_a_folder_of_system_files_alone_is_said_to_be_empty(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    left(folder, ["._a.png", ".DS_Store", "__MACOSX/._b.png"])
    done = CliRunner().invoke(main, ["--home", str(home), "classify", "digits", str(folder)])
    assert done.exit_code == 1 and "Traceback" not in done.output and done.stderr.strip()


def test_a_name_that_only_resembles_them_is_data(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for seed, name in enumerate(("_a.png", "__b.png", "DS_Store.png", "thumbs.png", "a._.png")):
        (folder / name).write_bytes(picture(seed))
    done = CliRunner().invoke(main, ["--home", str(home), "classify", "digits", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)["results"]) == 5


def test_one_broken_picture_among_sound_ones_is_named(home: Path, tmp_path: Path) -> None:
    folder = filled(tmp_path / "data", 0, 3)
    (folder / "broken.png").write_bytes(picture(9)[:40])
    done = CliRunner().invoke(main, ["--home", str(home), "classify", "digits", str(folder), "--json"])
    assert "broken.png" in done.output and "Traceback" not in done.output
