"""The command ``tokens``, as a person and as a program use it."""

import json
from datetime import timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result

from registry import instants
from registry.commands.tokens import tokens
from registry.registry import Registry
from registry.settings import Settings
from registry.tokens import ACTIVE, REVOKED, Grant


class Run:
    """Runs ``cultivar tokens`` on one registry."""

    def __init__(self, settings: Settings) -> None:
        self._options = ["--home", str(settings.home), "--actor", "ada"]

    def __call__(self, *words: str) -> Result:
        return CliRunner().invoke(tokens, [*words, *self._options])

    def json(self, *words: str) -> dict[str, Any]:
        result = self(*words, "--json")
        assert result.exit_code == 0, result.output
        document: dict[str, Any] = json.loads(result.stdout)
        return document


@pytest.fixture
def run(settings: Settings) -> Run:
    return Run(settings)


def test_a_token_is_shown_once_and_kept_as_a_hash(run: Run, registry: Registry, settings: Settings) -> None:
    made = run.json("add", "ci")
    (kept,) = registry.tokens()
    assert kept.proved_by(made["token"].encode())
    assert (made["name"], made["id"], made["state"], made["created_by"]) == ("ci", kept.id, ACTIVE, "ada")
    assert (made["targets"], made["operations"], made["expires_at"]) == ([], [], None)
    secret = made["token"][17:]
    assert secret not in run("list").output + run("list", "--json").output
    for file in settings.home.iterdir():
        assert file.is_dir() or secret.encode() not in file.read_bytes()


def test_stdout_has_the_token_alone_so_that_a_variable_takes_it(run: Run, registry: Registry) -> None:
    result = run("add", "ci")
    text = result.stdout.removesuffix("\n")
    assert registry.tokens()[0].proved_by(text.encode())
    assert "classify and embed on all targets" in " ".join(result.stderr.split())


def test_a_token_is_scoped_and_expires(run: Run, registry: Registry) -> None:
    end = instants.now() + timedelta(days=1)
    made = run.json(
        "add", "ci", "--targets", "a, b", "--operations", "embed", "--expires", instants.to_text(end)
    )
    assert (made["targets"], made["operations"]) == (["a", "b"], ["embed"])
    assert made["expires_at"] == instants.to_text(end)
    (kept,) = registry.tokens()
    assert (kept.grant, kept.expires_at) == (Grant.of(["a", "b"], ["embed"]), end)


@pytest.mark.parametrize(
    "words",
    [["--targets", ""], ["--targets", "a,"], ["--targets", "A"], ["--operations", ""], ["--operations", "delete"],
     ["--expires", "2020-01-01T00:00:00Z"]],
    ids=" ".join,
)  # fmt: skip
def test_a_scope_that_says_nothing_is_no_scope_for_everything(
    run: Run, registry: Registry, words: list[str]
) -> None:
    assert run("add", "ci", *words).exit_code == 1
    assert registry.tokens() == []


def test_a_name_is_given_once(run: Run) -> None:
    run.json("add", "ci")
    result = run("add", "ci")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "stay taken" in result.stderr


def test_a_revoked_token_stays_listed_with_its_time_and_actor(run: Run) -> None:
    run.json("add", "ci")
    run.json("add", "web")
    revoked = run.json("revoke", "ci")
    assert (revoked["state"], revoked["revoked_by"]) == (REVOKED, "ada")
    assert run.json("revoke", "ci") == revoked
    web, ci = run.json("list")["tokens"]
    assert (web["name"], web["state"], web["revoked_at"]) == ("web", ACTIVE, None)
    assert ci == revoked
    shown = run("list").stdout
    assert "ci" in shown
    assert "revoked" in shown


def test_what_was_never_made_cannot_be_revoked(run: Run) -> None:
    result = run("revoke", "ci")
    assert result.exit_code == 1
    assert "tokens list" in result.stderr


def test_an_empty_registry_has_no_tokens(run: Run) -> None:
    assert run.json("list") == {"tokens": []}
    assert run("list").stdout == "name\tid\tstate\tgood for\tmade\texpires\trevoked\n"
