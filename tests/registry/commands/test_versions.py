"""The registry's commands, as a person and as a program use them."""

import json
from datetime import timedelta
from typing import Any, cast

import click
import pytest
from click.testing import CliRunner, Result

from registry import instants
from registry.commands import stages as stage_commands
from registry.commands import storage as storage_commands
from registry.commands import versions as version_commands
from registry.names import PRODUCTION
from registry.registry import Registry
from registry.settings import Settings
from registry.versions import Version
from tests.builders import publish, tiny
from tests.registry.answering import answering, answers

COMMANDS = click.Group(
    commands=[
        each
        for module in (version_commands, stage_commands, storage_commands)
        for each in vars(module).values()
        if isinstance(each, click.Command)
    ]
)
V = {
    "ref", "digest", "source", "target", "version", "technique", "stages", "metrics", "space_id", "created_at",
}  # fmt: skip


@pytest.fixture
def versions(registry: Registry) -> list[Version]:
    return [publish(registry, tiny(seed=seed)) for seed in range(3)]


@pytest.fixture
def run(settings: Settings) -> "Run":
    return Run(settings)


class Run:
    """Runs commands on one registry."""

    def __init__(self, settings: Settings) -> None:
        self._options = ["--home", str(settings.home), "--actor", "ada"]

    def __call__(self, *words: str) -> Result:
        return CliRunner().invoke(COMMANDS, [*words, *self._options])

    def json(self, *words: str, code: int = 0) -> dict[str, object]:
        result = self(*words, "--json")
        assert result.exit_code == code, result.output
        document = json.loads(result.stdout)
        assert isinstance(document, dict)
        return document

    def fails(self, *words: str, code: int = 1) -> str:
        result = self(*words)
        assert result.exit_code == code, result.output
        assert result.stdout == ""
        return result.stderr


def test_the_commands_are_those_of_the_interface() -> None:
    assert set(COMMANDS.commands) == {
        "list",
        "show",
        "history",
        "lineage",
        "compare",
        "promote",
        "rollback",
        "delete",
        "verify",
        "gc",
    }


def test_lineage(run: Run, registry: Registry, versions: list[Version]) -> None:
    child = publish(registry, tiny("digits/odd", seed=5, parent=versions[0].digest))
    document = run.json("lineage", "digits/odd@1")
    assert document["ref"] == "digits/odd@1"
    assert document["children"] == []
    oldest, youngest = cast(list[dict[str, Any]], document["generations"])
    assert oldest["ref"] == str(versions[0].ref) and oldest["parent"] is None
    assert youngest["parent"] == versions[0].digest
    assert [each["shared_with_parent"] for each in youngest["segments"]] == [True, False]
    assert set(youngest) == {
        "ref", "digest", "technique", "source", "parent", "stages", "deleted", "bytes_saved", "segments",
    }  # fmt: skip
    assert run.json("lineage", "letters/digits@1")["children"] == [str(child.ref)]
    shown = run("lineage", "digits/odd@1").stdout
    assert "bundled:tiny" in shown and "bytes saved" in shown and "letters/digits@1" in shown


def test_compare(run: Run, registry: Registry) -> None:
    for seed in (0, 1):
        publish(registry, answering(tiny(seed=seed), answers(seed)))
    document = run.json("compare", "letters/digits@1", "letters/digits@2")
    assert document["refs"] == ["letters/digits@1", "letters/digits@2"]
    assert document["labels_equal"] is True and document["space_equal"] is True
    assert document["metrics"] == {"accuracy": [0.5, 0.51]}
    paired = cast(dict[str, Any], document["paired"])
    assert paired["items"] == 40 and 0 <= paired["p"] <= 1
    shown = run("compare", "letters/digits@1", "letters/digits@2").stdout
    assert "40 items both answered" in shown
    publish(registry, tiny(seed=2, labels=None))
    assert "no predictions" in str(run.json("compare", "letters/digits@1", "letters/digits@3")["unpaired"])
    assert "no test" in run("compare", "letters/digits@1", "letters/digits@3").stdout
    assert "letters/digits@9" in run.fails("compare", "letters/digits@1", "letters/digits@9")


def test_list(run: Run, versions: list[Version]) -> None:
    document = run.json("list")
    assert document["next"] is None
    listed = document["versions"]
    assert isinstance(listed, list)
    assert [each["ref"] for each in listed] == [f"letters/digits@{number}" for number in (3, 2, 1)]
    assert all(set(each) == V for each in listed)
    assert listed[0]["version"] == 3
    assert instants.parse(listed[0]["created_at"]) == versions[2].created_at
    shown = run("list").stdout
    assert "letters/digits@3" in shown
    assert "0.52" in shown


def test_list_filters_and_goes_on(run: Run, registry: Registry, versions: list[Version]) -> None:
    publish(registry, tiny("letters/shapes", technique="full"))
    registry.promote("digits@2", PRODUCTION)
    for words, refs in [
        (["--target", "shapes"], ["letters/shapes@1"]),
        (["--technique", "full"], ["letters/shapes@1"]),
        (["--stage", "production"], ["letters/digits@2"]),
        (["--source", "nothing"], []),
    ]:
        listed = run.json("list", *words)["versions"]
        assert isinstance(listed, list)
        assert [each["ref"] for each in listed] == refs
    first = run.json("list", "--limit", "3")
    last = run.json("list", "--limit", "3", "--cursor", str(first["next"]))
    assert isinstance(last["versions"], list)
    assert [each["ref"] for each in last["versions"]] == ["letters/digits@1"]
    assert last["next"] is None
    assert f"--cursor {first['next']}" in run("list", "--limit", "3").stderr
    assert run("list", "--target", "roses").stdout.splitlines() == run("list").stdout.splitlines()[:1]


