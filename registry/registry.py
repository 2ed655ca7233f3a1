"""The registry: versions of transferred models, their bytes, their stages and their history.

The common interface to the catalog, which knows the versions, and the blob store, which keeps the bytes::

    with Registry.open(Settings.read()) as registry:
        with registry.publication() as publication:
            digest = publication.store("segment", onnx_bytes)
            ...
            version = publication.register(manifest)
        registry.promote(version.ref, "production")
        registry.resolve("flowers").digest

Safe to use from several threads and from several processes. A forked process must open its own registry.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

from registry import instants, recipe
from registry.blobs import Blobs, open_blobs
from registry.catalog import Catalog, CatalogIdentity, SqlCatalog
from registry.collection import GRACE, Adoption, Collection, collect
from registry.comparison import LEARNT_PARTS, Comparison, Side
from registry.digests import Digest
from registry.errors import (
    AmbiguousRef,
    GateFailed,
    InvalidSetting,
    StorageFailure,
    UnknownTarget,
    UnknownVersion,
)
from registry.lifecycle import DELETED, Event, check_destination, fold
from registry.lineage import Ancestor, Lineage, trace
from registry.manifest import Manifest
from registry.names import CANDIDATE, PRODUCTION, RETIRED, Ref, check_stage, check_task
from registry.ownership import Ownership
from registry.predictions import Predictions
from registry.progress import SILENT, Progress
from registry.promotion import PASS, Promotion, PromotionOutcome
from registry.publication import LEASE, Publication
from registry.quoting import quoted
from registry.recipe import Recipe
from registry.settings import Settings
from registry.steps import EVALUATED, Announce, ignore
from registry.suggestion import suggestion
from registry.tokens import EVERYTHING, Grant, Token
from registry.verification import Report, check_history, verify
from registry.versions import Page, Query, Version

Gate: TypeAlias = "Callable[[Registry, Version, str, Version | None], PromotionOutcome]"
"""A condition on a promotion, called with the registry, the version, the stage and the version there now."""

_NAMED = 10
"""Most candidates in the error about an ambiguous ref."""

MAX_LIMIT = 1000
"""Most versions on one page."""


class Registry:
    """Versions of transferred models, their bytes, their stages and their history.

    Args:
        catalog: the catalog.
        blobs: the blob store.
        actor: name recorded in the events.
        gates: conditions on every promotion but those to ``retired``.
        clock: returns the current time, in UTC.
        announce: called with each named step of publications and promotions (``registry.steps``).
        lease: how long the claims of a publication outlive its process.
    """

    def __init__(
        self,
        catalog: Catalog,
        blobs: Blobs,
        actor: str,
        *,
        gates: Sequence[Gate] = (),
        clock: Callable[[], datetime] = instants.now,
        announce: Announce = ignore,
        lease: timedelta = LEASE,
    ) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._actor = actor
        self._gates = gates
        self._clock = clock
        self._announce = announce
        self._lease = lease
        self._ownership = Ownership(catalog, blobs, clock)

    @classmethod
    def open(
        cls,
        settings: Settings,
        *,
        gates: Sequence[Gate] = (),
        clock: Callable[[], datetime] = instants.now,
        announce: Announce = ignore,
        lease: timedelta = LEASE,
        anew: bool = True,
    ) -> Self:
        """Open the registry that the settings name; create an empty one if there is none.

        Args:
            settings: its location.
            gates: conditions on every promotion but those to ``retired``.
            clock: returns the current time, in UTC.
            announce: called with each named step of publications and promotions (``registry.steps``).
            lease: how long the claims of a publication outlive its process.
            anew: whether to create an empty catalog even if there are blobs, left by a lost catalog.

        Raises:
            InvalidSetting: a setting cannot be used, or the catalog was written by a newer program.
            MissingCatalog: the catalog's file was lost.
            StorageFailure: the catalog's database does not respond.
            DamagedCatalog: the database is damaged.
        """
        try:
            blobs = open_blobs(settings, announce)
        except OSError as error:
            raise InvalidSetting(
                f"expected to use the blobs' folder {settings.blob_folder}, that failed: {error.strerror}; name "
                "another home, or use an account that may write there"
            ) from error
        make = anew or next(blobs.list(), None) is None
        catalog = SqlCatalog.open(settings.catalog, announce, shared=settings.shared, make=make)
        registry = cls(
            catalog, blobs, settings.actor, gates=gates, clock=clock, announce=announce, lease=lease
        )
        # A read-only store can still be read.
        with suppress(StorageFailure):
            registry._ownership.announce()
        return registry

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._catalog.close()

    # Publication

    @property
    def blob_folder(self) -> Path | None:
        """The folder of the blobs if they are local files, else None."""
        return self._blobs.folder

    def check_writable(self) -> None:
        """Check that versions can be registered, before long work instead of after it. Nothing changes.

        Raises:
            ReadOnlyRegistry: this account may only read the catalog or the blob store.
            StorageFailure: the catalog or the blob store cannot be written to.
        """
        self._catalog.check_writable()
        self._blobs.check_writable()

    def publication(self) -> Publication:
        """Begin a publication: a context manager that leases, stores and registers.

        Raises:
            StorageFailure: the store failed, or may not be written to.
        """
        self._ownership.announce(leasing=True)
        return Publication(
            self._catalog,
            self._blobs,
            self._actor,
            self._clock,
            self._announce,
            self._ownership.note,
            self._lease,
        )

    # Lookup

    def resolve(self, ref: Ref | str) -> Version:
        """Return the version that a ref means; a bare target means production.

        Raises:
            InvalidName: the text is not a ref.
            UnknownTarget: no version was ever registered for the target.
            UnknownVersion: the target has no such version, or it was deleted.
            AmbiguousRef: it matches several versions; the message lists them.
        """
        ref = Ref.parse(ref) if isinstance(ref, str) else ref
        bare = ref.stage is None and ref.number is None and ref.digest is None
        stage = PRODUCTION if bare else ref.stage
        query = Query(ref.source, ref.target, stage, number=ref.number, digest=ref.digest)
        found = self._catalog.find(query, _NAMED + 1)
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(f"{each.ref} ({each.digest[:19]})" for each in found[:_NAMED])
            more = " and others" if len(found) > _NAMED else ""
            raise AmbiguousRef(f"{ref} may mean {names}{more}; write one of them in full")
        raise self._unknown(ref, stage)

    def _unknown(self, ref: Ref, stage: str | None) -> UnknownTarget | UnknownVersion:
        if ref.target not in (targets := self._catalog.targets()):
            known = f"there are {', '.join(targets[:_NAMED])}" if targets else "the registry is empty"
            return UnknownTarget(
                f"expected a target task with versions, got {ref.target!r}; {known}{suggestion(ref.target, targets)}"
            )
        if ref.source and ref.number and (event := self._catalog.tombstone(ref)):
            return UnknownVersion(
                f"{ref} was deleted on {instants.to_text(event.at)} by {event.actor}: {event.reason}"
            )
        last = self._catalog.find(Query(ref.source, ref.target), 1)
        have = f"the last one registered is {last[0].ref}" if last else "none is left"
        what = f"in {stage}" if stage else f"like {ref}"
        of = f"{ref.source}/{ref.target}" if ref.source else ref.target
        return UnknownVersion(f"expected a version of {of} {what}, there is none; {have}")

    def manifest(self, version: Version | Digest) -> Manifest:
        """Return a version's manifest, checked.

        Raises:
            MissingBlob: it is not in the store.
            DamagedBlob: its bytes are not what was stored.
        """
        return Manifest.parse(self.blob(version.digest if isinstance(version, Version) else version))

    def recipe(self, manifest: Manifest) -> Recipe:
        """Return the recipe of a version, checked.

        Raises:
            MissingBlob: it is not in the store.
            DamagedBlob: its bytes are not what was stored.
        """
        return recipe.parse(self.blob(manifest.recipe))

    def blob(self, digest: Digest) -> bytes:
        """Return a blob's bytes, checked against its digest.

        Raises:
            MissingBlob: it is not in the store.
            DamagedBlob: its bytes are not what was stored.
        """
        return self._blobs.read(digest)

    def blob_path(self, digest: Digest) -> Path:
        """Return a read-only local file with a blob's bytes, after checking its digest.

        Raises:
            MissingBlob: it is not in the store.
            DamagedBlob: its bytes are not what was stored.
        """
        self._blobs.check(digest)
        return self._blobs.path(digest)

    def versions(
        self,
        *,
        source: str | None = None,
        target: str | None = None,
        stage: str | None = None,
        technique: str | None = None,
        parent: Digest | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """Return versions, newest first; a filter that is None matches everything.

        Args:
            source: source task.
            target: target task.
            stage: a stage, ``candidate`` and ``retired`` included.
            technique: name of the technique.
            parent: digest of the version that they were adapted from.
            limit: most versions to return, 1 to 1000.
            cursor: ``next`` of the previous page.

        Raises:
            InvalidName: a task or stage breaks the grammar.
            InvalidSetting: the limit or the cursor cannot be used.
        """
        for task in (source, target):
            if task is not None:
                check_task(task)
        if stage is not None:
            check_stage(stage)
        if not 1 <= limit <= MAX_LIMIT:
            raise InvalidSetting(f"a page has 1 to {MAX_LIMIT} versions, asked for {limit}")
        if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
            raise InvalidSetting(f"a cursor is what the page before gave as 'next', got {quoted(cursor)}")
        query = Query(source, target, stage, technique, parent=parent)
        found = self._catalog.find(query, limit + 1, None if cursor is None else int(cursor))
        more = len(found) > limit
        return Page(tuple(found[:limit]), str(found[limit - 1].event) if more else None)

    def targets(self) -> Sequence[str]:
        """Return every target that ever had a version, sorted."""
        return self._catalog.targets()

    def deployed(self, stage: str = PRODUCTION) -> Sequence[Version]:
        """Return the version in a stage of each target that has one, sorted by target.

        Raises:
            InvalidName: the stage breaks the grammar.
            InvalidSetting: it is ``candidate`` or ``retired``, which hold any number of versions.
        """
        if check_stage(stage) in (CANDIDATE, RETIRED):
            raise InvalidSetting(f"expected a stage that holds one version per target, got {stage!r}")
        found = self._catalog.find(Query(stage=stage), _MANY_TARGETS)
        return sorted(found, key=lambda version: version.target)

    def stages(self, target: str) -> Mapping[str, Ref]:
        """Return the version in each stage of a target; empty stages are absent.

        Raises:
            UnknownTarget: no version was ever registered for it.
        """
        self._check_target(target)
        return dict(self._catalog.standing(target).stages)

    def stages_at(self, target: str, at: datetime) -> Mapping[str, Ref]:
        """Return what ``stages`` would have returned at a given time, inclusive.

        Raises:
            UnknownTarget: no version was ever registered for it.
        """
        self._check_target(target)
        return dict(fold(self._catalog.events(target, until=at)).stages)

    def history(self, target: str) -> Sequence[Event]:
        """Return all events of a target's versions, oldest first.

        Raises:
            UnknownTarget: no version was ever registered for it.
        """
        self._check_target(target)
        return self._catalog.events(target)

    def lineage(self, ref: Ref | str) -> Lineage:
        """Return a version's ancestors, the segments that each generation shares with its parent, and its children.

        Raises:
            NotFound: there is no such version.
            AmbiguousRef: several versions match the ref.
            IntegrityError: an ancestor's manifest is missing or damaged.
        """
        version = self.resolve(ref)
        children = self._catalog.find(Query(parent=version.digest), MAX_LIMIT)
        return trace(version, self.manifest(version), self._ancestor, [child.ref for child in children])

    def compare(self, first: Ref | str, second: Ref | str) -> Comparison:
        """Compare two versions.

        Raises:
            NotFound: there is no such version.
            AmbiguousRef: several versions match a ref.
            IntegrityError: bytes are missing or damaged.
        """
        return Comparison(self._side(first), self._side(second))

    def _ancestor(self, digest: Digest) -> Ancestor:
        for version in self._catalog.find(Query(digest=digest), 1):
            return version, self.manifest(version)
        events = (event for target in self._catalog.targets() for event in self._catalog.events(target))
        return next((event for event in events if event.action == DELETED and event.digest == digest), None)

    def _side(self, ref: Ref | str) -> Side:
        version = self.resolve(ref)
        manifest = self.manifest(version)
        generations = trace(version, manifest, self._ancestor).generations
        learnt: set[Digest] = set()
        for generation in generations:
            parts = {} if generation.gone else self.manifest(generation.digest).parts
            for name in LEARNT_PARTS & set(parts):
                learnt.update(Digest(line) for line in self.blob(parts[name].items).decode().split())
        stored = manifest.predictions
        predictions = None if stored is None else Predictions.parse(self.blob(stored))
        return Side(version, manifest, predictions, frozenset(learnt))

    def position(self) -> int:
        """Return the id of the last event, or 0 in an empty registry.

        The call is cheap, and the id only increases. A reader who has seen an id can see all events up to it.
        """
        return self._catalog.position()

    def stage_position(self) -> int:
        """Return the id of the last event that moved a stage, or 0 if there is none.

        The call is cheap, and the id only increases: while it is unchanged, no stage has moved. A reader who
        has seen an id can see all moves up to it.
        """
        return self._catalog.stage_position()

    def check_stage(self, target: str, stage: str) -> None:
        """Check that a target's history is intact and agrees with the catalog on the version in a stage, if any.

        Raises:
            BrokenHistory: the catalog is damaged.
        """
        check_history(self._catalog, target, stage)

    def _check_target(self, target: str) -> None:
        if check_task(target) not in self._catalog.targets():
            raise self._unknown(Ref(target), None)

    # Stages

    def promote(
        self,
        ref: Ref | str,
        stage: str,
        *,
        expect: int | None = None,
        force: bool = False,
        reason: str | None = None,
    ) -> Promotion:
        """Move a version to a stage if its gates pass and the target's stages did not move in the meantime.

        If the version is already in the stage, no event is appended, so a promotion can be repeated if its
        response was lost. Promoting to ``retired`` removes a version from every stage and from the versions
        that a rollback can return to.

        Args:
            ref: the version.
            stage: the new stage; not ``candidate``.
            expect: id of the target's last stage event that the caller knows (0: none yet); None takes the
                last one before the gates are evaluated.
            force: promote even if a gate fails; needs a reason.
            reason: the reason, stored with the event.

        Raises:
            UnknownTarget: no version was ever registered for the target.
            UnknownVersion: there is no such version.
            AmbiguousRef: several versions match the ref.
            StaleExpectation: the target's stages have moved since.
            GateFailed: a gate did not pass.
            Conflict: the stage is ``candidate``.
            InvalidSetting: forced without a reason.
        """
        check_destination(stage)
        reason = _reason(reason)
        if force and reason is None:
            raise InvalidSetting("a promotion that is forced past its gates needs a reason; give one")
        version = self.resolve(ref)
        standing = self._catalog.standing(version.target)
        last = standing.event if expect is None else expect
        there = standing.stages.get(stage)
        if standing.event == last and _is_there(version, stage, there, standing.needs(version.ref)):
            return Promotion(version.target, stage, version.ref, there, standing.event)
        gates = () if stage == RETIRED else self._evaluate(version, stage, there)
        self._announce(EVALUATED)
        failed = [gate.name for gate in gates if gate.outcome != PASS]
        if failed and not force:
            raise GateFailed(
                f"{version.ref} did not pass {', '.join(failed)}; improve it, or force it with a reason"
            )
        event = self._catalog.promote(
            version, stage, last, self._actor, self._clock(), reason, bool(failed) and force
        )
        self._ownership.note()
        return Promotion(version.target, stage, version.ref, there, event.id, gates)

    def _evaluate(self, version: Version, stage: str, there: Ref | None) -> tuple[PromotionOutcome, ...]:
        rival = self.resolve(there) if self._gates and there is not None else None
        return tuple(gate(self, version, stage, rival) for gate in self._gates)

    def rollback(self, target: str, *, expect: int | None = None, reason: str | None = None) -> Promotion:
        """Return production to the previous version; repeated calls go further back.

        Args:
            target: the target task.
            expect: id of the target's last stage event that the caller knows; None takes the last one.
            reason: the reason, stored with the event.

        Raises:
            UnknownTarget: no version was ever registered for the target.
            StaleExpectation: the target's stages have moved since.
            Conflict: there is no earlier version to go back to.
        """
        self._check_target(target)
        standing = self._catalog.standing(target)
        last = standing.event if expect is None else expect
        self._announce(EVALUATED)
        event = self._catalog.roll_back(target, last, self._actor, self._clock(), _reason(reason))
        self._ownership.note()
        return Promotion(target, PRODUCTION, event.ref, standing.stages.get(PRODUCTION), event.id)

    def delete(self, ref: Ref | str, reason: str) -> Event:
        """Delete a version: its history keeps a tombstone, and its number is never reused.

        The garbage collector later deletes the bytes that no other version needs.

        Raises:
            UnknownTarget: no version was ever registered for the target.
            UnknownVersion: there is no such version.
            AmbiguousRef: several versions match the ref.
            VersionInUse: a stage, a rollback or a child needs it.
            InvalidSetting: no reason is given.
        """
        said = _reason(reason)
        if said is None:
            raise InvalidSetting("a deletion needs a reason; give one")
        event = self._catalog.delete(self.resolve(ref), self._actor, self._clock(), said)
        self._ownership.note()
        return event

    # Tokens

    def add_token(
        self, name: str, grant: Grant = EVERYTHING, *, expires: datetime | None = None
    ) -> tuple[Token, str]:
        """Create a bearer token for servers of this registry.

        Args:
            name: its name, unique among all tokens, including revoked ones.
            grant: its permissions.
            expires: when it expires; None for never.

        Returns:
            Its record, and its text, which is not stored.

        Raises:
            InvalidName: the name breaks the grammar.
            InvalidValue: it would already have expired.
            NameTaken: there is one of this name, revoked or not.
        """
        token, text = Token.issue(name, grant, self._actor, self._clock(), expires)
        self._catalog.add_token(token)
        return token, text

    def revoke_token(self, name: str) -> Token:
        """Revoke a bearer token. Servers reject it within about a second; it stays in the list.

        Raises:
            UnknownToken: there is none of this name.
        """
        return self._catalog.revoke_token(name, self._actor, self._clock())

    def tokens(self) -> Sequence[Token]:
        """Return every bearer token, newest first."""
        return self._catalog.tokens()

    def token_changes(self) -> int:
        """Return a number that increases whenever a token is added or revoked. The call is cheap."""
        return self._catalog.token_changes()

    # Maintenance

    def verify(self, ref: Ref | str | None = None, progress: Progress = SILENT) -> Report:
        """Re-hash every blob that versions need, and compare manifests, rows, references and histories.

        Args:
            ref: check only this version and its target's history; None checks everything.
            progress: shows the hashed bytes.

        Raises:
            NotFound: there is no such version.
        """
        version = None if ref is None else self.resolve(ref)
        return verify(self._catalog, self._blobs, version, progress)

    def collect(
        self,
        *,
        dry_run: bool = False,
        grace: timedelta = GRACE,
        progress: Progress = SILENT,
    ) -> Collection:
        """Condemn unneeded bytes, and delete condemned bytes whose grace period is over.

        Args:
            dry_run: only report what would be deleted now.
            grace: how long condemned bytes are kept for readers; zero deletes at once.
            progress: shows the processed blobs.

        Raises:
            UnsafeCollection: this catalog may not be the only owner of the bytes.
        """
        if grace < timedelta(0):
            raise InvalidSetting(f"a grace period is zero or longer, got {grace}")
        self._ownership.check()
        if not dry_run:
            self._catalog.raise_epoch()
            self._ownership.note()
        return collect(self._catalog, self._blobs, self._clock(), grace, dry_run=dry_run, progress=progress)

    def lag(self) -> str | None:
        """Return a sentence where the blobs know of newer events than the catalog has: some of its changes were lost.

        None where it is as new as they know, and where the blob store does not answer.
        """
        with suppress(StorageFailure):
            return self._ownership.lag()
        return None

    def adopt(self, *, dry_run: bool = False) -> Adoption:
        """Take over the blob store with all of its blobs, so that ``collect`` can continue. Nothing is deleted.

        Unknown blobs are condemned now: a collection after the grace period deletes them. The markers of
        other catalogs are deleted. A catalog that is still in use writes its marker again when it is next
        opened, which stops collections again.

        Args:
            dry_run: only report what would be adopted.
        """
        found = self._ownership.unknown() if dry_run else self._ownership.adopt(self._clock())
        return Adoption(dry_run, tuple(each.digest for each in found), sum(each.bytes for each in found))

    def fork(self) -> CatalogIdentity:
        """Turn this catalog, a copy of another, into a separate registry; both may then share a blob store.

        Garbage is not collected in a store that several registries use.

        Returns:
            its new identity.
        """
        return self._ownership.fork()

    def identity(self) -> CatalogIdentity:
        """Return the registry's identity: its id, epoch and last event."""
        return self._catalog.identity()


_MANY_TARGETS = 1 << 31
_MAX_REASON = 2000


def _reason(text: str | None) -> str | None:
    """Return a reason without surrounding spaces, or None if it is empty."""
    said = (text or "").strip()
    if len(said) > _MAX_REASON or "\0" in said:
        raise InvalidSetting(f"a reason is a text of up to {_MAX_REASON:,} characters, got {len(said):,}")
    return said or None


def _is_there(version: Version, stage: str, there: Ref | None, needed: bool) -> bool:
    """Tell whether promoting would change nothing."""
    if stage == RETIRED:
        return version.stages == (RETIRED,) and not needed
    return there == version.ref
