"""Authentication: the registry's tokens as this process knows them, and the check of a request.

A thread follows the registry, so an added or revoked token takes effect within about a second. While the registry
is unreachable, the known tokens stay valid: a server does not stop because its catalog does. A check costs one
dictionary lookup and one hash. Nothing is kept of a refused request.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import replace
from datetime import datetime

from registry import instants
from registry.registry import Registry
from registry.tokens import ACTIVE, EVERYTHING, Grant, Token, id_of
from services.deployment.loading import LoadedVersion
from services.deployment.registry_poller import RegistryPoller
from services.deployment.snapshot import Selector, Snapshot
from services.errors import Forbidden, TargetUnavailable, Unauthorized

POLL_S = 0.5
"""Seconds between two polls of the registry."""

_MAX_HEADER_BYTES = 256
_NONE = "expected 'Authorization: Bearer TOKEN', got none; 'cultivar tokens add' makes a token"


class TokenCache:
    """The tokens of a registry, kept up to date.

    Args:
        connect: opens the registry; called from the polling thread, repeatedly until it succeeds.
        poll_s: seconds between two polls.

    Attributes:
        settled: the tokens were read once; before that, no token can be rejected as unknown.
    """

    def __init__(self, connect: Callable[[], Registry], *, poll_s: float = POLL_S) -> None:
        self.settled = False
        self._tokens: Mapping[str, Token] = {}
        self._changes: int | None = None
        self._read_from: Registry | None = None
        self._poller = RegistryPoller(
            connect,
            self._look,
            name="tokens",
            keeps="the known tokens stay as they are",
            poll_s=poll_s,
        )

    def start(self) -> None:
        """Start following the registry, in a thread."""
        self._poller.start()

    def close(self) -> None:
        """Stop following the registry; the known tokens stay."""
        self._poller.close()

    def find(self, text: bytes) -> Token | None:
        """Return the token with this text, in any state, or None."""
        token = self._tokens.get(id_of(text) or "")
        return token if token is not None and token.proved_by(text) else None

    def look(self) -> None:
        """Read the tokens again, if any was added or revoked since.

        Raises:
            CultivarError: the registry could not be read; the known tokens stay as they are.
        """
        self._poller.look()

    def _look(self, registry: Registry) -> None:
        changes = registry.token_changes()
        # A new connection may be to another registry, with the same count.
        if changes != self._changes or registry is not self._read_from:
            self._tokens = {token.id: token for token in registry.tokens()}
            self._changes = changes
            self._read_from = registry
            self.settled = True


class Authenticator:
    """Determines from a request's headers what it may ask for.

    Args:
        token_cache: the tokens, or None where every request may ask for everything.
        clock: returns the time, in UTC.
    """

    def __init__(self, token_cache: TokenCache | None, clock: Callable[[], datetime] = instants.now) -> None:
        self._token_cache = token_cache
        self._clock = clock

    @property
    def settled(self) -> bool:
        """Whether tokens can be checked yet."""
        return self._token_cache is None or self._token_cache.settled

    def identify(self, headers: Iterable[tuple[bytes, bytes]]) -> Grant:
        """Return what the bearer of a request's token may ask for.

        Raises:
            Unauthorized: there is no token, or it is unknown, expired or revoked.
            TargetUnavailable: the tokens were not read yet.
        """
        if self._token_cache is None:
            return EVERYTHING
        text = _bearer(headers)
        if not self._token_cache.settled:
            raise TargetUnavailable("the server is still starting")
        token = self._token_cache.find(text)
        if token is None:
            raise Unauthorized("expected a token that this registry knows, got another", shown=True)
        if (state := token.state(self._clock())) != ACTIVE:
            raise Unauthorized(f"expected an active token, {token.name} is {state}", shown=True)
        return token.grant

    def admit(
        self, headers: Iterable[tuple[bytes, bytes]], operation: str, targets: Collection[str] = ()
    ) -> Grant:
        """Return the grant of a request's token, if it permits this operation on these targets.

        Raises:
            Unauthorized: there is no token, or it is unknown, expired or revoked.
            Forbidden: it does not permit the operation, or does not cover one of the targets.
            TargetUnavailable: the tokens were not read yet.
        """
        if self._token_cache is None:
            return EVERYTHING
        grant = self.identify(headers)
        check(grant, operation, targets)
        return grant

    def current_grant(self) -> Grant:
        """Return the grant of the request that was passed to BentoML; one that came another way has no token."""
        return _ADMITTED.get() or self.identify(())


_ADMITTED: ContextVar[Grant | None] = ContextVar("admitted", default=None)


def set_grant(grant: Grant | None) -> None:
    """Set the grant of this request, which ``Authenticator.current_grant`` returns.

    None removes a grant that was inherited: a pipelined request starts in the context of the one before it.
    """
    _ADMITTED.set(grant)


def check(grant: Grant, operation: str, targets: Iterable[str]) -> None:
    """Check that a grant permits an operation and covers some targets, whether these exist or not.

    Raises:
        Forbidden: it does not.
    """
    if not grant.permits(operation):
        raise Forbidden(f"this token does not permit {operation}")
    for target in targets:
        if not grant.covers(target):
            raise Forbidden(f"this token does not cover the target {target[:80]!r}")


def visible(snapshot: Snapshot, grant: Grant) -> Snapshot:
    """Return the snapshot with only the targets that a grant covers."""
    if not grant.targets:
        return snapshot
    return replace(
        snapshot, targets={name: each for name, each in snapshot.targets.items() if grant.covers(name)}
    )


def pick(snapshot: Snapshot, grant: Grant, target: str, selector: Selector) -> LoadedVersion:
    """Return the version that a request selects, as ``Snapshot.pick``; errors name only targets within the grant."""
    seen = snapshot if target in snapshot.targets else visible(snapshot, grant)
    return seen.pick(target, selector)


def _bearer(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the text after ``Bearer`` (RFC 6750, 2.1)."""
    given = [value for name, value in headers if name == b"authorization"]
    if not given:
        raise Unauthorized(_NONE)
    scheme, _, text = given[0].strip().partition(b" ")
    if len(given) > 1 or len(given[0]) > _MAX_HEADER_BYTES or scheme.lower() != b"bearer":
        raise Unauthorized("expected one Authorization header, 'Bearer TOKEN', got something else")
    return text.strip()
