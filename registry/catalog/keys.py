"""Token rows. Every function runs in the caller's transaction."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from registry.catalog.schema import counters, tokens
from registry.digests import Digest
from registry.errors import NameTaken, UnknownToken
from registry.quoting import quoted
from registry.tokens import Grant, Token

_COUNTER = counters.c.name == "tokens"

CHANGE_COUNT = sa.select(counters.c.value).where(_COUNTER)
"""Selects how many times a token was added or revoked."""


def every_token(connection: sa.Connection) -> list[Token]:
    """Return every token, newest first."""
    newest = sa.select(tokens).order_by(tokens.c.created_at.desc(), tokens.c.name)
    return [_token_of(row) for row in connection.execute(newest)]


def add_token(connection: sa.Connection, token: Token) -> None:
    """Store a token.

    Raises:
        NameTaken: there is one of this name or id, revoked or not.
    """
    _count(connection)
    same = sa.select(tokens.c.name).where((tokens.c.name == token.name) | (tokens.c.id == token.id))
    if connection.execute(same).first() is not None:
        raise NameTaken(
            f"expected a name that no token has, got {token.name!r}; names of revoked tokens stay taken, choose another"
        )
    connection.execute(tokens.insert().values(**_row_of(token)))


def revoke_token(connection: sa.Connection, name: str, actor: str, at: datetime) -> Token:
    """Mark a token as revoked, unless it already is.

    Raises:
        UnknownToken: there is none of this name.
    """
    _count(connection)
    row = connection.execute(sa.select(tokens).where(tokens.c.name == name)).one_or_none()
    if row is None:
        raise UnknownToken(f"expected a token's name, got {quoted(name)}; 'cultivar tokens list' shows them")
    token = _token_of(row).revoked(actor, at)
    ended = {"revoked_at": token.revoked_at, "revoked_by": token.revoked_by}
    connection.execute(tokens.update().where(tokens.c.id == token.id).values(**ended))
    return token


def _count(connection: sa.Connection) -> None:
    """Count a change; other writers wait until the transaction ends."""
    connection.execute(counters.update().where(_COUNTER).values(value=counters.c.value + 1))


def _row_of(token: Token) -> dict[str, object]:
    return {
        "id": token.id,
        "name": token.name,
        "hash": token.hash,
        "targets": sorted(token.grant.targets),
        "operations": sorted(token.grant.operations),
        "created_at": token.created_at,
        "created_by": token.created_by,
        "expires_at": token.expires_at,
        "revoked_at": token.revoked_at,
        "revoked_by": token.revoked_by,
    }


def _token_of(row: sa.Row[Any]) -> Token:
    return Token(
        id=row.id,
        name=row.name,
        hash=Digest(row.hash),
        grant=Grant.of(row.targets, row.operations),
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        revoked_by=row.revoked_by,
    )
