"""What all commands share."""

import io
import json
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from registry import errors
from registry.commands.shell import (
    Column,
    Root,
    Shell,
    code_of,
    command,
    registry_options,
    show_record,
    show_table,
)
from registry.errors import CultivarError, UnknownTarget
from registry.extras import Extra


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


@command("break")
def broken(shell: Shell) -> None:
    """Break."""
    raise ZeroDivisionError("a fault of the program")


@command("want", needs=(Extra("dreams", ("no_such_module_a", "json", "no_such_module_b")),))
def want(shell: Shell) -> None:
    """Want what is not installed."""
    raise AssertionError("it began")


@command("number")
@click.argument("number", type=int)
def number(shell: Shell, number: int) -> None:
    """Take a number."""


@command("rows")
def rows(shell: Shell) -> None:
    """Print a table."""
    cells = [
        ("a\tb", "c\nd"),
        ("e\\f", "g\r\u2028\x1b[31m"),
        ("\udcff é😀\u200d", ""),
        ("x" * 500, "[bold]y[/]"),
    ]
    columns: list[Column | str] = [
        Column("first", shorten=lambda cell: cell[:3]),
        Column("second", right=True),
    ]
    shell.emit(cells, lambda out: show_table(out, columns, cells, title="letters"))


@click.group(cls=Root)
@registry_options
@click.pass_context
def root(context: click.Context, /, **given: str | None) -> None:
    """Root."""
    context.obj = given


for each in (where, fail, interrupt, broken, want, number, rows):
    root.add_command(each)


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


def last_error(result: Result) -> dict[str, str]:
    """The document on the last line of stderr."""
    assert result.stdout == ""
    document = json.loads(result.stderr.splitlines()[-1])
    assert set(document) == {"error"}
    assert set(document["error"]) <= {"code", "message", "hint"}
    error: dict[str, str] = document["error"]
    return error


@pytest.mark.parametrize(
    ("arguments", "code", "status", "says"),
    [
        (["fail"], "unknown_target", 1, "'rose' was ever registered"),
        (["fail", "--traceback"], "unknown_target", 1, "'rose' was ever registered"),
        (["fail", "--catalog", "mysql://x"], "invalid_setting", 1, "a catalog is"),
        (["want"], "missing_extra", 1, "cultivar[dreams]"),
        (["interrupt"], "interrupted", 130, "nothing was left half done"),
        (["interrupt", "--traceback"], "interrupted", 130, "nothing was left half done"),
        (["break"], "internal_error", 1, "ZeroDivisionError: a fault of the program"),
        (["where", "--nonsense"], "usage", 2, "--nonsense"),
        (["number"], "usage", 2, "Missing argument"),
        (["number", "x"], "usage", 2, "'x' is not a valid integer"),
        (["nothing"], "usage", 2, "No such command 'nothing'"),
        (["--nonsense", "where"], "usage", 2, "--nonsense"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_errors_are_one_json_document_on_the_last_line_of_stderr(
    arguments: list[str], code: str, status: int, says: str
) -> None:
    result = run(*arguments, "--json")
    error = last_error(result)
    assert (error["code"], result.exit_code) == (code, status)
    assert says in error["message"]
    assert ("--help" in error.get("hint", "")) == (code == "usage")


def test_an_error_without_json_stays_a_sentence() -> None:
    assert run("want").stderr == (
        "cultivar: 'want' needs cultivar[dreams], which is not installed in this environment "
        "(no module no_such_module_a, no_such_module_b); install it\n"
    )
    assert "Usage:" in run("number").stderr
    assert isinstance(run("break").exception, ZeroDivisionError)


def test_every_error_has_a_code_of_its_own_that_is_documented() -> None:
    kinds = [
        each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, CultivarError)
    ]
    codes = [code_of(kind) for kind in kinds]
    assert len(set(codes)) == len(codes)
    documented = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()
    raised = {code for kind, code in zip(kinds, codes, strict=True) if kind is not CultivarError}
    assert raised | {"usage", "interrupted", "internal_error"} <= set(re.findall(r"`([a-z_]+)`", documented))


def test_rows_are_tab_separated_whole_and_on_one_line_each_where_nobody_watches() -> None:
    lines = run("rows").stdout.split("\n")
    assert lines == [
        "first\tsecond",
        r"a\tb" + "\t" + r"c\nd",
        r"e\\f" + "\t" + r"g\r\u2028\x1b[31m",
        "\\udcff é😀\u200d\t",
        "x" * 500 + "\t[bold]y[/]",
        "",
    ]


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE"])
def test_no_variable_makes_a_pipe_a_terminal(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = run("rows").stdout
    monkeypatch.setenv(variable, "1")
    assert run("rows").stdout == plain


def terminal(width: int = 60) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)


def test_rows_are_aligned_on_a_terminal() -> None:
    out = terminal()
    show_table(out, ["name", Column("size", right=True)], [("a", "1"), ("[b]\t", "1000")], title="sizes")
    assert isinstance(out.file, io.StringIO)
    shown = re.sub("\x1b[^m]*m", "", out.file.getvalue()).splitlines()
    assert [line.strip() for line in shown] == ["sizes", "name   size", "a         1", r"[b]\t  1000"]


def test_a_terminal_is_told_that_there_is_nothing() -> None:
    out = terminal()
    show_table(out, ["name"], [], empty="no names")
    assert isinstance(out.file, io.StringIO)
    assert out.file.getvalue() == "no names\n"


def test_named_values_are_rows_where_nobody_watches() -> None:
    out = Console(file=io.StringIO(), force_terminal=False, width=20)
    show_record(out, {"digest": "sha256:" + "a" * 64, "note": "a\nb"})
    assert isinstance(out.file, io.StringIO)
    assert out.file.getvalue() == "field\tvalue\ndigest\tsha256:" + "a" * 64 + "\nnote\ta\\nb\n"


def test_json_is_written_whatever_a_name_holds() -> None:
    result = CliRunner(charset="ascii").invoke(root, ["rows", "--json"])
    assert json.loads(result.stdout)[2][0] == "\udcff é😀\u200d"
