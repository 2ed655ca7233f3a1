"""The registry: versions of transferred models, their bytes, their stages and their history.

One door to the catalog, which knows what there is, and the blob store, which keeps the bytes::

    with Registry.open(Settings.read()) as registry:
        with registry.publication() as publication:
            digest = publication.store("segment", onnx_bytes)
            ...
            version = publication.register(manifest)
        registry.promote(version.ref, "production")
        registry.resolve("flowers").digest

Safe to use from several threads, and by several processes at the same time. A process that forks
opens its own.
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
"""A condition on a promotion: it is given the registry, the version, the stage and who is there now."""

_NAMED = 10
"""Candidates that an error about an ambiguous ref lists."""

MAX_LIMIT = 1000
"""Versions on one page."""


class Registry:
    """Versions of transferred models, their bytes, their stages and their history.

    Args:
        catalog: what there is.
        blobs: where the bytes are.
        actor: in whose name events are appended.
        gates: conditions on every promotion but those to ``retired``.
        clock: tells the time, in UTC.
        announce: is told each named step of publications and promotions (``registry.steps``).
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
        """Open the registry that the settings name; where there is none, an empty one is made.

        Args:
            settings: where it is.
            gates: conditions on every promotion but those to ``retired``.
            clock: tells the time, in UTC.
            announce: is told each named step of publications and promotions (``registry.steps``).
            lease: how long the claims of a publication outlive its process.
            anew: whether an empty catalog may be made where blobs are already: those of a catalog that was lost.

        Raises:
            InvalidSetting: a setting cannot be used, or the catalog was written by a newer program.
            MissingCatalog: the catalog's file was lost.
            StorageFailure: the catalog's database does not answer.
            DamagedCatalog: it is not in order.
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
        # A store that cannot be written to can be read all the same.
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
        """Let go of every connection."""
        self._catalog.close()

    # Putting in

    @property
    def blob_folder(self) -> Path | None:
        """The folder of the blobs, if they are files of this machine, else None."""
        return self._blobs.folder

    def check_writable(self) -> None:
        """Check that versions can be put in: before long work rather than after it. Nothing changes.

        Raises:
            ReadOnlyRegistry: this account may only read the catalog or the blob store.
            StorageFailure: the catalog or the blob store cannot be written to.
        """
        self._catalog.check_writable()
        self._blobs.check_writable()

    def publication(self) -> Publication:
        """Begin to put a version in: a context manager that leases, stores and registers.

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

    # Finding

    def resolve(self, ref: Ref | str) -> Version:
        """Return the version that a ref means; a bare target means production.

        Raises:
            InvalidName: the text is no ref.
            UnknownTarget: no version was ever registered for the target.
            UnknownVersion: the target has no such version, or it was deleted.
            AmbiguousRef: several versions answer to it; the message lists them.
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
        """Return a read-only local file that holds a blob, checked against its digest just now.

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
        """Return versions, the last registered first; filters that are None let everything through.

        Args:
            source: source task.
            target: target task.
            stage: a stage, ``candidate`` and ``retired`` included.
            technique: name of the technique.
            parent: digest of the version that they were carried over from.
            limit: how many at most, 1 to 1000.
            cursor: ``next`` of the page before.

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
        """Return every target that a version was ever registered for, sorted."""
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
        """Return the version in each stage of a target that holds one; empty stages are left out.

        Raises:
            UnknownTarget: no version was ever registered for it.
        """
        self._check_target(target)
        return dict(self._catalog.standing(target).stages)

    def stages_at(self, target: str, at: datetime) -> Mapping[str, Ref]:
        """Return what ``stages`` returned at a moment, that moment included.

        Raises:
            UnknownTarget: no version was ever registered for it.
        """
        self._check_target(target)
        return dict(fold(self._catalog.events(target, until=at)).stages)

    def history(self, target: str) -> Sequence[Event]:
        """Return all that happened to a target's versions, oldest first.

        Raises:
            UnknownTarget: no version was ever registered for it.
        """
        self._check_target(target)
        return self._catalog.events(target)

    def lineage(self, ref: Ref | str) -> Lineage:
        """Return a version's ancestors, what each generation shares with the one before, and its children.

        Raises:
            NotFound: there is no such version.
            AmbiguousRef: several versions answer to the ref.
            IntegrityError: an ancestor's manifest is missing or damaged.
        """
        version = self.resolve(ref)
        children = self._catalog.find(Query(parent=version.digest), MAX_LIMIT)
        return trace(version, self.manifest(version), self._ancestor, [child.ref for child in children])

    def compare(self, first: Ref | str, second: Ref | str) -> Comparison:
        """Set two versions side by side.

        Raises:
            NotFound: there is no such version.
            AmbiguousRef: several versions answer to a ref.
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
        """Return the id of the last event of all, 0 in an empty registry.

        It is cheap to ask, and only grows. Once it is seen, everything up to it is to be seen.
        """
        return self._catalog.position()

    def stage_position(self) -> int:
        """Return the id of the last event that moved a stage, 0 where none did.

        It is cheap to ask, and only grows: as long as it stays, no stage has moved. Once it is seen, every move up
        to it is to be seen.
        """
        return self._catalog.stage_position()

    def check_stage(self, target: str, stage: str) -> None:
        """Check that a target's history is whole, and leads to the version that is shown in a stage, or to none.

        Raises:
            BrokenHistory: it is not, or does not: the catalog was damaged.
        """
        check_history(self._catalog, target, stage)

    def _check_target(self, target: str) -> None:
        if check_task(target) not in self._catalog.targets():
            raise self._unknown(Ref(target), None)

    # Moving

    def promote(
        self,
        ref: Ref | str,
        stage: str,
        *,
        expect: int | None = None,
        force: bool = False,
        reason: str | None = None,
    ) -> Promotion:
        """Move a version to a stage, if its gates let it through and nobody else moved the target meanwhile.

        A version that is there already stays, and no event is appended: a promotion may be
        repeated when its answer was lost. Promoting to ``retired`` takes a version out of every
        stage, and out of what a rollback can return to.

        Args:
            ref: which version.
            stage: where to; not ``candidate``.
            expect: id of the target's last stage event (0: none yet) as the caller knows it; None takes the
                one there was before the gates were asked.
            force: promote whatever the gates say; needs a reason.
            reason: why; it is kept with the event.

        Raises:
            UnknownTarget: no version was ever registered for the target.
            UnknownVersion: there is no such version.
            AmbiguousRef: several versions answer to the ref.
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
        """Return production to the version before the current one; repeated, further back.

        Args:
            target: the target task.
            expect: id of the target's last stage event as the caller knows it; None takes the last one.
            reason: why; it is kept with the event.

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
        """Delete a version: a tombstone in its history; its number is never given again.

        Its bytes go when the garbage collector finds that no other version needs them.

        Raises:
            UnknownTarget: no version was ever registered for the target.
            UnknownVersion: there is no such version.
            AmbiguousRef: several versions answer to the ref.
            VersionInUse: a stage, a rollback or a child needs it.
            InvalidSetting: no reason is given.
        """
        said = _reason(reason)
        if said is None:
            raise InvalidSetting("a deletion needs a reason; give one")
        event = self._catalog.delete(self.resolve(ref), self._actor, self._clock(), said)
        self._ownership.note()
        return event

    # Letting in

    def add_token(
        self, name: str, grant: Grant = EVERYTHING, *, expires: datetime | None = None
    ) -> tuple[Token, str]:
        """Make a bearer token for servers of this registry.

        Args:
            name: what to call it, unique among all that there ever were.
            grant: what it is good for.
            expires: from when on it is refused; None for never.

        Returns:
            What is kept of it, and its text, which is kept nowhere.

        Raises:
            InvalidName: the name breaks the grammar.
            InvalidValue: it would have expired already.
            NameTaken: there is one of this name, revoked or not.
        """
        token, text = Token.issue(name, grant, self._actor, self._clock(), expires)
        self._catalog.add_token(token)
        return token, text

    def revoke_token(self, name: str) -> Token:
        """Revoke a bearer token: servers refuse it within about a second, and it stays listed.

        Raises:
            UnknownToken: there is none of this name.
        """
        return self._catalog.revoke_token(name, self._actor, self._clock())

    def tokens(self) -> Sequence[Token]:
        """Return every bearer token, the last made first."""
        return self._catalog.tokens()

    def token_changes(self) -> int:
        """Return a number that has grown whenever a token was added or revoked: cheap to ask."""
        return self._catalog.token_changes()

    # Keeping

    def verify(self, ref: Ref | str | None = None, progress: Progress = SILENT) -> Report:
        """Re-hash every blob that versions need, and compare manifests, rows, references and histories.

        Args:
            ref: only this version and its target's history; None checks everything.
            progress: who watches the bytes being hashed.

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
        """Condemn the bytes that nothing needs, and delete those condemned for the grace period.

        Args:
            dry_run: only say what would be deleted now.
            grace: how long condemned bytes stay, for readers; zero deletes at once.
            progress: who watches the blobs being dealt with.

        Raises:
            UnsafeCollection: it is not certain that this catalog alone decides over the bytes.
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
        """Take the blob store over with all that is in it, so that ``collect`` can go on; delete nothing.

        Blobs that the catalog does not know are condemned as of now: a collection after its grace period deletes them.
        Others who used the store are struck off. One of them that is still in use enters itself again when it is opened
        the next time, and stops collections again.

        Args:
            dry_run: only say what would be adopted.
        """
        found = self._ownership.unknown() if dry_run else self._ownership.adopt(self._clock())
        return Adoption(dry_run, tuple(each.digest for each in found), sum(each.bytes for each in found))

    def fork(self) -> CatalogIdentity:
        """Make this catalog, a copy of another, a registry of its own: both may use one blob store from now on.

        Garbage is not collected in a store that several registries use.

        Returns:
            the identity that it has from now on.
        """
        return self._ownership.fork()

    def identity(self) -> CatalogIdentity:
        """Return which registry this is, and how far it has come."""
        return self._catalog.identity()


_MANY_TARGETS = 1 << 31
_MAX_REASON = 2000


def _reason(text: str | None) -> str | None:
    """Return a reason worth keeping, or None where there is none."""
    said = (text or "").strip()
    if len(said) > _MAX_REASON or "\0" in said:
        raise InvalidSetting(f"a reason is a text of up to {_MAX_REASON:,} characters, got {len(said):,}")
    return said or None


def _is_there(version: Version, stage: str, there: Ref | None, needed: bool) -> bool:
    """Tell whether promoting would change nothing."""
    if stage == RETIRED:
        return version.stages == (RETIRED,) and not needed
    return there == version.ref
