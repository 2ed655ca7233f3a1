"""Bearer tokens: what a client may request from a server.

A token is shown once, when it is created. The registry stores its id, for lookups, and a hash, for
verification. So a reader of the catalog cannot use a token.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Self

from registry import instants
from registry.digests import PREFIX, Digest
from registry.errors import InvalidName, InvalidValue
from registry.names import MAX_NAME_LENGTH, check_task
from registry.quoting import quoted
from registry.settings import MAX_ACTOR_LENGTH

CLASSIFY = "classify"
EMBED = "embed"
OPERATIONS = (CLASSIFY, EMBED)

ACTIVE = "active"
EXPIRED = "expired"
REVOKED = "revoked"

_ID_BYTES = 6
_SECRET_BYTES = 32
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?")
_ID = re.compile(r"[0-9a-f]{12}")
# The prefix lets scanners find leaked tokens in source code and logs.
_TEXT = re.compile(rb"cvt_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Grant:
    """The permissions of a token.

    Attributes:
        targets: the target tasks; empty for all, including future ones.
        operations: ``classify`` and ``embed``; empty for both.
    """

    targets: frozenset[str] = frozenset()
    operations: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for target in self.targets:
            check_task(target)
        for operation in sorted(self.operations - set(OPERATIONS)):
            raise InvalidValue(f"an operation is {' or '.join(OPERATIONS)}, got {quoted(operation)}")

    @classmethod
    def of(cls, targets: Collection[str] = (), operations: Collection[str] = ()) -> Self:
        """Return a grant of targets and operations; an empty collection means all.

        Raises:
            InvalidName: a target is not a valid task name.
            InvalidValue: an operation is neither ``classify`` nor ``embed``.
        """
        return cls(frozenset(targets), frozenset(operations))

    def permits(self, operation: str) -> bool:
        """Tell whether an operation is allowed on at least one target."""
        return not self.operations or operation in self.operations

    def covers(self, target: str) -> bool:
        """Tell whether a target is allowed for at least one operation."""
        return not self.targets or target in self.targets


EVERYTHING = Grant()


@dataclass(frozen=True, slots=True)
class Token:
    """The registry's record of a token.

    Attributes:
        id: twelve hexadecimal digits, used for lookups; part of the token's text and not secret.
        name: its name, unique in the registry, including revoked tokens.
        hash: sha256 of its whole text.
        grant: its permissions.
        created_at: when it was created, in UTC.
        created_by: who created it, as stated by the caller.
        expires_at: when it expires, in UTC, or None.
        revoked_at: when it was revoked, or None.
        revoked_by: who revoked it, or None.
    """

    id: str
    name: str
    hash: Digest = field(repr=False)
    grant: Grant
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    revoked_by: str | None = None

    def __post_init__(self) -> None:
        if _ID.fullmatch(self.id) is None:
            raise InvalidValue(f"a token's id is twelve hexadecimal digits, got {quoted(self.id)}")
        if len(self.name) > MAX_NAME_LENGTH or _NAME.fullmatch(self.name) is None:
            raise InvalidName(
                f"a token's name is 1 to {MAX_NAME_LENGTH} lower-case letters, digits, '.', '_' or '-', beginning "
                f"and ending with a letter or digit; got {quoted(self.name)}"
            )
        for actor in (self.created_by, self.revoked_by):
            if actor is not None and not 1 <= len(actor) <= MAX_ACTOR_LENGTH:
                raise InvalidValue(f"an actor has 1 to {MAX_ACTOR_LENGTH} characters, got {len(actor)}")
        if self.expires_at is not None and self.expires_at <= self.created_at:
            raise InvalidValue(
                f"a token expires after it is made, at {instants.to_text(self.created_at)}; "
                f"got {instants.to_text(self.expires_at)}"
            )
        if (self.revoked_at is None) != (self.revoked_by is None):
            raise InvalidValue("a revoked token says when it was revoked and by whom, another neither")

    @classmethod
    def issue(
        cls, name: str, grant: Grant, actor: str, at: datetime, expires: datetime | None = None
    ) -> tuple[Self, str]:
        """Create a token.

        Returns:
            Its record, and its text: ``cvt_``, the id, ``_`` and 43 characters of URL-safe base64. The text
            is not stored.

        Raises:
            InvalidName: the name is not valid.
            InvalidValue: it would already have expired.
        """
        id = secrets.token_hex(_ID_BYTES)
        text = f"cvt_{id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
        return cls(id, name, hash_of(text.encode()), grant, at, actor, expires), text

    def proved_by(self, text: bytes) -> bool:
        """Tell whether a text is this token's, by a constant-time comparison."""
        return hmac.compare_digest(self.hash, _sha256(text))

    def state(self, at: datetime) -> str:
        """Return ``active``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return REVOKED
        return ACTIVE if self.expires_at is None or at < self.expires_at else EXPIRED

    def revoked(self, actor: str, at: datetime) -> Self:
        """Return the revoked token; a revoked token is returned unchanged."""
        return self if self.revoked_at is not None else replace(self, revoked_at=at, revoked_by=actor)

    def to_json(self, at: datetime) -> dict[str, object]:
        """Return the form for listings: everything except the hash."""
        return {
            "id": self.id,
            "name": self.name,
            "state": self.state(at),
            "targets": sorted(self.grant.targets),
            "operations": sorted(self.grant.operations),
            "created_at": instants.to_text(self.created_at),
            "created_by": self.created_by,
            "expires_at": None if self.expires_at is None else instants.to_text(self.expires_at),
            "revoked_at": None if self.revoked_at is None else instants.to_text(self.revoked_at),
            "revoked_by": self.revoked_by,
        }


def hash_of(text: bytes) -> Digest:
    """Return the hash of a token's text.

    One round of sha256 without salt is enough here, though not for a password. Slow, salted hashes compensate
    for weak passwords. A token has 256 random bits, so it can be neither guessed nor looked up in a table.
    NIST SP 800-63B, 5.1.2.2, requires salt and key derivation only below 112 bits of entropy. The server also
    hashes on every request.
    """
    return Digest(_sha256(text))


def id_of(text: bytes) -> str | None:
    """Return the id in a token's text, or None if the text is not a token."""
    match = _TEXT.fullmatch(text)
    return None if match is None else match[1].decode()


def _sha256(text: bytes) -> str:
    # Same as ``Digest.of``, but without its check, which would double the cost per request.
    return PREFIX + hashlib.sha256(text).hexdigest()
