"""Who may ask: the registry's tokens as this process knows them, and the check at the door.

A thread follows the registry, so that a token that was added or revoked counts within about a second. Where
the registry is away, those known go on: a server does not stop because its catalog does. A request costs
a look into a dictionary and a hash; nothing is remembered of one that is refused.
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
"""Seconds between two looks at the registry."""

_MAX_HEADER_BYTES = 256
_NONE = "expected 'Authorization: Bearer TOKEN', got none; 'cultivar tokens add' makes a token"


class TokenCache:
    """The tokens of a registry, followed.

    Args:
        connect: opens the registry; called from the thread that looks, again until it succeeds.
        poll_s: seconds between two looks.

    Attributes:
        settled: the tokens were read once; before, nobody can be told to be unknown.
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
            keeps="the tokens that are known stay as they are",
            poll_s=poll_s,
        )

    def start(self) -> None:
        """Begin to follow, in a thread."""
        self._poller.start()

    def close(self) -> None:
        """Stop following; what is known stays."""
        self._poller.close()

    def find(self, text: bytes) -> Token | None:
        """Return the token whose text this is, whatever its state, or None."""
        token = self._tokens.get(id_of(text) or "")
        return token if token is not None and token.proved_by(text) else None

    def look(self) -> None:
        """Read the tokens anew, if any was added or revoked since.

        Raises:
            CultivarError: the registry could not be read; the tokens that are known stay as they are.
        """
        self._poller.look()

    def _look(self, registry: Registry) -> None:
        changes = registry.token_changes()
        # One that was away may be another one now, with the same count.
        if changes != self._changes or registry is not self._read_from:
            self._tokens = {token.id: token for token in registry.tokens()}
            self._changes = changes
            self._read_from = registry
            self.settled = True


class Authenticator:
    """Tells from a request's headers what it may ask for.

    Args:
        token_cache: the tokens, or None where everybody may ask for everything.
        clock: tells the time, in UTC.
    """

    def __init__(self, token_cache: TokenCache | None, clock: Callable[[], datetime] = instants.now) -> None:
        self._token_cache = token_cache
        self._clock = clock

    @property
    def settled(self) -> bool:
        """Whether requests can be told apart."""
        return self._token_cache is None or self._token_cache.settled

    def identify(self, headers: Iterable[tuple[bytes, bytes]]) -> Grant:
        """Return what the bearer of a request's token may ask for.

        Raises:
            Unauthorized: there is no token, or one that is unknown, expired or revoked.
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
        """Return what a request's token is good for, once it is good for this.

        Raises:
            Unauthorized: there is no token, or one that is unknown, expired or revoked.
            Forbidden: it is not good for the operation, or for one of the targets.
            TargetUnavailable: the tokens were not read yet.
        """
        if self._token_cache is None:
            return EVERYTHING
        grant = self.identify(headers)
        check(grant, operation, targets)
        return grant

    def current_grant(self) -> Grant:
        """Return what the request that was handed on may ask for; one that came another way bears no token."""
        return _ADMITTED.get() or self.identify(())


_ADMITTED: ContextVar[Grant | None] = ContextVar("admitted", default=None)


def set_grant(grant: Grant | None) -> None:
    """Let whoever answers this request find what it may ask for, as ``Authenticator.current_grant``.

    None takes away what it may have inherited: a pipelined request begins within the one before.
    """
    _ADMITTED.set(grant)


def check(grant: Grant, operation: str, targets: Iterable[str]) -> None:
    """Check that a grant is good for an operation on some targets, whether these exist or not.

    Raises:
        Forbidden: it is not.
    """
    if not grant.permits(operation):
        raise Forbidden(f"this token is not good for {operation}")
    for target in targets:
        if not grant.covers(target):
            raise Forbidden(f"this token is not good for the target {target[:80]!r}")


def visible(snapshot: Snapshot, grant: Grant) -> Snapshot:
    """Return what is served, as far as a grant covers it."""
    if not grant.targets:
        return snapshot
    return replace(
        snapshot, targets={name: each for name, each in snapshot.targets.items() if grant.covers(name)}
    )


def pick(snapshot: Snapshot, grant: Grant, target: str, selector: Selector) -> LoadedVersion:
    """Return the version that a request means, as ``Snapshot.pick``; an error names no target beyond the grant."""
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
