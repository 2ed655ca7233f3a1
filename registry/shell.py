"""What every command of the command line shares: options, output, exit codes.

A command is declared with :func:`command` and receives a :class:`Shell` first. It returns
nothing; it calls ``shell.emit`` once with the document that ``--json`` prints and a function that
shows the same to a person.
"""

import functools
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import click
from rich.console import Console

from registry.errors import CultivarError
from registry.progress import Progress, watching
from registry.settings import Settings

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 and the number of SIGINT."""


@dataclass(slots=True)
class Shell:
    """The place a command speaks to: results to stdout, everything else to stderr.

    Attributes:
        settings: where the registry is.
        as_json: print one JSON document in place of text.
        out: for results.
        err: for progress and remarks.
    """

    settings: Settings
    as_json: bool = False
    out: Console = field(default_factory=lambda: Console(soft_wrap=False))
    err: Console = field(default_factory=lambda: Console(stderr=True))

    def emit(self, document: object, show: Callable[[Console], None]) -> None:
        """Print a command's result: the document as JSON, or what ``show`` writes for a person."""
        if self.as_json:
            sys.stdout.write(json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n")
            sys.stdout.flush()
        else:
            show(self.out)

    def note(self, text: str) -> None:
        """Write a remark to stderr."""
        self.err.print(text, highlight=False)

    def progress(self, *, passing: bool = False) -> Progress:
        """Return somebody who shows progress on stderr: bars on a terminal, ``passing`` as of ``Bars``, else lines."""
        return watching(self.err, passing=passing)


def command(name: str, **attributes: Any) -> Callable[[Callable[..., None]], click.Command]:
    """Declare a command whose function takes a :class:`Shell` first.

    Adds ``--json --traceback --home --catalog --blobs --actor``. A domain error ends the process with
    code 1 and one line on stderr, Ctrl-C with 130; ``--traceback`` shows where either came from.
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
                shell = Shell(_settings(given), as_json)
                function(shell, **arguments)
            except CultivarError as error:
                if traceback:
                    raise
                _fail(str(error))
                sys.exit(1)
            except KeyboardInterrupt:
                if traceback:
                    raise
                _fail("interrupted; nothing was left half done")
                sys.exit(INTERRUPTED)

        return click.command(name, cls=click.Command, **attributes)(_output_options(registry_options(run)))

    return declare


def _settings(given: Mapping[str, str | None]) -> Settings:
    """Settle the registry's options: those given after the command win over those before it."""
    before: Mapping[str, str | None] = click.get_current_context().find_object(dict) or {}
    home, catalog, blobs, actor = (
        given[name] or before.get(name) for name in ("home", "catalog", "blobs", "actor")
    )
    return Settings.read(home, catalog, blobs, actor)


def registry_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add ``--home --catalog --blobs --actor``: a command takes them, and so does the root group."""
    options = (
        click.option(
            "--home", metavar="DIR", help="The registry's folder (CULTIVAR_HOME, else ~/.cultivar)."
        ),
        click.option(
            "--catalog", metavar="URL", help="sqlite:///… or postgresql+psycopg://… (CULTIVAR_CATALOG)."
        ),
        click.option("--blobs", metavar="URL", help="file:///… or s3://bucket/prefix (CULTIVAR_BLOBS)."),
        click.option("--actor", metavar="NAME", help="In whose name (CULTIVAR_ACTOR, else the OS user)."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def _output_options(function: Callable[..., None]) -> Callable[..., None]:
    as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
    traceback = click.option("--traceback", is_flag=True, help="Show where an error came from.")
    return as_json(traceback(function))


def _fail(message: str) -> None:
    click.echo(f"cultivar: {message}", err=True)
