"""The contract of a catalog: versions, stages, events, tokens, and the claims on blobs.

Each method is one transaction: it is applied completely or not at all, despite crashes and concurrent
writers. The caller passes the time.

A blob that the catalog knows is in one of three states. *Staged*: a lease on the digest is held while its
bytes are written. *Live*: the bytes were stored and verified. *Condemned*: nothing needed the bytes when the
garbage collector checked; it will delete them after the grace period. A lease is taken on a digest before its
first use. It protects the blob from the collector until it is released or expires. A version refers to live
blobs only, and a blob that is referred to or leased is never condemned. So the bytes of a visible version
always exist.
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
    """The catalog's record of a blob.

    Attributes:
        digest: its digest.
        kind: the kind under which it was first stored: ``segment``, ``recipe``, ``items``, ``predictions``,
            ``evidence``, ``manifest``, or ``unknown``.
        bytes: its size.
        state: ``staged``, ``live`` or ``condemned``.
        since: when it entered that state, in UTC.
    """

    digest: Digest
    kind: str
    bytes: int
    state: str
    since: datetime


@dataclass(frozen=True, slots=True)
class CatalogHead:
    """The end of a target's chain of events, stored separately so that a truncated chain is detected.

    Attributes:
        seq: the last event's position in the chain; 0 for an empty chain.
        hash: its hash, or None.
    """

    seq: int
    hash: Digest | None


@dataclass(frozen=True, slots=True)
class CatalogIdentity:
    """The identity of a catalog's registry, and its progress.

    Attributes:
        id: 32 random hexadecimal digits, set when the catalog was created or forked; copies share them.
        epoch: how many times garbage was collected or a blob store taken over; starts at 0 and only
            increases.
        event: id of the last event; 0 before the first.
        hash: that event's hash, or None.
    """

    id: str
    epoch: int
    event: int
    hash: Digest | None


def new_id() -> str:
    """Return a new random registry id."""
    return secrets.token_hex(16)


class Catalog(ABC):
    """Versions, stages, events and the claims on blobs. Safe to use from several threads and processes.

    Every implementation passes the test suite ``tests.contracts.catalog.CatalogContract``.
    """

    @abstractmethod
    def check_writable(self) -> None:
        """Check that rows can be written; nothing changes.

        Raises:
            ReadOnlyRegistry: this account may not write.
            StorageFailure: the database failed.
        """

    @abstractmethod
    def close(self) -> None:
        """Close every connection."""

    # Identity

    @property
    @abstractmethod
    def label(self) -> str:
        """Its location for messages: a path, or a URL without its password."""

    @abstractmethod
    def place(self) -> frozenset[str]:
        """Return the marks that distinguish this catalog from its copies; catalogs that share a mark are the same."""

    @abstractmethod
    def identity(self) -> CatalogIdentity:
        """Return the registry's identity: its id, epoch and last event."""

    @abstractmethod
    def event_hash(self, event: int) -> Digest | None:
        """Return the hash of the event with an id, or None if there is none."""

    @abstractmethod
    def raise_epoch(self, above: int = 0) -> None:
        """Start a new epoch: one more than the larger of the current epoch and another."""

    @abstractmethod
    def fork(self, id: str) -> None:
        """Become another registry: replace the id and reset the epoch to 0."""

    @abstractmethod
    def knows_blobs(self) -> bool:
        """Tell whether a blob was ever leased and not reclaimed since."""

    # Claims on blobs

    @abstractmethod
    def lease(
        self, holder: str, digest: Digest, at: datetime, expires: datetime, new: tuple[str, int] | None = None
    ) -> Blob | None:
        """Lease a digest: it is not collected until the lease is released or expires.

        A condemned blob becomes staged: its bytes have to be stored or checked again.

        Args:
            holder: who leases it; leasing again extends the lease.
            digest: the digest to lease.
            at: the current time.
            expires: when the lease expires.
            new: kind and size in bytes of a blob about to be stored; without it, only a blob that the catalog
                knows can be leased.

        Returns:
            the blob's new record, or None if the catalog does not know the digest; then nothing was leased.
        """

    @abstractmethod
    def confirm(self, digest: Digest, at: datetime) -> None:
        """Mark a leased blob as stored and verified: staged becomes live."""

    @abstractmethod
    def renew(self, holder: str, expires: datetime) -> None:
        """Extend every lease of a holder."""

    @abstractmethod
    def release(self, holder: str) -> None:
        """Release every lease of a holder."""

    @abstractmethod
    def leased(self, digest: Digest, at: datetime) -> bool:
        """Tell whether a digest has a lease that has not expired."""

    @abstractmethod
    def export(self, weights: Digest) -> Digest | None:
        """Return the segment that weights were exported to earlier, or None."""

    # Versions

    @abstractmethod
    def register(
        self, manifest: Manifest, holder: str, exports: Mapping[Digest, Digest], actor: str, at: datetime
    ) -> Version:
        """Register a version with its number, references, exports and event, or return the existing version.

        Args:
            manifest: the version; its own bytes are a blob of kind ``manifest``.
            holder: holder of the leases on all its blobs, the manifest's included.
            exports: segment digests by weights digest, which ``export`` then finds; the last one registered
                for a weights digest is used.
            actor: who registers it.
            at: the time now.

        Raises:
            CondemnedBlob: the collector has claimed one of the blobs.
            MissingBlob: one of the blobs is not live, or not leased by the holder.
            UnknownVersion: the parent is not registered.
        """

    @abstractmethod
    def find(self, query: Query, limit: int, before: int | None = None) -> Sequence[Version]:
        """Return the versions that match a query, newest first.

        Args:
            query: the conditions.
            limit: most versions to return, at least 1.
            before: only those registered by an event with a lower id.
        """

    @abstractmethod
    def tombstone(self, ref: Ref) -> Event | None:
        """Return the event that deleted a version, given its full ref, or None if it was not deleted."""

    @abstractmethod
    def references(self) -> Iterator[tuple[Ref, str, Digest, int]]:
        """Yield (version, kind, digest, size in bytes) of every blob that every version needs."""

    # Events

    @abstractmethod
    def targets(self) -> Sequence[str]:
        """Return every target that ever had a version, sorted."""

    @abstractmethod
    def position(self) -> int:
        """Return the id of the last event, or 0 before the first. The call is cheap, and the id only increases.

        Events become visible in the order of their ids: a reader who has seen an id can see all events up to
        it.
        """

    @abstractmethod
    def stage_position(self) -> int:
        """Return the id of the last stage event of any target, or 0 before the first. The call is cheap.

        The id only increases. Registrations and deletions do not change it, as a version in a stage cannot be
        deleted. A reader who has seen an id can see all stage events up to it.
        """

    @abstractmethod
    def events(self, target: str, until: datetime | None = None) -> Sequence[Event]:
        """Return a target's events up to and including a given time, oldest first."""

    @abstractmethod
    def standing(self, target: str) -> Standing:
        """Return the standing of a target's versions."""

    @abstractmethod
    def head(self, target: str) -> CatalogHead:
        """Return the stored end of a target's chain."""

    @abstractmethod
    def faults(self) -> Sequence[str]:
        """Return the problems that the database finds in its own files, as text."""

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
        """Append a promotion if the target's stages did not move since they were read.

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
        """Append a rollback of production to the previous version if the stages did not move since they were read.

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
        """Store a bearer token.

        Raises:
            NameTaken: there is one of this name, revoked or not.
        """

    @abstractmethod
    def revoke_token(self, name: str, actor: str, at: datetime) -> Token:
        """Revoke a bearer token. It stays in the list; a revoked token is not changed.

        Raises:
            UnknownToken: there is none of this name.
        """

    @abstractmethod
    def tokens(self) -> Sequence[Token]:
        """Return every bearer token, newest first."""

    @abstractmethod
    def token_changes(self) -> int:
        """Return a number that increases whenever a token is added or revoked. The call is cheap.

        A reader who has seen a number can see all changes that it counts.
        """

    # Garbage

    @abstractmethod
    def unknown(self, digests: Sequence[Digest]) -> Sequence[Digest]:
        """Return the given digests that the catalog does not know, in their order."""

    @abstractmethod
    def adopt(self, digest: Digest, size: int, at: datetime) -> None:
        """Condemn bytes in the store that the catalog does not know."""

    @abstractmethod
    def unneeded(self, at: datetime) -> Sequence[Blob]:
        """Return the blobs that no version refers to and no lease holds, condemned or not, sorted by digest."""

    @abstractmethod
    def condemn(self, digests: Sequence[Digest], at: datetime) -> None:
        """Condemn the given blobs that are still unneeded, and remove expired leases."""

    @abstractmethod
    def reclaim(self, digest: Digest, at: datetime, before: datetime, delete: Callable[[], None]) -> bool:
        """Delete a blob whose grace period is over, and its row.

        Args:
            digest: which.
            at: the time now.
            before: it must have been condemned at or before this moment.
            delete: deletes the bytes; the digest cannot be leased while it runs.

        Returns:
            True if it was deleted, False if it was leased in the meantime.
        """
