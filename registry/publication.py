"""Publication of a version: its bytes go into the store, and then its row into the catalog.

Every blob is leased before it is stored or reused, which protects it from the garbage collector. The version
becomes visible in one transaction, after all of its bytes are stored and verified. A crash leaves only bytes
without a version: their leases expire, and the collector deletes them.
"""

import contextlib
import secrets
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from registry.blobs import Blobs
from registry.catalog import Catalog
from registry.catalog.catalog import LIVE
from registry.digests import Digest
from registry.errors import DamagedBlob, MissingBlob, StorageFailure
from registry.manifest import Manifest
from registry.steps import CONFIRMED, LEASED, RELEASED, Announce
from registry.versions import Version

LEASE = timedelta(hours=1)
"""How long a publication's leases last after its process dies."""


class Publication:
    """One publication, from its first blob to its version. A context manager; safe to use from several threads.

    While it is open, its leases are renewed in the background, so the work between two calls may take any
    time. Leaving it releases them: blobs that were stored but not registered become garbage.

    Args:
        catalog: the catalog.
        blobs: the blob store.
        actor: name recorded in the event.
        clock: returns the current time.
        announce: called with each step.
        registered: called after a version is registered.
        lease: how long a lease lasts without renewal.
    """

    def __init__(
        self,
        catalog: Catalog,
        blobs: Blobs,
        actor: str,
        clock: Callable[[], datetime],
        announce: Announce,
        registered: Callable[[], None],
        lease: timedelta = LEASE,
    ) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._actor = actor
        self._clock = clock
        self._announce = announce
        self._registered = registered
        self._lease = lease
        self._holder = secrets.token_hex(16)
        self._exports: dict[Digest, Digest] = {}
        self._over = threading.Event()
        self._renewer = threading.Thread(target=self._renew, name="lease-renewer", daemon=True)

    def __enter__(self) -> Self:
        self._renewer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._renewer.join()
        # A lease that cannot be released expires; the registered version is not affected.
        with contextlib.suppress(StorageFailure):
            self._catalog.release(self._holder)
        self._announce(RELEASED)

    def store(self, kind: str, data: bytes) -> Digest:
        """Store a blob: lease, write to staging, sync, publish and verify it. Storing it again is cheap.

        Args:
            kind: ``segment``, ``recipe``, ``items``, ``predictions`` … as ``Manifest.blobs`` calls it.
            data: the bytes.

        Raises:
            DamagedBlob: the bytes were not read back as written.
            StorageFailure: the store failed, for example because the disk is full; nothing is visible then.
        """
        digest = Digest.of(data)
        self._catalog.lease(self._holder, digest, *self._term(), new=(kind, len(data)))
        self._announce(LEASED)
        self._blobs.put(digest, data)
        self._catalog.confirm(digest, self._clock())
        self._announce(CONFIRMED)
        return digest

    def reuse(self, digest: Digest) -> int:
        """Lease a blob that is already in the store, and return its size in bytes.

        Its bytes are read and checked only if the collector had condemned them.

        Raises:
            MissingBlob: it is not in the store.
            DamagedBlob: its bytes have changed.
        """
        blob = self._catalog.lease(self._holder, digest, *self._term())
        size = self._blobs.size(digest)
        if blob is None or size is None:
            raise MissingBlob(f"expected {digest} in the store, to use it again; it is not there: store it")
        if size != blob.bytes:
            raise DamagedBlob(f"expected {blob.bytes:,} bytes of {digest}, found {size:,}; store it again")
        if blob.state != LIVE:
            self._blobs.check(digest)
            self._catalog.confirm(digest, self._clock())
        return size

    def find_export(self, weights: Digest) -> tuple[Digest, int] | None:
        """Look up the segment that weights were exported to earlier, check its bytes, and reuse it.

        Args:
            weights: digest of parameters, buffers, architecture, input size, cut and normalisation.

        Returns:
            the leased segment's digest and size in bytes, or None if it has to be exported.
        """
        digest = self._exports.get(weights) or self._catalog.export(weights)
        if digest is None:
            return None
        try:
            size = self.reuse(digest)
            # Damage found now is repaired by the following export; later it could not be repaired.
            self._blobs.check(digest)
        except (MissingBlob, DamagedBlob):
            return None
        return digest, size

    def remember_export(self, weights: Digest, digest: Digest) -> None:
        """Record an export for ``find_export``: at once in this publication, in others after registration."""
        self._exports[weights] = digest

    def register(self, manifest: Manifest) -> Version:
        """Make the version visible: number, references and event in one transaction.

        If the manifest is already registered, its version is returned.

        Raises:
            MissingBlob: one of the manifest's blobs was not stored or reused in this publication.
            CondemnedBlob: the leases could not be renewed for so long that the collector condemned a blob.
            UnknownVersion: the manifest's parent is not registered.
        """
        self.store("manifest", manifest.to_bytes())
        version = self._catalog.register(manifest, self._holder, self._exports, self._actor, self._clock())
        self._registered()
        return version

    def _term(self) -> tuple[datetime, datetime]:
        at = self._clock()
        return at, at + self._lease

    def _renew(self) -> None:
        while not self._over.wait(self._lease.total_seconds() / 4):
            try:
                self._catalog.renew(self._holder, self._clock() + self._lease)
            except (
                StorageFailure
            ):  # locked or disconnected: there are two more attempts before a lease expires
                continue
