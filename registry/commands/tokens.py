"""The command ``tokens``: ``add``, ``revoke`` and ``list``."""

from collections.abc import Sequence
from datetime import datetime

import click
from rich.console import Console

from registry import instants
from registry.commands.parameters import Time
from registry.commands.shell import Column, Shell, command, show_table
from registry.registry import Registry
from registry.tokens import OPERATIONS, Grant, Token


@command("add")
@click.argument("name")
@click.option(
    "--targets", metavar="A,B", help="Targets that it is valid for; default all, including future ones."
)
@click.option("--operations", metavar="A,B", help=f"{', '.join(OPERATIONS)}; default both.")
@click.option(
    "--expires", type=Time(), metavar="TIME",
    help="When it expires, such as 2027-01-01T00:00:00Z; default never.",
)  # fmt: skip
def add(
    shell: Shell, name: str, targets: str | None, operations: str | None, expires: datetime | None
) -> None:
    """Create a bearer token and print it once; only its hash is stored."""
    grant = Grant.of(_names(targets), _names(operations))
    with Registry.open(shell.settings) as registry:
        token, text = registry.add_token(name, grant, expires=expires)
    shell.note(f"{token.name} is valid for {_scope(token)}; store it safely, it cannot be shown again")
    document = {"token": text, **token.to_json(instants.now())}
    shell.emit(document, lambda out: out.print(text, highlight=False, markup=False, soft_wrap=True))


@command("revoke")
@click.argument("name")
def revoke(shell: Shell, name: str) -> None:
    """Revoke a bearer token. Servers reject it within about a second; it stays in the list."""
    with Registry.open(shell.settings) as registry:
        token = registry.revoke_token(name)
    shell.emit(
        token.to_json(instants.now()), lambda out: out.print(f"{token.name} is revoked", highlight=False)
    )


@command("list")
def list_tokens(shell: Shell) -> None:
    """List bearer tokens, newest first, including revoked and expired ones."""
    with Registry.open(shell.settings) as registry:
        found = registry.tokens()
    now = instants.now()
    shell.emit({"tokens": [token.to_json(now) for token in found]}, lambda out: _show_tokens(out, found, now))


tokens = click.Group("tokens", commands=[add, revoke, list_tokens], help="Bearer tokens for servers.")


def _names(text: str | None) -> list[str]:
    """Split comma-separated names. An empty name is kept so that it is rejected: it would mean all."""
    return [] if text is None else [name.strip() for name in text.split(",")]


def _scope(token: Token) -> str:
    operations = " and ".join(sorted(token.grant.operations) or OPERATIONS)
    return f"{operations} on {', '.join(sorted(token.grant.targets)) or 'all targets'}"


def _show_tokens(out: Console, found: Sequence[Token], now: datetime) -> None:
    columns: list[Column | str] = [
        "name", Column("id", wrap=False), Column("state", wrap=False), "good for", "made", "expires", "revoked",
    ]  # fmt: skip
    rows = (
        (
            token.name, token.id, token.state(now), _scope(token), f"{_clock(token.created_at)} by {token.created_by}",
            _clock(token.expires_at),
            "" if token.revoked_at is None else f"{_clock(token.revoked_at)} by {token.revoked_by}",
        )
        for token in found
    )  # fmt: skip
    show_table(out, columns, rows, empty="no tokens")


def _clock(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"
