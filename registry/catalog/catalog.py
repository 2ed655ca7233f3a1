"""The contract of a catalog: versions, stages, events, tokens, and the claims on blobs.

Each method is one transaction: it happens whole, or not at all, whatever crashes and whoever else
is at work. Time comes from the caller.

A blob that the catalog knows is in one of three states. *Staged*: somebody holds a lease on the
digest and is writing the bytes. *Live*: the bytes were there and sound. *Condemned*: nothing
needed them when the garbage collector looked; it will delete them when the grace period is over.
A lease is taken on a digest before its first use, and keeps the collector away until it is
released or expires. A version refers to live blobs only, and a blob that is referred to or leased is never
condemned; so the bytes of a visible version are always there.
"""

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from registry.digests import Digest
from registry.lifecycle import Event, Standing
from registry.manifest import Manifest
from registry.names import Ref
from registry.tokens import Token
from registry.versions import Query, Version

STAGED = "staged"
LIVE = "live"
CONDEMNED = "condemned"


@dataclass(frozen=True, slots=True)
class Blob:
    """What the catalog knows of a blob.

    Attributes:
        digest: its digest.
        kind: what it was first stored as: ``segment``, ``recipe``, ``items``, ``predictions``,
            ``evidence``, ``manifest``, or ``unknown``.
        bytes: its size.
        state: ``staged``, ``live`` or ``condemned``.
        since: when it came into that state, in UTC.
    """

    digest: Digest
    kind: str
    bytes: int
    state: str
    since: datetime


@dataclass(frozen=True, slots=True)
class CatalogHead:
    """The end of a target's chain of events, kept beside it so that a chain cut short is seen.

    Attributes:
        seq: the last event's place in the chain; 0 for an empty chain.
        hash: its hash, or None.
    """

    seq: int
    hash: Digest | None


@dataclass(frozen=True, slots=True)
class CatalogIdentity:
    """Which registry a catalog is, and how far it has come.

    Attributes:
        id: 32 hexadecimal digits, drawn when the catalog was made or forked; copies have the same.
        epoch: how many times garbage was collected or a blob store taken over; 0 before the first. It only rises.
        event: id of the last event of all; 0 before the first.
        hash: that event's hash, or None.
    """

    id: str
    epoch: int
    event: int
    hash: Digest | None


def new_id() -> str:
    """Return an id that no registry has."""
    return secrets.token_hex(16)


