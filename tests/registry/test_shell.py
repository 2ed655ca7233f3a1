"""What all commands share."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from registry.errors import UnknownTarget
from registry.shell import Shell, command, registry_options


@command("where")
def where(shell: Shell) -> None:
    """Say where the registry is."""
    shell.note("looking")
    shell.emit({"home": str(shell.settings.home)}, lambda out: out.print("at home"))


@command("fail")
def fail(shell: Shell) -> None:
    """Fail."""
    raise UnknownTarget("no version of 'rose' was ever registered; 'cultivar list' shows what there is")


@command("interrupt")
def interrupt(shell: Shell) -> None:
    """Stop."""
    raise KeyboardInterrupt


@click.group()
@registry_options
@click.pass_context
def root(context: click.Context, /, **given: str | None) -> None:
    """Root."""
    context.obj = given


root.add_command(where)
root.add_command(fail)
root.add_command(interrupt)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(root, list(arguments))


def test_json_is_the_only_thing_on_stdout(tmp_path: Path) -> None:
    result = run("where", "--json", "--home", str(tmp_path))
    assert json.loads(result.stdout) == {"home": str(tmp_path)}
    assert "looking" in result.stderr


def test_options_stand_before_or_after_the_command(tmp_path: Path) -> None:
    before = run("--home", str(tmp_path / "a"), "where", "--json")
    both = run("--home", str(tmp_path / "a"), "where", "--json", "--home", str(tmp_path / "b"))
    assert json.loads(before.stdout)["home"].endswith("a")
    assert json.loads(both.stdout)["home"].endswith("b")


def test_a_domain_error_is_one_line_and_exit_code_1() -> None:
    result = run("fail")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("cultivar: no version of 'rose'")


def test_a_traceback_comes_when_asked_for() -> None:
    result = run("fail", "--traceback")
    assert isinstance(result.exception, UnknownTarget)


def test_usage_errors_exit_with_2() -> None:
    assert run("where", "--nonsense").exit_code == 2


def test_ctrl_c_exits_as_shells_do() -> None:
    assert run("interrupt").exit_code == 130


@pytest.mark.parametrize("flag", ["--home", "--catalog", "--blobs", "--actor", "--json", "--traceback"])
def test_help_names_every_shared_option(flag: str) -> None:
    assert flag in run("where", "--help").stdout