def test_show(run: Run, versions: list[Version]) -> None:
    document = run.json("show", "digits@2")
    assert set(document) == V | {"manifest"}
    assert document["manifest"] == json.loads(tiny(seed=1).manifest.to_bytes())
    shown = run("show", "digits@2").stdout
    assert versions[1].digest in shown
    assert "trunk" in shown


def test_promote_and_rollback(run: Run, versions: list[Version]) -> None:
    first = run.json("promote", "digits@1", "production", "--expect", "0")
    assert first == {
        "target": "digits", "stage": "production", "ref": "letters/digits@1", "previous": None, "event": 4, "gates": [],
    }  # fmt: skip
    assert "expected the last stage event" in run.fails("promote", "digits@2", "production", "--expect", "0")
    assert "before letters/digits@1" in run("promote", "digits@2", "production").stdout
    back = run.json("rollback", "digits", "--reason", "worse")
    assert (back["ref"], back["previous"]) == ("letters/digits@1", "letters/digits@2")
    assert "promote a version instead" in run.fails("rollback", "digits")


def test_force_needs_a_reason(run: Run, versions: list[Version]) -> None:
    assert "--reason" in run.fails("promote", "digits@1", "production", "--force", code=2)
    run.json("promote", "digits@1", "production", "--force", "--reason", "hurry")


def test_history(run: Run, registry: Registry, versions: list[Version]) -> None:
    before = instants.to_text(instants.now() - timedelta(hours=1))
    run.json("promote", "digits@1", "production", "--reason", "[b]")
    document = run.json("history", "digits")
    assert document["target"] == "digits"
    passed = document["events"]
    assert isinstance(passed, list)
    assert set(passed[-1]) == {"id", "seq", "at", "actor", "action", "ref", "stage", "reason", "forced"}
    assert (passed[-1]["actor"], passed[-1]["action"], passed[-1]["stage"]) == (
        "ada",
        "promoted",
        "production",
    )
    assert "[b]" in run("history", "digits").stdout
    now = passed[-1]["at"]
    assert run.json("history", "digits", "--at", now) == {
        "target": "digits", "at": now, "stages": {"production": "letters/digits@1"},
    }  # fmt: skip
    assert run.json("history", "digits", "--at", before)["stages"] == {}
    assert run("history", "digits", "--at", now).stdout == "stage\tversion\nproduction\tletters/digits@1\n"
    assert run("history", "digits", "--at", before).stdout == "stage\tversion\n"
    assert "a time is written like" in run.fails("history", "digits", "--at", "noon", code=2)


def test_delete(run: Run, versions: list[Version]) -> None:
    assert "--reason" in run.fails("delete", "digits@1", code=2)
    assert run.json("delete", "digits@1", "--reason", "a mistake")["action"] == "deleted"
    assert "was deleted" in run.fails("show", "letters/digits@1")
    run.json("promote", "digits@2", "production")
    assert "is in production" in run.fails("delete", "digits@2", "--reason", "why not")


def test_verify(run: Run, registry: Registry, versions: list[Version]) -> None:
    assert run.json("verify")["ok"] is True
    assert "all sound" in run("verify", "digits@1").stdout
    head = registry.manifest(versions[0]).segments[1]
    registry.blob_path(head.digest).unlink()
    report = run.json("verify", code=1)
    assert report["ok"] is False
    assert report["damaged"] == [{"kind": "segment", "id": head.digest, "refs": ["letters/digits@1"]}]
    shown = run("verify")
    assert shown.exit_code == 1
    assert f"damaged segment {head.digest}: letters/digits@1" in shown.stdout


def test_gc(run: Run, versions: list[Version]) -> None:
    run.json("delete", "digits@1", "--reason", "a mistake")
    assert run.json("gc", "--dry-run") == {"dry_run": True, "removed": [], "bytes": 0}
    assert "wait for the end of their grace period" in run("gc").stdout
    document = run.json("gc", "--grace", "0")
    assert isinstance(document["removed"], list)
    assert versions[0].digest in document["removed"]
    assert isinstance(document["bytes"], int)
    assert document["bytes"] > 0
    assert run.json("verify")["ok"] is True


@pytest.mark.parametrize("grace", ["-1", "an hour", "1w"])
def test_a_grace_period_that_is_none_is_refused(run: Run, grace: str) -> None:
    assert "15m, 1h, 7d" in run.fails("gc", f"--grace={grace}", code=2)


@pytest.mark.parametrize("command", ["show", "promote", "rollback", "history"])
def test_what_is_not_there_is_one_line_and_no_traceback(run: Run, command: str) -> None:
    words = [command, "roses", *(["production"] if command == "promote" else [])]
    said = run.fails(*words)
    assert said.startswith("cultivar: expected a target task")
    assert said.count("\n") == 1
