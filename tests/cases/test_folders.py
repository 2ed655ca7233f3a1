"""Folders as people have them: splits in any spelling, systems' own files, links."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from adapters.datasets import TEST, TRAIN, VALIDATION, load
from adapters.datasets.folder import split_of
from registry.errors import DatasetError
from registry.recipe import ImageRecipe
from registry.registry import Registry
from registry.settings import Settings
from services.cli import main
from tests.adapters.written import classes, fill
from tests.builders import picture, publish, tiny

INPUTS = Path(__file__).parent / "inputs"
RECIPE = ImageRecipe(8, 8)


def splits(folder: Path, names: Sequence[str]) -> Path:
    for number, name in enumerate(names):
        classes(folder / name, start=10_000 * number)
    return folder


class TestSplits:
    def test_splits_in_title_case_are_splits(self) -> None:
        data = load(INPUTS / "folder-TitleCaseParts", RECIPE)
        assert data.labels == ("cat", "dog") and set(data.parts) == {TRAIN, TEST}
        assert all("Test" in Path(item.origin).parts for item in data.split(TEST))

    def test_a_folder_beside_splits_is_an_error_that_names_it(self) -> None:
        with pytest.raises(
            DatasetError,
            match=r"splits .* or of classes, found 'test' and 'train', .*and 'unlabeled' beside them; rename or take",
        ):
            load(INPUTS / "folder-train-test-extra", RECIPE)

    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            (("TRAIN", "VAL", "TEST"), {TRAIN, VALIDATION, TEST}),
            (("training", "validation", "testing"), {TRAIN, VALIDATION, TEST}),
            (("train", "dev"), {TRAIN, VALIDATION}),
            (("training_set", "test_set"), {TRAIN, TEST}),
            (("TrainImages", "ValidImages"), {TRAIN, VALIDATION}),
            (("train2017", "val2017"), {TRAIN, VALIDATION}),
            (("Train",), {TRAIN, TEST}),
        ],
    )
    def test_usual_names_are_splits(self, tmp_path: Path, names: Sequence[str], expected: set[str]) -> None:
        data = load(splits(tmp_path, names), RECIPE)
        assert data.labels == ("cat", "dog")
        assert set(data.parts) | {TEST} == expected | {TEST}

    @pytest.mark.parametrize(
        "name", ["trains", "tester", "contest", "latest", "evaluation", "train cat", "", "-", "1"]
    )
    def test_other_names_are_none(self, name: str) -> None:
        assert split_of(name) is None

    @pytest.mark.parametrize("extra", ["unlabeled", "images", "holdout", "cat"])
    @pytest.mark.parametrize("given", [("train", "test"), ("Train", "Valid", "Test"), ("train",)])
    def test_any_mixture_is_an_error(self, tmp_path: Path, given: Sequence[str], extra: str) -> None:
        splits(tmp_path, given)
        fill(tmp_path / extra, 99_000)
        with pytest.raises(DatasetError, match=f"called like splits, and '{extra}' beside them"):
            load(tmp_path, RECIPE)

    def test_two_folders_for_one_split_are_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(
            DatasetError, match="one folder for the validation split, found 'val' and 'valid'; join"
        ):
            load(splits(tmp_path, ("train", "val", "valid")), RECIPE)

    def test_names_that_only_mention_splits_are_no_labels(self, tmp_path: Path) -> None:
        with pytest.raises(
            DatasetError,
            match="found 'seg_test' and 'seg_train', which are called like splits, and 'seg_pred'",
        ):
            load(splits(tmp_path, ("seg_train", "seg_test", "seg_pred")), RECIPE)

    @pytest.mark.parametrize(
        "names", [("train", "bus", "car"), ("valid", "invalid"), ("train station", "test tube", "dev board")]
    )
    def test_a_class_that_is_called_like_a_split_is_a_class_among_others(
        self, tmp_path: Path, names: Sequence[str]
    ) -> None:
        data = load(classes(tmp_path, names), RECIPE)
        assert set(data.labels) == set(names)
        said = [remark for remark in data.remarks if "is read as a class" in remark]
        assert len(said) == sum(split_of(name) is not None for name in names)

    def test_a_split_without_class_folders_is_an_error(self, tmp_path: Path) -> None:
        splits(tmp_path, ("train",))
        fill(tmp_path / "test", 70_000)
        with pytest.raises(DatasetError, match="there are none in 'test'; put the files in class folders"):
            load(tmp_path, RECIPE)

    def test_a_folder_too_high_is_an_error(self, tmp_path: Path) -> None:
        splits(tmp_path / "dataset", ("train", "test"))
        with pytest.raises(
            DatasetError, match=r"found 'dataset' alone, which holds folders itself; name .*dataset"
        ):
            load(tmp_path, RECIPE)

    def test_files_beside_splits_are_counted(self, tmp_path: Path) -> None:
        (splits(tmp_path, ("train", "test")) / "README.txt").write_text("hello")
        assert load(tmp_path, RECIPE).excluded == {"not in a class folder": 1}


SYSTEM = (
    ".DS_Store", "._0.png", "cat/._0.png", "cat/Thumbs.db", "dog/desktop.ini", "dog/Icon\r",
    "__MACOSX/cat/._0.png", ".ipynb_checkpoints/0-checkpoint.png", "cat/.ipynb_checkpoints/0-checkpoint.png",
    "@eaDir/cat/0.png/SYNOPHOTO_THUMB_M.png",
)  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with Registry.open(Settings.read(tmp_path / "home", actor="tests")) as registry:
        registry.promote(publish(registry, tiny("letters/digits", seed=1)).ref, "production")
    return tmp_path / "home"


def names(home: Path, command: str, folder: Path) -> tuple[list[str], str]:
    """Return what a command answered to, and what it said besides."""
    result = CliRunner().invoke(main, ["--home", str(home), command, "digits", str(folder), "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    found = document["inputs"] if command == "embed" else [each["input"] for each in document["results"]]
    return [str(Path(name).relative_to(folder)) for name in found], result.stderr


class TestSystemFiles:
    @pytest.mark.parametrize("command", ["classify", "embed"])
    def test_appledouble_files_are_not_asked_about(self, home: Path, command: str) -> None:
        assert names(home, command, INPUTS / "classify-folder-appledouble")[0] == ["a.png", "b.PNG"]

    def test_one_rule_holds_for_data_and_for_commands(self, home: Path, tmp_path: Path) -> None:
        folder = classes(tmp_path / "data")
        for name in SYSTEM:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"junk")
        data = load(folder, RECIPE)
        assert data.labels == ("cat", "dog") and len(data) == 12 and not data.excluded
        for command in ("classify", "embed"):
            assert len(names(home, command, folder)[0]) == 12

    def test_a_hidden_file_that_is_named_is_asked_about(self, home: Path, tmp_path: Path) -> None:
        file = tmp_path / ".one.png"
        file.write_bytes(picture(3))
        result = CliRunner().invoke(main, ["--home", str(home), "classify", "digits", str(file), "--json"])
        assert result.exit_code == 0, result.output


PASSED = {
    "broken link": 2,
    "link that leaves the folder": 3,
    "link to a folder that is read already": 2,
    "not a file": 2,
}


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl", ".parquet"])
def test_a_model_of_pictures_says_that_it_was_given_texts(home: Path, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"texts{suffix}"
    file.write_text("text,label\na day,x\n")
    result = CliRunner().invoke(main, ["--home", str(home), "classify", "digits", str(file)])
    said = " ".join(result.stderr.split())
    assert (
        result.exit_code == 1 and "this model takes pictures: expected a picture's file or a folder" in said
    )


class TestLinks:
    def linked(self, folder: Path) -> Path:
        """Two classes, and links of every kind among the pictures of one."""
        classes(folder / "data")
        dog = folder / "data" / "dog"
        fill(folder / "elsewhere", 500, 2)
        (dog / "away").symlink_to(folder / "elsewhere")
        (dog / "away.png").symlink_to(folder / "elsewhere" / "500.png")
        (dog / "loop").symlink_to(dog)
        (dog / "up").symlink_to(folder / "data")
        (dog / "circle.png").symlink_to(dog / "circle.png")
        (dog / "gone.png").symlink_to(folder / "nowhere.png")
        (dog / "zero.png").symlink_to("/dev/zero")
        os.mkfifo(dog / "pipe.png")
        (dog / "to-pipe.png").symlink_to(dog / "pipe.png")
        return folder / "data"

    def test_links_that_lead_nowhere_useful_are_passed_over_and_counted(self, tmp_path: Path) -> None:
        data = load(self.linked(tmp_path), RECIPE)
        assert len(data) == 12 and data.excluded == PASSED

    def test_commands_pass_them_over_too(self, home: Path, tmp_path: Path) -> None:
        found, said = names(home, "classify", self.linked(tmp_path))
        assert len(found) == 12
        for reason, count in PASSED.items():
            assert f"passed over, {reason}: {count}" in " ".join(said.split())

    def test_a_link_inside_the_data_is_followed_once(self, tmp_path: Path) -> None:
        classes(tmp_path)
        fill(tmp_path / ".pool", 700, 3)
        (tmp_path / "cat" / "first").symlink_to(tmp_path / ".pool")
        (tmp_path / "cat" / "second").symlink_to(tmp_path / ".pool")
        (tmp_path / "dog" / "one.png").symlink_to(fill(tmp_path / ".more", 800, 1) / "800.png")
        data = load(tmp_path, RECIPE)
        assert len(data) == 12 + 3 + 1
        assert data.excluded == {"link to a folder that is read already": 1}

    def test_a_class_that_is_a_link_away_is_an_error(self, tmp_path: Path) -> None:
        classes(tmp_path / "data")
        (tmp_path / "data" / "emu").symlink_to(fill(tmp_path / "emu", 500))
        with pytest.raises(
            DatasetError, match=r"emu: expected a folder, this is a link that leaves .*copy the folder"
        ):
            load(tmp_path / "data", RECIPE)

    def test_a_class_of_links_that_leave_says_why_it_has_no_files(self, tmp_path: Path) -> None:
        classes(tmp_path / "data")
        (tmp_path / "data" / "emu").mkdir()
        for file in fill(tmp_path / "cache", 600, 4).iterdir():
            (tmp_path / "data" / "emu" / file.name).symlink_to(file)
        with pytest.raises(
            DatasetError, match=r"'emu' has no files \(link that leaves the folder: 4\); add some"
        ):
            load(tmp_path / "data", RECIPE)

    def test_the_folder_that_is_named_may_be_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(classes(tmp_path / "data"))
        assert len(load(tmp_path / "link", RECIPE)) == 12
