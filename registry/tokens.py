"""Bearer tokens: who may ask a server what.

A token is shown once, when it is made. The registry keeps its id, by which it is found, and a hash,
by which whoever shows the token is believed; so nobody who reads the catalog can use one.
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
# The beginning lets scanners of source code and logs find tokens that were left there.
_TEXT = re.compile(rb"cvt_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Grant:
    """What somebody may ask for.

    Attributes:
        targets: the target tasks; empty for all, those that do not exist yet included.
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
        """Return the grant of some targets and operations; none means all.

        Raises:
            InvalidName: a target breaks the grammar of tasks.
            InvalidValue: an operation is neither ``classify`` nor ``embed``.
        """
        return cls(frozenset(targets), frozenset(operations))

    def permits(self, operation: str) -> bool:
        """Tell whether an operation may be asked for, on some target."""
        return not self.operations or operation in self.operations

    def covers(self, target: str) -> bool:
        """Tell whether something may be asked of a target."""
        return not self.targets or target in self.targets


EVERYTHING = Grant()


@dataclass(frozen=True, slots=True)
class Token:
    """What the registry keeps of a token.

    Attributes:
        id: twelve hexadecimal digits, by which it is found; no secret, as it stands in the token's text.
        name: what people call it, unique in the registry, as revoked ones stay listed.
        hash: sha256 of its whole text.
        grant: what it is good for.
        created_at: when it was made, in UTC.
        created_by: by whom, as asserted.
        expires_at: from when on it is refused, or None.
        revoked_at: when it was revoked, or None.
        revoked_by: by whom, or None.
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
        """Make a token.

        Returns:
            What is kept of it, and its text, ``cvt_``, the id, ``_`` and 43 characters of URL-safe base64,
            which nobody can tell again.

        Raises:
            InvalidName: the name breaks the grammar.
            InvalidValue: it would have expired already.
        """
        id = secrets.token_hex(_ID_BYTES)
        text = f"cvt_{id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
        return cls(id, name, hash_of(text.encode()), grant, at, actor, expires), text

    def proved_by(self, text: bytes) -> bool:
        """Tell whether a text is this token's, in a time that says nothing of how much of it is right."""
        return hmac.compare_digest(self.hash, _sha256(text))

    def state(self, at: datetime) -> str:
        """Return ``active``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return REVOKED
        return ACTIVE if self.expires_at is None or at < self.expires_at else EXPIRED

    def revoked(self, actor: str, at: datetime) -> Self:
        """Return the token as it stands once it is revoked; one that is, stays as it is."""
        return self if self.revoked_at is not None else replace(self, revoked_at=at, revoked_by=actor)

    def to_json(self, at: datetime) -> dict[str, object]:
        """Return the form in which it is listed: all but the hash."""
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
    """Return what is kept of a token's text.

    One round of sha256 without salt is right here, and would be wrong for a password. Slow, salted hashes make up
    for what people choose; a token is 256 random bits, which nobody guesses at any speed and no table holds.
    NIST SP 800-63B, 5.1.2.2, asks for salt and key derivation only below 112 bits of entropy. And the server
    hashes at every request.
    """
    return Digest(_sha256(text))


def id_of(text: bytes) -> str | None:
    """Return the id in a token's text, or None where it is no token's."""
    match = _TEXT.fullmatch(text)
    return None if match is None else match[1].decode()


def _sha256(text: bytes) -> str:
    # As ``Digest.of``, whose check of its own result would double the cost of a request.
    return PREFIX + hashlib.sha256(text).hexdigest()
