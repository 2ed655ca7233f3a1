"""Which catalogs use a blob store, noted in the store itself.

A catalog and a store are kept apart, so either may be swapped, emptied, lost, restored from a backup or copied
without the other. Whoever then collects garbage would delete what somebody needs. So each catalog leaves a *marker* in
every store that it uses: which registry it is, where it lies, and the highest epoch and event that the store has seen
of it. Garbage is collected only where the one marker in the store is this catalog's, the catalog knows all that the
marker says, and every blob in the store is one that the catalog leased at some time.

A catalog leases a digest before it writes the bytes, and leaves its marker before it leases. So neither a crash nor a
power cut ever leaves a blob that its own catalog does not know, and a marker that lags behind is only a lower bound.
Markers are written whole or not at all, and need no more of a store than to put, list and delete small objects.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import Self

from registry import instants
from registry.blobs import Blobs, Stored
from registry.catalog import Catalog, CatalogIdentity
from registry.catalog.catalog import new_id
from registry.digests import Digest
from registry.errors import InvalidValue, StorageFailure, UnsafeCollection

_TRIES = 4
_SHOWN = 3
"""Registries and digests that an error lists."""


@dataclass(frozen=True, slots=True)
class Marker:
    """What a store knows of a catalog that uses it.

    Attributes:
        identity: the registry, and the highest epoch and event that the store has seen of it.
        catalog: what tells the catalog from its copies: ``Catalog.place``.
        store: what tells the store from its copies: ``Blobs.place``.
        label: where the catalog is, for people.
        at: when this was written, in UTC.
    """

    identity: CatalogIdentity
    catalog: frozenset[str]
    store: frozenset[str]
    label: str
    at: datetime

    @property
    def name(self) -> str:
        """What the marker is called: one name for each registry and place."""
        place = sha256("\n".join(sorted(self.catalog)).encode(errors="surrogateescape")).hexdigest()
        return f"{self.identity.id}.{place[:16]}"

    def to_bytes(self) -> bytes:
        """Return the stored form: JSON."""
        identity = self.identity
        document = {
            "registry": identity.id,
            "epoch": identity.epoch,
            "event": identity.event,
            "hash": identity.hash,
            "catalog": sorted(self.catalog),
            "store": sorted(self.store),
            "label": self.label,
            "at": instants.to_text(self.at),
        }
        return json.dumps(document, indent=1).encode()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the stored form.

        Raises:
            InvalidValue: it is none, or of a newer program.
        """
        try:
            document = json.loads(data)
            last = document["hash"]
            return cls(
                CatalogIdentity(
                    str(document["registry"]),
                    int(document["epoch"]),
                    int(document["event"]),
                    None if last is None else Digest(last),
                ),
                frozenset(map(str, document["catalog"])),
                frozenset(map(str, document["store"])),
                str(document["label"]),
                instants.parse(document["at"]),
            )
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InvalidValue(f"expected the marker of a registry, got {data[:80]!r}: {error}") from error


