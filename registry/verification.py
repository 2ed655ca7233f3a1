"""Verification of stored blobs, versions and histories."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from registry.blobs import Blobs
from registry.catalog import Catalog, CatalogHead
from registry.digests import Digest
from registry.errors import BrokenHistory, CultivarError, IntegrityError, StorageFailure
from registry.lifecycle import DELETED, REGISTERED, Event, check_chain, fold
from registry.manifest import Manifest
from registry.names import CANDIDATE, RETIRED, Ref
from registry.progress import SILENT, Progress
from registry.versions import Query, Version

_MEBIBYTE = 1 << 20
_EVERYTHING = 1 << 31


@dataclass(frozen=True, slots=True)
class Damage:
    """Something that has changed since it was stored.

    Attributes:
        kind: ``segment``, ``recipe``, ``manifest`` … for a blob; ``version`` for a catalog row that differs
            from its manifest; ``history`` for a target's events; ``catalog`` for the database itself.
        id: the blob's digest, the version's ref, the target, or the database's message.
        refs: the affected versions.
    """

    kind: str
    id: str
    refs: tuple[Ref, ...]

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {"kind": self.kind, "id": self.id, "refs": [str(ref) for ref in self.refs]}


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a verification.

    Attributes:
        checked: number of blobs, versions and histories that were checked.
        damaged: the problems that were found.
    """

    checked: int
    damaged: tuple[Damage, ...]

    @property
    def ok(self) -> bool:
        """True if nothing is damaged."""
        return not self.damaged

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "ok": self.ok,
            "checked": self.checked,
            "damaged": [damage.to_json() for damage in self.damaged],
        }


def verify(
    catalog: Catalog, blobs: Blobs, version: Version | None = None, progress: Progress = SILENT
) -> Report:  # fmt: skip
    """Re-hash every blob that versions refer to, and compare manifests, rows, references and events.

    Args:
        catalog: the versions that should exist.
        blobs: the store with their bytes.
        version: check only this version and its target's events; None checks everything.
        progress: shows the hashed bytes.
    """
    versions = [version] if version else list(catalog.find(Query(), _EVERYTHING))
    targets = [version.target] if version else list(catalog.targets())
    damaged = [] if version else [Damage("catalog", fault, ()) for fault in catalog.faults()]

    needs: dict[Ref, set[tuple[str, Digest]]] = {each.ref: set() for each in versions}
    needed: dict[Digest, Damage] = {}
    sizes: dict[Digest, int] = {}
    for ref, kind, digest, size in catalog.references():
        if ref in needs:
            needs[ref].add((kind, digest))
            before = needed.get(digest, Damage(kind, digest, ()))
            needed[digest] = Damage(before.kind, digest, (*before.refs, ref))
            sizes[digest] = size

    damaged += _unsound_blobs(blobs, needed, sizes, progress)
    with progress.step("verifying versions and histories", len(versions) + len(targets)) as step:
        for each in versions:
            if not _row_fits(each, blobs, needs[each.ref]):
                damaged.append(Damage("version", str(each.ref), (each.ref,)))
            step.advance()
        for target in targets:
            if not history_fits(catalog, target):
                refs = tuple(each.ref for each in versions if each.target == target)
                damaged.append(Damage("history", target, refs))
            step.advance()

    checked = len(needed) + len(versions) + len(targets)
    return Report(checked, tuple(each for each in damaged if _concerns_anyone(catalog, each)))


def check_history(catalog: Catalog, target: str, stage: str) -> None:
    """Check that a target's events are intact and agree with the catalog on the version in a stage, if any.

    Raises:
        BrokenHistory: the events are damaged, or disagree with the catalog.
    """
    while True:
        head = catalog.head(target)
        try:
            fits = _leads_to(catalog, target, stage, head)
        except IntegrityError:
            fits = False
        if catalog.head(target) != head:  # an event was appended during the check
            continue
        if not fits:
            raise BrokenHistory(
                f"expected the history of {target} to lead to what the catalog shows in {stage}, it does not: the "
                "catalog was damaged; 'cultivar verify' finds out more"
            )
        return


def _leads_to(catalog: Catalog, target: str, stage: str, head: CatalogHead) -> bool:
    events = catalog.events(target)
    check_chain(events)
    registered = {event.ref: event.digest for event in events if event.action == REGISTERED}
    ref = fold(events).stages.get(stage)
    shown = {each.ref: each.digest for each in catalog.find(Query(target=target, stage=stage), 2)}
    return _end(events) == head and shown == ({} if ref is None else {ref: registered[ref]})


def _end(events: Sequence[Event]) -> CatalogHead:
    return CatalogHead(events[-1].seq, events[-1].hash) if events else CatalogHead(0, None)


def _unsound_blobs(
    blobs: Blobs, needed: Mapping[Digest, Damage], sizes: Mapping[Digest, int], progress: Progress
) -> list[Damage]:
    """Hash several blobs in parallel; hashing releases the interpreter lock."""

    def sound(digest: Digest) -> bool:
        try:
            blobs.check(digest)
        except (IntegrityError, StorageFailure):
            return False
        return blobs.size(digest) == sizes[digest]

    damaged = []
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        progress.step("verifying, MiB", sum(sizes.values()) / _MEBIBYTE) as step,
    ):
        for digest, is_sound in zip(needed, pool.map(sound, needed), strict=True):
            if not is_sound:
                damaged.append(needed[digest])
            step.advance(sizes[digest] / _MEBIBYTE)
    return damaged


def _row_fits(version: Version, blobs: Blobs, needs: set[tuple[str, Digest]]) -> bool:
    """Tell whether a version's row and references agree with its manifest."""
    try:
        manifest = Manifest.parse(blobs.read(version.digest))
    except CultivarError:
        return False
    return needs == {("manifest", version.digest), *manifest.blobs()} and (
        version.transfer == manifest.transfer
        and version.technique == manifest.technique.name
        and version.kind == manifest.kind
        and dict(version.metrics) == dict(manifest.metrics)
        and version.space_id == manifest.space_id
        and version.parent == manifest.origin.parent
    )


def history_fits(catalog: Catalog, target: str) -> bool:
    """Tell whether a target's events are intact and agree with the catalog's versions and stages."""
    while True:
        head = catalog.head(target)
        try:
            fits = _chain_fits(catalog, target, head)
        except CultivarError:
            fits = False
        if catalog.head(target) == head:  # otherwise an event was appended during the check
            return fits


def _chain_fits(catalog: Catalog, target: str, head: CatalogHead) -> bool:
    events = catalog.events(target)
    check_chain(events)
    standing = fold(events)
    there = {event.ref: event for event in events if event.action == REGISTERED}
    for event in events:
        if event.action == DELETED:
            del there[event.ref]
    moved = {event.ref for event in events if event.moves_stage}
    expected = {
        (
            event.id,
            ref,
            event.digest,
            event.at,
            standing.stages_of(ref) or ((RETIRED if ref in moved else CANDIDATE),),
        )
        for ref, event in there.items()
    }
    shown = {
        (each.event, each.ref, each.digest, each.created_at, each.stages)
        for each in catalog.find(Query(target=target), _EVERYTHING)
    }
    return _end(events) == head and shown == expected


def _concerns_anyone(catalog: Catalog, damage: Damage) -> bool:
    """Tell whether damage is real: a blob may vanish during the check if its version was deleted."""
    return not damage.refs or any(catalog.tombstone(ref) is None for ref in damage.refs)
