"""Code shared by all commands: options, output, errors, exit codes.

A command is declared with :func:`command` and receives a :class:`Shell` as its first argument. It returns
nothing. It calls ``shell.emit`` once with the document for ``--json`` and a function that prints the same
content as text. :func:`show_table` and :func:`show_record` print rows.
"""

import functools
import json
import re
import sys
import traceback as tracebacks
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from registry.errors import CultivarError
from registry.extras import POSTGRES, Extra
from registry.progress import Progress, watching
from registry.settings import Settings

FAILED = 1
"""Exit code after a domain error."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as in shells: 128 plus the number of SIGINT."""

_UNPRINTABLE = re.compile("[\\\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}


def _stdout() -> Console:
    """Return a console that treats stdout as a terminal only if it is one; FORCE_COLOR is ignored."""
    terminal = sys.stdout.isatty()
    return Console(force_terminal=terminal, soft_wrap=not terminal)


@dataclass(slots=True)
class Shell:
    """A command's output: results go to stdout, everything else to stderr.

    Attributes:
        settings: where the registry is.
        as_json: print one JSON document instead of text.
        out: for results.
        err: for progress and notes.
    """

    settings: Settings
    as_json: bool = False
    out: Console = field(default_factory=_stdout)
    err: Console = field(default_factory=lambda: Console(stderr=True))

    def emit(self, document: object, show: Callable[[Console], None]) -> None:
        """Print a command's result: the document as JSON, or the text that ``show`` writes."""
        if self.as_json:
            sys.stdout.write(_json(document, sys.stdout.encoding) + "\n")
            sys.stdout.flush()
        else:
            show(self.out)

    def note(self, text: str) -> None:
        """Write a note to stderr."""
        self.err.print(text, markup=False, highlight=False, soft_wrap=True)

    def progress(self, *, passing: bool = False) -> Progress:
        """Return a progress display on stderr: bars on a terminal (``passing`` as in ``Bars``), else lines."""
        return watching(self.err, passing=passing)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table on a terminal.

    Attributes:
        heading: its name.
        wrap: cells may wrap between words; otherwise they wrap only if the table does not fit.
        right: cells are right-aligned.
        shorten: shortens a cell; None shows it in full.
    """

    heading: str
    wrap: bool = True
    right: bool = False
    shorten: Callable[[str], str] | None = None


def show_table(
    out: Console,
    columns: Sequence[Column | str],
    rows: Iterable[Sequence[str]],
    *,
    title: str = "",
    empty: str = "",
) -> None:
    r"""Print rows: aligned columns on a terminal, otherwise tab-separated lines.

    In the tab-separated form the first line has the headings. Each further line is one complete row without
    colour. In a cell a backslash is written ``\\``, tab ``\t``, line feed ``\n``, carriage return ``\r``;
    other control characters, U+2028, U+2029 and lone surrogates are written ``\xHH`` or ``\uHHHH``.

    Args:
        out: the console.
        columns: headings, or full column descriptions.
        rows: cells in column order, as plain text.
        title: text above the rows on a terminal.
        empty: text to show on a terminal instead of an empty table.
    """
    declared = [Column(column) if isinstance(column, str) else column for column in columns]
    if not out.is_terminal:
        for cells in ([column.heading for column in declared], *rows):
            _write_line(out, "\t".join(map(escaped, cells)))
        return
    table = Table(box=None, pad_edge=False, header_style="bold", title=Text(title) if title else None)
    for column in declared:
        table.add_column(
            Text(column.heading),
            justify="right" if column.right else "left",
            overflow="fold",
            no_wrap=not column.wrap,
            min_width=min(len(column.heading), 20),
        )
    for cells in rows:
        shown = zip(cells, declared, strict=True)
        table.add_row(
            *(Text(escaped(column.shorten(cell) if column.shorten else cell)) for cell, column in shown)
        )
    if table.row_count or not empty:
        out.print(table, highlight=False)
    else:
        out.print(empty, markup=False, highlight=False)


def show_record(out: Console, fields: Mapping[str, str]) -> None:
    """Print named values: one per line on a terminal, otherwise a table of ``field`` and ``value``."""
    if not out.is_terminal:
        show_table(out, ["field", "value"], fields.items())
        return
    width = max(map(len, fields)) + 2
    for name, value in fields.items():
        out.print(f"{name:<{width}}{escaped(value)}", markup=False, highlight=False, soft_wrap=True)


def escaped(cell: str) -> str:
    """Return text on one line, escaped as described in ``show_table``."""
    return _UNPRINTABLE.sub(_escape, cell)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return _ESCAPES.get(character) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def _write_line(out: Console, line: str) -> None:
    encoding = getattr(out.file, "encoding", None) or "utf-8"
    out.file.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def command(
    name: str, *, needs: Sequence[Extra] = (), **attributes: Any
) -> Callable[[Callable[..., None]], click.Command]:
    """Declare a command whose function takes a :class:`Shell` as its first argument.

    Adds ``--json --traceback --home --catalog --blobs --actor``. A domain error exits with code 1 and one
    line on stderr; Ctrl-C exits with 130. ``--traceback`` adds the traceback. With ``--json`` the line is a
    JSON document.

    Args:
        name: its name.
        needs: extras that it requires.
        attributes: as of ``click.command``.
    """

    def declare(function: Callable[..., None]) -> click.Command:
        @functools.wraps(function)
        def run(
            as_json: bool,
            traceback: bool,
            home: str | None,
            catalog: str | None,
            blobs: str | None,
            actor: str | None,
            **arguments: Any,
        ) -> None:
            given = {"home": home, "catalog": catalog, "blobs": blobs, "actor": actor}
            try:
                for extra in needs:
                    extra.require(f"'{name}'")
                settings = _settings(given)
                if settings.catalog.startswith("postgresql"):
                    POSTGRES.require("a postgresql+psycopg:// catalog")
                function(Shell(settings, as_json), **arguments)
            except (CultivarError, KeyboardInterrupt) as error:
                if traceback:
                    raise
                sys.exit(_report(error, as_json))

        return click.command(name, cls=click.Command, **attributes)(_output_options(registry_options(run)))

    return declare


class Root(click.Group):
    """The group of all commands; it reports its own errors in the same form as the commands."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and exit, as ``click.Group.main`` does; with ``--json`` errors are JSON."""
        given = sys.argv[1:] if args is None else list(args)
        as_json = standalone_mode and "--json" in given
        run: Callable[..., Any] = functools.partial(super().main, args, prog_name, complete_var, **extra)
        if not as_json:
            return run(standalone_mode=standalone_mode)
        try:
            sys.exit(run(standalone_mode=False))
        except click.Abort as error:
            sys.exit(_report(error, as_json=True))
        except Exception as error:
            if not isinstance(error, click.ClickException):
                tracebacks.print_exc()
            sys.exit(_report(error, as_json=True))


def _settings(given: Mapping[str, str | None]) -> Settings:
    """Resolve the registry's options: options after the command override options before it."""
    before: Mapping[str, str | None] = click.get_current_context().find_object(dict) or {}
    home, catalog, blobs, actor = (
        given[name] or before.get(name) for name in ("home", "catalog", "blobs", "actor")
    )
    return Settings.read(home, catalog, blobs, actor)


def registry_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add ``--home --catalog --blobs --actor``; commands and the root group both take them."""
    options = (
        click.option(
            "--home", metavar="DIR", help="The registry's folder (CULTIVAR_HOME, else ~/.cultivar)."
        ),
        click.option(
            "--catalog", metavar="URL", help="sqlite:///… or postgresql+psycopg://… (CULTIVAR_CATALOG)."
        ),
        click.option("--blobs", metavar="URL", help="file:///… (CULTIVAR_BLOBS)."),
        click.option(
            "--actor", metavar="NAME", help="Name recorded in the history (CULTIVAR_ACTOR, else the OS user)."
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def _output_options(function: Callable[..., None]) -> Callable[..., None]:
    as_json = click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="Print one JSON document on stdout; errors are JSON on stderr.",
    )
    traceback = click.option("--traceback", is_flag=True, help="Show the traceback of an error.")
    return as_json(traceback(function))


def code_of(kind: type[BaseException]) -> str:
    """Return an error's machine-readable name: its class name in snake case."""
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


def _report(error: BaseException, as_json: bool) -> int:
    """Print an error as one line on stderr and return the exit code."""
    hint = None
    match error:
        case KeyboardInterrupt() | click.Abort():
            code, message, status = "interrupted", "interrupted; nothing was left half done", INTERRUPTED
        case CultivarError():
            code, message, status = code_of(type(error)), str(error), FAILED
        case click.UsageError():
            code, message, status = "usage", " ".join(error.format_message().split()), error.exit_code
            hint = error.ctx and f"'{error.ctx.command_path} --help' says how it is used"
        case _:
            code, message, status = "internal_error", f"{type(error).__name__}: {error}", FAILED
    if as_json:
        document = {"code": code, "message": message} | ({"hint": hint} if hint else {})
        click.echo(_json({"error": document}, sys.stderr.encoding), err=True)
    else:
        click.echo(f"cultivar: {' '.join(message.splitlines())}", err=True)
    return status


def _json(document: object, encoding: str) -> str:
    """Return a document on one line, using only characters of the output's encoding."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return json.dumps(document, allow_nan=False)
    return text
