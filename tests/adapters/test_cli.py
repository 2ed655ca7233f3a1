"""``cultivar sources`` and ``cultivar adapt``, as a program would call them."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from services.cli import main
from tests.adapters.tiny import write_shapes

KEYS = {
    "ref",
    "digest",
    "source",
    "target",
    "version",
    "technique",
    "stages",
    "metrics",
    "space_id",
    "created_at",
}


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(home), *arguments])


def document(result: Result) -> Any:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes"), per_class=12)


def test_sources_are_listed_with_what_a_user_has_to_know(tmp_path: Path) -> None:
    listed = document(run(tmp_path, "sources", "--json"))["sources"]
    by_spec = {source["spec"]: source for source in listed}
    assert len(listed) > 80
    glyphs = by_spec["bundled:glyphs"]
    assert glyphs["task"] == "letters" and glyphs["modality"] == "image" and glyphs["at_hand"]
    assert glyphs["cuts"] == ["stem", "block1", "block2", "block3", "pool"] and glyphs["dimension"] == 192
    assert by_spec["torchvision:resnet50@IMAGENET1K_V2"]["dimension"] == 2048


def test_an_adaptation_answers_with_the_version_and_its_proof(tmp_path: Path, folder: Path) -> None:
    adapt = [
        "adapt",
        str(folder),
        "--source",
        "bundled:glyphs",
        "--target",
        "shapes",
        "--technique",
        "frozen",
    ]
    answer = document(run(tmp_path, *adapt, "--promote", "production", "--json"))
    assert answer.keys() >= KEYS | {"parity", "segments", "seconds"}
    assert answer["ref"] == "letters/shapes@1" and answer["stages"] == ["production"]
    assert answer["parity"]["inputs"] == 256 and answer["parity"]["top1_agreement"] == 1.0
    assert 0 <= answer["parity"]["max_abs_difference"] < 1e-2
    assert [segment["role"] for segment in answer["segments"]] == ["trunk"] * 5 + ["head"]
    assert 0 <= answer["metrics"]["accuracy"] <= 1
    assert document(run(tmp_path, "verify", "--json"))["ok"] is True


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--technique": "frozzen"}, "did you mean 'frozen'"),
        ({"--source": "bundled:runes"}, "bundled:glyphs"),
        ({"--source": "resnet50"}, "cultivar sources"),
        ({"--source": "torchvision:resnet18"}, "resnet18"),
        ({"--target": "Shapes"}, "lower-case"),
        ({"--depth": "2"}, "no setting 'depth'"),
        ({"--source-task": "imagenet-1k"}, "declares the task 'letters'"),
        ({"DATA": "nowhere"}, "nowhere"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_order_is_one_line_that_says_what_to_do(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], message: str
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    options = {"--source": "bundled:glyphs", "--target": "shapes", "--technique": "frozen"} | changes
    data = options.pop("DATA", str(folder))
    result = run(tmp_path, "adapt", data, *(text for option in options.items() for text in option))
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("cultivar: ")
