"""Three transfers by the command line, each from the one before: what is shared is printed, and is the same bytes."""

import json
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from services.cli import main
from tests.adapters.tiny import write_shapes

Run = Callable[..., str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    home = tmp_path_factory.mktemp("home")

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(main, ["--home", str(home), *arguments], env={"COLUMNS": "240"})
        assert result.exit_code == 0, result.stderr
        return result.stdout

    return run


@pytest.fixture(scope="module")
def chain(run: Run, tmp_path_factory: pytest.TempPathFactory) -> list[Mapping[str, Any]]:
    """Letters to digits, the last stage retrained; to shapes, a head alone; to bars, the last stage again."""
    folder = tmp_path_factory.mktemp("shapes")
    transfers: list[tuple[str | Path, str, str, str]] = [
        ("example:digits", "bundled:glyphs", "digits", "partial"),
        (write_shapes(folder / "shapes", per_class=10), "registry:letters/digits@1", "shapes", "frozen"),
        (
            write_shapes(folder / "bars", per_class=10, start=50),
            "registry:digits/shapes@1",
            "bars",
            "partial",
        ),
    ]
    return [_adapt(run, *transfer) for transfer in transfers]


def _adapt(run: Run, data: str | Path, source: str, target: str, technique: str) -> Mapping[str, Any]:
    brief = ["--depth", "1", "--epochs", "1"] if technique == "partial" else []
    arguments = ["--source", source, "--target", target, "--technique", technique, *brief]
    answer: Mapping[str, Any] = json.loads(run("adapt", str(data), *arguments, "--json"))
    return answer


def test_each_target_is_the_next_source_task(chain: list[Mapping[str, Any]]) -> None:
    assert [answer["ref"] for answer in chain] == ["letters/digits@1", "digits/shapes@1", "shapes/bars@1"]


def test_generations_share_the_stages_that_nothing_retrained(
    run: Run, chain: list[Mapping[str, Any]]
) -> None:
    found = json.loads(run("lineage", "bars@1", "--json"))["generations"]
    assert [each["ref"] for each in found] == [answer["ref"] for answer in chain]
    assert [each["technique"] for each in found] == ["partial", "frozen", "partial"]
    assert [each["digest"] for each in found] == [answer["digest"] for answer in chain]
    assert [each["parent"] for each in found[1:]] == [answer["digest"] for answer in chain[:-1]]
    shared = [
        [segment["name"] for segment in each["segments"] if segment["shared_with_parent"]] for each in found
    ]
    assert shared == [
        [],
        ["stem", "block1", "block2", "block3", "pool"],
        ["stem", "block1", "block2", "pool"],
    ]
    for before, each in pairwise(found):
        theirs = {segment["name"]: segment["digest"] for segment in before["segments"]}
        for segment in each["segments"]:
            assert (theirs[segment["name"]] == segment["digest"]) is segment["shared_with_parent"]
        kept = {s["digest"]: s["bytes"] for s in each["segments"] if s["shared_with_parent"]}
        assert each["bytes_saved"] == sum(kept.values()) > 0


def test_shared_digests_are_printed(run: Run, chain: list[Mapping[str, Any]]) -> None:
    head, *rows = (line.split("\t") for line in run("lineage", "bars@1").splitlines())
    assert rows[0][head.index("source")] == "bundled:glyphs"
    shown = [row[head.index("shared")] for row in rows if row[head.index("shared")]]
    first = json.loads(run("lineage", "digits@1", "--json"))["generations"][0]
    names = {segment["name"]: segment["digest"] for segment in first["segments"]}
    assert len(shown) == 2
    for line, kept in zip(
        shown, (("stem", "block1", "block2", "block3", "pool"), ("stem", "block1", "block2")), strict=True
    ):
        for name in kept:
            assert f"{name} {names[name]}" in line
    assert names["block3"] not in shown[1]
    assert json.loads(run("verify", "--json"))["ok"] is True