class Ownership:
    """A catalog's standing in a blob store.

    Args:
        catalog: whose.
        blobs: the store.
        clock: tells the time, in UTC.
    """

    def __init__(self, catalog: Catalog, blobs: Blobs, clock: Callable[[], datetime]) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._clock = clock

    def announce(self, *, leasing: bool = False) -> None:
        """Leave the catalog's marker in the store, where it is not there yet.

        A catalog that knows no blob needs nothing of the store, and leaves none unless it is about to lease.

        Raises:
            StorageFailure: the store failed, or may not be written to.
        """
        if not leasing and not self._catalog.knows_blobs():
            return
        fresh = self._fresh()
        markers = self._markers()
        if held := self._held(markers, fresh):
            name, marker = held[0]
            if len(marker.catalog & fresh.catalog) == 1 and marker.catalog != fresh.catalog:
                # Its file was moved, or replaced by another: what it is known by from now on.
                self._blobs.mark(name, replace(fresh, identity=marker.identity).to_bytes())
            return
        copies = {name: each for name, each in _readable(markers) if each.identity.id == fresh.identity.id}
        match [*copies.items()]:
            case [(name, marker)] if not marker.store & fresh.store:
                # Catalog and store lie elsewhere, both: they were moved or copied together.
                self._blobs.mark(fresh.name, replace(fresh, identity=marker.identity).to_bytes())
                self._blobs.unmark(name)
            case _:
                self._blobs.mark(fresh.name, fresh.to_bytes())

    def note(self) -> None:
        """Let the store know how far the catalog has come.

        It is asked again after each writing: of several at once the last to write then leaves the highest. Where the
        store fails, or the catalog is behind what the store has seen, the marker stays as it is.
        """
        with suppress(StorageFailure):
            for _ in range(_TRIES):
                fresh = self._fresh()
                held = self._held(self._markers(), fresh)
                if not held:
                    self.announce()
                    return
                name, marker = held[0]
                if marker.identity == fresh.identity or self._behind(marker):
                    return
                self._blobs.mark(name, replace(marker, identity=fresh.identity, at=fresh.at).to_bytes())

    def check(self) -> None:
        """Check that this catalog alone decides over the bytes in the store.

        Raises:
            UnsafeCollection: another catalog uses the store, this one is older than what the store has seen, or
                there are blobs that it does not know; the message says what to do.
        """
        for problem in self.problems():
            raise UnsafeCollection(f"{problem}; nothing was deleted")

    def problems(self) -> list[str]:
        """Return what stands against collecting garbage, each as a sentence that says what to do."""
        found = []
        fresh = self._fresh()
        markers = self._markers()
        held = self._held(markers, fresh)
        others = {name: each for name, each in markers.items() if name not in dict(held)}
        if others:
            found.append(self._shared(others, fresh))
        found += self._lags(held, fresh)
        if fresh.identity.epoch == 0 and (missing := self.missing()):
            found.append(
                f"expected the blobs that versions need, {len(missing)} are not in the store, like {missing[0]}; name "
                "the right store with CULTIVAR_BLOBS, restore them from a copy, or run 'cultivar gc --adopt' to go on "
                "without"
            )
        if unknown := self.unknown():
            size = sum(each.bytes for each in unknown)
            found.append(
                f"expected blobs that this catalog leased, {len(unknown)} with {size:,} bytes are not, like "
                f"{unknown[0].digest}; use the catalog that they belong to, or run 'cultivar gc --adopt' to give them "
                "up"
            )
        return found

    def lag(self) -> str | None:
        """Return a sentence where the store has seen newer events of this catalog than it has: some were lost.

        A catalog restored from a backup lags, and so does one whose last changes were damaged on disk: SQLite passes
        over the damaged end of its write-ahead log without an error. An empty catalog in a store that others use may
        have been a full one.
        """
        fresh = self._fresh()
        markers = self._markers()
        held = self._held(markers, fresh)
        if markers and not held and not fresh.identity.event:
            return self._shared(markers, fresh)
        return next(iter(self._lags(held, fresh)), None)

    def missing(self) -> list[Digest]:
        """Return the digests that versions need and that are not in the store, sorted."""
        needed = {digest for _, _, digest, _ in self._catalog.references()}
        absent = needed - {each.digest for each in self._blobs.list()}
        absent = {digest for digest in absent if self._blobs.size(digest) is None}
        # A version that was deleted meanwhile needs nothing any more.
        return sorted(absent & {digest for _, _, digest, _ in self._catalog.references()}) if absent else []

    def unknown(self) -> list[Stored]:
        """Return the blobs in the store that the catalog does not know, sorted by digest."""
        stored = {each.digest: each for each in self._blobs.list()}
        unknown = self._catalog.unknown(sorted(stored))
        # One that another collector reclaimed since it was listed is gone, or was leased and stored anew.
        there = [digest for digest in unknown if self._blobs.size(digest) is not None]
        return [stored[digest] for digest in self._catalog.unknown(there)]

    def adopt(self, at: datetime) -> list[Stored]:
        """Take the store over, with what is in it, whoever else used it: from now on this catalog alone decides.

        Blobs that it does not know are condemned from now on, and the markers of others are taken away. A catalog that
        is in use leaves its marker again when it is opened the next time.

        Returns:
            the blobs that the catalog did not know.
        """
        unknown = self.unknown()
        for each in unknown:
            self._catalog.adopt(each.digest, each.bytes, at)
        fresh = self._fresh()
        markers = self._markers()
        mine = [each for _, each in _readable(markers) if each.identity.id == fresh.identity.id]
        self._catalog.raise_epoch(max((each.identity.epoch for each in mine), default=0))
        fresh = self._fresh()
        self._blobs.mark(fresh.name, fresh.to_bytes())
        for name in markers.keys() - {fresh.name}:
            self._blobs.unmark(name)
        return unknown

    def fork(self) -> CatalogIdentity:
        """Make the catalog a registry of its own, known by a new id to the stores that it uses.

        Returns:
            the identity that it has from now on.
        """
        before = self._fresh()
        self._catalog.fork(new_id())
        self.announce()
        for name, _ in self._held(self._markers(), before):
            self._blobs.unmark(name)
        return self._catalog.identity()

    def _fresh(self) -> Marker:
        """Return the marker that the catalog would leave now."""
        return Marker(
            self._catalog.identity(),
            self._catalog.place(),
            self._blobs.place(),
            self._catalog.label,
            self._clock(),
        )

    def _markers(self) -> Mapping[str, Marker | None]:
        """Return every marker in the store by its name; None for one that cannot be read."""
        found: dict[str, Marker | None] = {}
        for name, data in self._blobs.marks().items():
            found[name] = None
            with suppress(InvalidValue):
                found[name] = Marker.parse(data)
        return found

    @staticmethod
    def _held(markers: Mapping[str, Marker | None], fresh: Marker) -> list[tuple[str, Marker]]:
        """Return the markers that are this catalog's, each with its name.

        There is one, or several where hosts that see the catalog in different places were the first to open it at once.
        """
        return [
            (name, each)
            for name, each in _readable(markers)
            if each.identity.id == fresh.identity.id and each.catalog & fresh.catalog
        ]

    def _lags(self, held: Sequence[tuple[str, Marker]], fresh: Marker) -> list[str]:
        """Say how far the catalog is behind the first marker that has seen more."""
        for _, marker in held:
            if self._behind(marker):
                seen, here = marker.identity, fresh.identity
                return [
                    f"expected the catalog to be as new as its blobs, which know of event {seen.event} in epoch "
                    f"{seen.epoch}; its last is event {here.event} in epoch {here.epoch}, so it is older, or a copy "
                    "that went its own way; use the newest catalog, or run 'cultivar gc --adopt' to go on with this one"
                ]
        return []

    def _behind(self, marker: Marker) -> bool:
        """Tell whether the store has seen something of this registry that the catalog does not know."""
        seen, here = marker.identity, self._catalog.identity()
        return (
            here.epoch < seen.epoch
            or here.event < seen.event
            or self._catalog.event_hash(seen.event) != seen.hash
        )

    @staticmethod
    def _shared(others: Mapping[str, Marker | None], fresh: Marker) -> str:
        """Say who else uses the store."""
        copies = [each for _, each in _readable(others) if each.identity.id == fresh.identity.id]
        if copies:
            return (
                f"expected one catalog of this registry to use these blobs, that at {copies[0].label} does so too: if "
                "it is a copy, give one of the two an id of its own with 'cultivar registry fork'; if it is no longer "
                "in use, run 'cultivar gc --adopt'"
            )
        named = [f"{each.identity.id[:12]} (catalog {each.label})" for _, each in _readable(others)]
        named += ["one that this program cannot read"] * (len(others) - len(named))
        more = f" and {len(named) - _SHOWN} others" if len(named) > _SHOWN else ""
        return (
            f"expected this registry alone to use these blobs, others do: {', '.join(sorted(named)[:_SHOWN])}{more}; "
            "if a catalog was swapped or lost, restore the right one; once nobody else needs these blobs, run "
            "'cultivar gc --adopt'"
        )


def _readable(markers: Mapping[str, Marker | None]) -> list[tuple[str, Marker]]:
    return sorted((name, each) for name, each in markers.items() if each is not None)