class Catalog(ABC):
    """Versions, stages, events and the claims on blobs. Safe to use from several threads and processes.

    ``tests.contracts.catalog.CatalogContract`` is the suite that every catalog passes.
    """

    @abstractmethod
    def check_writable(self) -> None:
        """Check that rows can be written; nothing changes.

        Raises:
            ReadOnlyRegistry: this account may not.
            StorageFailure: they cannot.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of every connection."""

    # Which catalog it is

    @property
    @abstractmethod
    def label(self) -> str:
        """Where it is, for people: a path, or a URL without its password."""

    @abstractmethod
    def place(self) -> frozenset[str]:
        """Return what tells this catalog from its copies; catalogs that share one of these are the same."""

    @abstractmethod
    def identity(self) -> CatalogIdentity:
        """Return which registry this is, and how far it has come."""

    @abstractmethod
    def event_hash(self, event: int) -> Digest | None:
        """Return the hash of the event of an id, or None where there is none."""

    @abstractmethod
    def raise_epoch(self, above: int = 0) -> None:
        """Begin a new epoch, the next after both the current one and another."""

    @abstractmethod
    def fork(self, id: str) -> None:
        """Become another registry: the id is replaced, and epochs are counted from 0 again."""

    @abstractmethod
    def knows_blobs(self) -> bool:
        """Tell whether a blob was ever leased and not reclaimed since."""

    # Claims on blobs

    @abstractmethod
    def lease(
        self, holder: str, digest: Digest, at: datetime, expires: datetime, new: tuple[str, int] | None = None
    ) -> Blob | None:
        """Claim a digest, so that it is not collected until the lease is released or has expired.

        A condemned blob comes back as staged: its bytes have to be stored or checked again.

        Args:
            holder: who claims it; claiming again extends the claim.
            digest: what is claimed.
            at: the time now.
            expires: when the claim ends by itself.
            new: kind and size in bytes of a blob that is about to be stored; without it, only a blob that
                the catalog knows can be claimed.

        Returns:
            the blob as it stands now, or None (nothing was claimed) where the catalog does not know it.
        """

    @abstractmethod
    def confirm(self, digest: Digest, at: datetime) -> None:
        """Say that a leased blob's bytes are in the store and sound: staged becomes live."""

    @abstractmethod
    def renew(self, holder: str, expires: datetime) -> None:
        """Extend every lease of a holder."""

    @abstractmethod
    def release(self, holder: str) -> None:
        """Give up every lease of a holder."""

    @abstractmethod
    def leased(self, digest: Digest, at: datetime) -> bool:
        """Tell whether somebody's lease on a digest runs."""

    @abstractmethod
    def export(self, weights: Digest) -> Digest | None:
        """Return the segment that weights were exported to before, or None."""

    # Versions

    @abstractmethod
    def register(
        self, manifest: Manifest, holder: str, exports: Mapping[Digest, Digest], actor: str, at: datetime
    ) -> Version:
        """Register a version with its number, references, exports and event; or return the one that is there.

        Args:
            manifest: the version; its own bytes are a blob of kind ``manifest``.
            holder: holder of the leases on all its blobs, the manifest's included.
            exports: segment digests by weights digest, to be found by ``export`` from now on; the last
                one registered for some weights counts.
            actor: who registers it.
            at: the time now.

        Raises:
            CondemnedBlob: the collector has claimed one of the blobs.
            MissingBlob: one of the blobs is not live, or not leased by the holder.
            UnknownVersion: the parent is not registered.
        """

    @abstractmethod
    def find(self, query: Query, limit: int, before: int | None = None) -> Sequence[Version]:
        """Return versions that a query lets through, the last registered first.

        Args:
            query: what to let through.
            limit: how many at most, 1 or more.
            before: only those registered by an event with a lower id.
        """

    @abstractmethod
    def tombstone(self, ref: Ref) -> Event | None:
        """Return the event that deleted a version, given its full ref, or None where none did."""

    @abstractmethod
    def references(self) -> Iterator[tuple[Ref, str, Digest, int]]:
        """Yield (version, kind, digest, size in bytes) of every blob that every version needs."""

    # Events

    @abstractmethod
    def targets(self) -> Sequence[str]:
        """Return every target that a version was ever registered for, sorted."""

    @abstractmethod
    def position(self) -> int:
        """Return the id of the last event of all, 0 before the first: cheap, and it only ever grows.

        Events come into sight in the order of their ids, so that whoever has seen a position has seen all up to it.
        """

    @abstractmethod
    def stage_position(self) -> int:
        """Return the id of the last event that moved a stage, of any target; 0 before the first: cheap, and only grows.

        Registrations leave it, and so do deletions, as what is in a stage is not deleted. Whoever has seen a position
        sees every move up to it.
        """

    @abstractmethod
    def events(self, target: str, until: datetime | None = None) -> Sequence[Event]:
        """Return a target's events, oldest first, up to and including a moment."""

    @abstractmethod
    def standing(self, target: str) -> Standing:
        """Return where a target's versions stand."""

    @abstractmethod
    def head(self, target: str) -> CatalogHead:
        """Return the end of a target's chain as it was noted beside it."""

    @abstractmethod
    def faults(self) -> Sequence[str]:
        """Return what the database finds wrong with its own files, in words."""

    @abstractmethod
    def promote(
        self,
        version: Version,
        stage: str,
        expect: int,
        actor: str,
        at: datetime,
        reason: str | None,
        forced: bool,
    ) -> Event:
        """Append a promotion, if the target's stages did not move since they were read.

        Args:
            version: which.
            stage: where to.
            expect: id of the target's last stage event as it was read, 0 where there was none.
            actor: who asks.
            at: the time now.
            reason: why.
            forced: whether gates were overruled.

        Raises:
            StaleExpectation: the target's last stage event is another one.
            UnknownVersion: the version was deleted meanwhile.
        """

    @abstractmethod
    def roll_back(self, target: str, expect: int, actor: str, at: datetime, reason: str | None) -> Event:
        """Append a rollback of production to the version below, if the stages did not move since.

        Raises:
            StaleExpectation: the target's last stage event is another one.
            Conflict: there is nothing to go back to.
        """

    @abstractmethod
    def delete(self, version: Version, actor: str, at: datetime, reason: str) -> Event:
        """Append a version's deletion and drop its references.

        Raises:
            VersionInUse: a stage, a rollback or a child needs it.
            UnknownVersion: it was deleted already.
        """

    # Tokens

    @abstractmethod
    def add_token(self, token: Token) -> None:
        """Keep a bearer token.

        Raises:
            NameTaken: there is one of this name, revoked or not.
        """

    @abstractmethod
    def revoke_token(self, name: str, actor: str, at: datetime) -> Token:
        """Revoke a bearer token, which stays listed; one that is revoked already stays as it is.

        Raises:
            UnknownToken: there is none of this name.
        """

    @abstractmethod
    def tokens(self) -> Sequence[Token]:
        """Return every bearer token, the last made first."""

    @abstractmethod
    def token_changes(self) -> int:
        """Return a number that has grown whenever a token was added or revoked: cheap.

        Whoever has seen a number, sees all that it counts.
        """

    # Garbage

    @abstractmethod
    def unknown(self, digests: Sequence[Digest]) -> Sequence[Digest]:
        """Return those of some digests that the catalog does not know, in their order."""

    @abstractmethod
    def adopt(self, digest: Digest, size: int, at: datetime) -> None:
        """Condemn bytes that were found in the store and that the catalog does not know."""

    @abstractmethod
    def unneeded(self, at: datetime) -> Sequence[Blob]:
        """Return the blobs that no version refers to and no lease holds, condemned or not, sorted by digest."""

    @abstractmethod
    def condemn(self, digests: Sequence[Digest], at: datetime) -> None:
        """Condemn those of some blobs that are still unneeded, and drop the leases that have expired."""

    @abstractmethod
    def reclaim(self, digest: Digest, at: datetime, before: datetime, delete: Callable[[], None]) -> bool:
        """Delete a blob that was condemned long enough ago, and forget it.

        Args:
            digest: which.
            at: the time now.
            before: it must have been condemned at or before this moment.
            delete: takes the bytes away; nobody can lease the digest while it runs.

        Returns:
            True if it was deleted, False where somebody has claimed it since.
        """
