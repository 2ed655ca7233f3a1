"""The owners of a blob store: the catalogs that use it, recorded in the store itself.

Catalog and store are separate, so either may be swapped, emptied, lost, restored from a backup or copied
without the other. A garbage collection could then delete bytes that are still needed. So each catalog writes
a *marker* into every store that it uses: its registry id, its location, and its highest epoch and event known
to the store. Garbage is collected only if this catalog's marker is the only one, the catalog is at least as
new as the marker, and the catalog has leased every blob in the store at some time.

A catalog writes its marker before its first lease, and leases a digest before it writes the bytes. So after a
crash or power cut, a catalog still knows all of its blobs. A marker may lag behind; it is a lower bound.
Markers are written atomically. A store only has to put, list and delete small objects.
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
"""Most registries and digests in an error message."""


@dataclass(frozen=True, slots=True)
class Marker:
    """A store's record of a catalog that uses it.

    Attributes:
        identity: the registry, with its highest epoch and event known to the store.
        catalog: marks that distinguish the catalog from its copies: ``Catalog.place``.
        store: marks that distinguish the store from its copies: ``Blobs.place``.
        label: the catalog's location, for messages.
        at: when this was written, in UTC.
    """

    identity: CatalogIdentity
    catalog: frozenset[str]
    store: frozenset[str]
    label: str
    at: datetime

    @property
    def name(self) -> str:
        """The marker's name, unique per registry and location."""
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
            InvalidValue: it is not a marker, or was written by a newer program.
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
    """A catalog's ownership of a blob store.

    Args:
        catalog: the catalog.
        blobs: the store.
        clock: returns the current time, in UTC.
    """

    def __init__(self, catalog: Catalog, blobs: Blobs, clock: Callable[[], datetime]) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._clock = clock

    def announce(self, *, leasing: bool = False) -> None:
        """Write the catalog's marker into the store if it is missing.

        A catalog that knows no blob writes a marker only if it is about to lease.

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
                # The catalog's file was moved or replaced: update its marks.
                self._blobs.mark(name, replace(fresh, identity=marker.identity).to_bytes())
            return
        copies = {name: each for name, each in _readable(markers) if each.identity.id == fresh.identity.id}
        match [*copies.items()]:
            case [(name, marker)] if not marker.store & fresh.store:
                # Both catalog and store have a new location: they were moved or copied together.
                self._blobs.mark(fresh.name, replace(fresh, identity=marker.identity).to_bytes())
                self._blobs.unmark(name)
            case _:
                self._blobs.mark(fresh.name, fresh.to_bytes())

    def note(self) -> None:
        """Update the marker to the catalog's current epoch and event.

        The catalog is read again after each write, so that the last of several concurrent writers stores the
        highest values. If the store fails, or the catalog is older than the marker, the marker is not
        changed.
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
        """Check that this catalog is the only owner of the bytes in the store.

        Raises:
            UnsafeCollection: another catalog uses the store, this catalog is older than its marker, or it
                does not know some blobs; the message has a remedy.
        """
        for problem in self.problems():
            raise UnsafeCollection(f"{problem}; nothing was deleted")

    def problems(self) -> list[str]:
        """Return the reasons against a garbage collection, each with a remedy."""
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
        # A version deleted in the meantime needs no blobs.
        return sorted(absent & {digest for _, _, digest, _ in self._catalog.references()}) if absent else []

    def unknown(self) -> list[Stored]:
        """Return the blobs in the store that the catalog does not know, sorted by digest."""
        stored = {each.digest: each for each in self._blobs.list()}
        unknown = self._catalog.unknown(sorted(stored))
        # A blob reclaimed since the listing is gone, or was leased and stored again.
        there = [digest for digest in unknown if self._blobs.size(digest) is not None]
        return [stored[digest] for digest in self._catalog.unknown(there)]

    def adopt(self, at: datetime) -> list[Stored]:
        """Take over the store with all of its blobs; this catalog becomes the only owner.

        Unknown blobs are condemned, and the markers of other catalogs are deleted. A catalog that is still in
        use writes its marker again when it is next opened.

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
        """Turn the catalog into a separate registry with a new id in the stores that it uses.

        Returns:
            its new identity.
        """
        before = self._fresh()
        self._catalog.fork(new_id())
        self.announce()
        for name, _ in self._held(self._markers(), before):
            self._blobs.unmark(name)
        return self._catalog.identity()

    def _fresh(self) -> Marker:
        """Return the catalog's current marker."""
        return Marker(
            self._catalog.identity(),
            self._catalog.place(),
            self._blobs.place(),
            self._catalog.label,
            self._clock(),
        )

    def _markers(self) -> Mapping[str, Marker | None]:
        """Return every marker in the store by name; None for an unreadable one."""
        found: dict[str, Marker | None] = {}
        for name, data in self._blobs.marks().items():
            found[name] = None
            with suppress(InvalidValue):
                found[name] = Marker.parse(data)
        return found

    @staticmethod
    def _held(markers: Mapping[str, Marker | None], fresh: Marker) -> list[tuple[str, Marker]]:
        """Return this catalog's markers by name.

        There are several if hosts that see the catalog at different locations opened it first at the same
        time.
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
        """Tell whether a marker of this registry is newer than the catalog."""
        seen, here = marker.identity, self._catalog.identity()
        return (
            here.epoch < seen.epoch
            or here.event < seen.event
            or self._catalog.event_hash(seen.event) != seen.hash
        )

    @staticmethod
    def _shared(others: Mapping[str, Marker | None], fresh: Marker) -> str:
        """Describe the other users of the store."""
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
