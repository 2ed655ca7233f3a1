"""What every catalog keeps to."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest

from registry.catalog import Catalog, CatalogHead
from registry.catalog.catalog import CONDEMNED, LIVE, STAGED
from registry.digests import Digest
from registry.errors import (
    CondemnedBlob,
    Conflict,
    MissingBlob,
    NameTaken,
    StaleExpectation,
    UnknownToken,
    UnknownVersion,
    VersionInUse,
)
from registry.lifecycle import DELETED, PROMOTED, REGISTERED, ROLLED_BACK, check_chain
from registry.names import CANDIDATE, PRODUCTION, RETIRED, STAGING, Ref
from registry.tokens import EVERYTHING, Grant, Token
from registry.versions import Query, Version
from tests.builders import Tiny, tiny

NOW = datetime(2026, 5, 3, 14, 0, 0, 123456, tzinfo=UTC)
HOUR = timedelta(hours=1)
BLOB = Digest.of(b"a blob")
OTHER = Digest.of(b"another")
_T = TypeVar("_T")


def claim(catalog: Catalog, version: Tiny, holder: str = "me", at: datetime = NOW) -> None:
    """Do what a publication does before it registers."""
    for kind, data in [*version.blobs, ("manifest", version.manifest.to_bytes())]:
        catalog.lease(holder, Digest.of(data), at, at + HOUR, (kind, len(data)))
        catalog.confirm(Digest.of(data), at)


def register(
    catalog: Catalog, version: Tiny, exports: Mapping[Digest, Digest] | None = None, at: datetime = NOW
) -> Version:
    claim(catalog, version, at=at)
    registered = catalog.register(version.manifest, "me", exports or {}, "ada", at)
    catalog.release("me")
    return registered


def promote(catalog: Catalog, version: Version, stage: str = PRODUCTION, expect: int | None = None) -> int:
    last = catalog.standing(version.target).event if expect is None else expect
    return catalog.promote(version, stage, last, "ada", NOW, None, False).id


def never() -> None:
    raise AssertionError("nothing is to be deleted")


def at_once(*calls: Callable[[], _T]) -> list[_T | Exception]:
    """Run calls in as many threads, let go together; return what each returned or raised."""
    barrier = threading.Barrier(len(calls))
    results: list[_T | Exception | None] = [None] * len(calls)

    def run(index: int, call: Callable[[], _T]) -> None:
        barrier.wait()
        try:
            results[index] = call()
        except Exception as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=each) for each in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [result for result in results if result is not None]


class CatalogContract:
    """Inherit, and provide the fixture ``catalog`` (an empty one)."""

    # Which catalog it is

    def test_it_is_one_registry_for_good(self, catalog: Catalog) -> None:
        identity = catalog.identity()
        assert (len(identity.id), identity.epoch, identity.event, identity.hash) == (32, 0, 0, None)
        assert catalog.place()
        assert catalog.label
        version = register(catalog, tiny())
        promote(catalog, version)
        events = catalog.events("digits")
        assert catalog.identity() == replace(identity, event=2, hash=events[1].hash)
        assert catalog.event_hash(1) == events[0].hash
        assert catalog.event_hash(0) is None
        assert catalog.event_hash(3) is None

    def test_the_epoch_only_rises(self, catalog: Catalog) -> None:
        found = []
        for above in (0, 0, 7, 3):
            catalog.raise_epoch(above)
            found.append(catalog.identity().epoch)
        assert found == [1, 2, 8, 9]

    def test_a_fork_is_another_registry_with_the_same_story(self, catalog: Catalog) -> None:
        register(catalog, tiny())
        catalog.raise_epoch()
        before = catalog.identity()
        catalog.fork("f" * 32)
        assert catalog.identity() == replace(before, id="f" * 32, epoch=0)

    def test_it_knows_whether_a_blob_was_ever_leased(self, catalog: Catalog) -> None:
        assert not catalog.knows_blobs()
        catalog.lease("me", BLOB, NOW, NOW + HOUR, ("segment", 6))
        catalog.release("me")
        assert catalog.knows_blobs()

    # Claims

    def test_a_new_blob_is_staged_until_its_bytes_are_confirmed(self, catalog: Catalog) -> None:
        blob = catalog.lease("me", BLOB, NOW, NOW + HOUR, ("segment", 6))
        assert blob is not None
        assert (blob.digest, blob.kind, blob.bytes, blob.state, blob.since) == (
            BLOB,
            "segment",
            6,
            STAGED,
            NOW,
        )
        catalog.confirm(BLOB, NOW + HOUR)
        again = catalog.lease("you", BLOB, NOW, NOW + HOUR)
        assert again is not None
        assert (again.state, again.since) == (LIVE, NOW + HOUR)

    def test_what_the_catalog_does_not_know_cannot_be_claimed_for_reuse(self, catalog: Catalog) -> None:
        assert catalog.lease("me", BLOB, NOW, NOW + HOUR) is None
        assert not catalog.leased(BLOB, NOW)

    def test_a_lease_runs_until_it_expires_or_is_released(self, catalog: Catalog) -> None:
        catalog.lease("me", BLOB, NOW, NOW + HOUR, ("segment", 6))
        assert catalog.leased(BLOB, NOW)
        assert catalog.leased(BLOB, NOW + HOUR - timedelta(microseconds=1))
        assert not catalog.leased(BLOB, NOW + HOUR)
        catalog.renew("me", NOW + 2 * HOUR)
        assert catalog.leased(BLOB, NOW + HOUR)
        catalog.release("me")
        assert not catalog.leased(BLOB, NOW)

    def test_leases_of_others_stay(self, catalog: Catalog) -> None:
        for holder in ("me", "you"):
            catalog.lease(holder, BLOB, NOW, NOW + HOUR, ("segment", 6))
        catalog.release("me")
        assert catalog.leased(BLOB, NOW)

    # Registration

    def test_a_version_shows_what_its_manifest_says(self, catalog: Catalog) -> None:
        made = tiny("letters/digits", seed=3)
        version = register(catalog, made)
        assert version.ref == Ref("digits", "letters", number=1)
        assert version.digest == made.manifest.digest
        assert version.technique == "frozen"
        assert version.kind == "classification"
        assert version.stages == (CANDIDATE,)
        assert version.metrics == made.manifest.metrics
        assert version.space_id == made.manifest.space_id
        assert version.parent is None
        assert version.created_at == NOW
        assert catalog.find(Query(), 10) == [version]

    def test_numbers_count_within_a_transfer(self, catalog: Catalog) -> None:
        refs = [
            str(register(catalog, tiny(transfer, seed=seed)).ref)
            for seed, transfer in enumerate(["a/x", "a/x", "b/x", "a/y", "a/x"])
        ]
        assert refs == ["a/x@1", "a/x@2", "b/x@1", "a/y@1", "a/x@3"]

    def test_registering_again_returns_what_is_there(self, catalog: Catalog) -> None:
        version = register(catalog, tiny())
        promote(catalog, version)
        again = register(catalog, tiny())
        assert (again.ref, again.stages) == (version.ref, (PRODUCTION,))
        assert len(catalog.events("digits")) == 2
        assert register(catalog, tiny(seed=1)).number == 2

    def test_a_version_without_all_its_blobs_is_refused(self, catalog: Catalog) -> None:
        made = tiny()
        with pytest.raises(MissingBlob):
            catalog.register(made.manifest, "me", {}, "ada", NOW)
        claim(catalog, made)
        with pytest.raises(MissingBlob):
            catalog.register(made.manifest, "somebody else", {}, "ada", NOW)
        assert catalog.find(Query(), 10) == []
        assert catalog.targets() == []
        assert catalog.position() == 0

    def test_staged_bytes_are_not_there_yet(self, catalog: Catalog) -> None:
        made = tiny()
        catalog.adopt(made.manifest.recipe, 1, NOW)
        catalog.lease("me", made.manifest.recipe, NOW, NOW + HOUR)
        claim(catalog, Tiny(made.manifest, made.blobs[1:]))
        with pytest.raises(MissingBlob, match=made.manifest.recipe):
            catalog.register(made.manifest, "me", {}, "ada", NOW)

    def test_a_condemned_blob_is_refused(self, catalog: Catalog) -> None:
        made = tiny()
        claim(catalog, made)
        catalog.condemn([made.manifest.recipe], NOW + 2 * HOUR)
        with pytest.raises(CondemnedBlob, match=made.manifest.recipe):
            catalog.register(made.manifest, "me", {}, "ada", NOW)

    def test_a_parent_has_to_be_registered(self, catalog: Catalog) -> None:
        parent = tiny("a/b")
        child = tiny("b/c", parent=parent.manifest.digest)
        with pytest.raises(UnknownVersion, match=parent.manifest.digest):
            register(catalog, child)
        register(catalog, parent)
        assert register(catalog, child).parent == parent.manifest.digest

    def test_an_export_is_found_once_its_version_is_registered(self, catalog: Catalog) -> None:
        made = tiny()
        weights, segment = made.manifest.segments[0].weights, made.manifest.segments[0].digest
        assert catalog.export(weights) is None
        register(catalog, made, {weights: segment})
        assert catalog.export(weights) == segment
        other = tiny(trunk_seed=1)
        register(catalog, other, {weights: other.manifest.segments[0].digest})
        assert catalog.export(weights) == other.manifest.segments[0].digest

    def test_many_may_register_at_once_and_numbers_have_no_gap(self, catalog: Catalog) -> None:
        made = [tiny(seed=seed) for seed in range(8)]
        results = at_once(*(lambda each=each: self._register_as(catalog, each) for each in made))
        assert sorted(version.number for version in results if isinstance(version, Version)) == [*range(1, 9)]
        events = catalog.events("digits")
        check_chain(events)
        assert [event.id for event in events] == [*range(1, 9)]

    @staticmethod
    def _register_as(catalog: Catalog, made: Tiny) -> Version:
        claim(catalog, made, made.manifest.digest[:30])
        return catalog.register(made.manifest, made.manifest.digest[:30], {}, "ada", NOW)

    def test_the_same_version_registered_by_many_at_once_is_one(self, catalog: Catalog) -> None:
        made = tiny()
        results = at_once(*[lambda: self._register_as(catalog, made)] * 6)
        assert {str(version.ref) for version in results if isinstance(version, Version)} == {
            "letters/digits@1"
        }
        assert len(results) == 6
        assert len(catalog.events("digits")) == 1

    # Finding

    def test_queries_let_through_what_they_say(self, catalog: Catalog) -> None:
        one = register(catalog, tiny("a/x", seed=1))
        two = register(catalog, tiny("b/x", seed=2, technique="full"))
        three = register(catalog, tiny("a/y", seed=3, parent=one.digest))
        promote(catalog, one)
        promote(catalog, two)

        def found(query: Query) -> list[str]:
            return [str(version.ref) for version in catalog.find(query, 10)]

        assert found(Query()) == ["a/y@1", "b/x@1", "a/x@1"]
        assert found(Query(source="a")) == ["a/y@1", "a/x@1"]
        assert found(Query(target="x")) == ["b/x@1", "a/x@1"]
        assert found(Query(technique="full")) == ["b/x@1"]
        assert found(Query(number=1, target="x", source="b")) == ["b/x@1"]
        assert found(Query(digest=two.digest[:15])) == ["b/x@1"]
        assert found(Query(digest="sha256:%")) == []
        assert found(Query(parent=one.digest)) == ["a/y@1"]
        assert found(Query(stage=PRODUCTION)) == ["b/x@1"]
        assert found(Query(stage=RETIRED)) == ["a/x@1"]
        assert found(Query(stage=CANDIDATE)) == ["a/y@1"]
        assert found(Query(stage="shadow")) == []
        assert [str(each.ref) for each in catalog.find(Query(), 1, before=three.event)] == ["b/x@1"]

    # Stages

    def test_promotion_moves_what_was_there_to_retired(self, catalog: Catalog) -> None:
        one, two = (register(catalog, tiny(seed=seed)) for seed in (1, 2))
        promote(catalog, one)
        promote(catalog, one, STAGING)
        promote(catalog, two)
        now = {version.number: version.stages for version in catalog.find(Query(), 10)}
        assert now == {1: (STAGING,), 2: (PRODUCTION,)}
        promote(catalog, two, STAGING)
        now = {version.number: version.stages for version in catalog.find(Query(), 10)}
        assert now == {1: (RETIRED,), 2: (PRODUCTION, STAGING)}

    def test_a_stage_holds_one_version_whichever_the_source(self, catalog: Catalog) -> None:
        one, two = register(catalog, tiny("a/x")), register(catalog, tiny("b/x"))
        promote(catalog, one)
        promote(catalog, two)
        assert catalog.standing("x").stages == {PRODUCTION: two.ref}

    def test_a_stale_expectation_loses(self, catalog: Catalog) -> None:
        one, two = (register(catalog, tiny(seed=seed)) for seed in (1, 2))
        event = promote(catalog, one, expect=0)
        with pytest.raises(StaleExpectation, match=str(event)):
            promote(catalog, two, expect=0)
        register(catalog, tiny(seed=3))  # registrations do not count
        promote(catalog, two, expect=event)
        with pytest.raises(StaleExpectation):
            catalog.roll_back("digits", event, "ada", NOW, None)

    def test_of_many_promotions_at_once_one_wins(self, catalog: Catalog) -> None:
        made = [register(catalog, tiny(seed=seed)) for seed in range(6)]
        results = at_once(*(lambda each=each: promote(catalog, each, expect=0) for each in made))
        assert sum(isinstance(result, int) for result in results) == 1
        assert sum(isinstance(result, StaleExpectation) for result in results) == 5
        check_chain(catalog.events("digits"))

    def test_rollback_returns_and_repeated_goes_further(self, catalog: Catalog) -> None:
        made = [register(catalog, tiny(seed=seed)) for seed in range(3)]
        for version in made:
            promote(catalog, version)
        for number in (2, 1):
            event = catalog.roll_back("digits", catalog.standing("digits").event, "ada", NOW, "worse")
            assert (event.action, event.ref.number, event.reason) == (ROLLED_BACK, number, "worse")
            (held,) = catalog.find(Query(stage=PRODUCTION), 10)
            assert held.number == number
        with pytest.raises(Conflict):
            catalog.roll_back("digits", catalog.standing("digits").event, "ada", NOW, None)

    # Events

    def test_events_tell_the_whole_story(self, catalog: Catalog) -> None:
        version = register(catalog, tiny())
        catalog.promote(version, STAGING, 0, "bob", NOW + HOUR, "looks good", True)
        first, second = catalog.events("digits")
        assert (first.action, first.stage, first.actor, first.at) == (REGISTERED, CANDIDATE, "ada", NOW)
        assert (second.action, second.stage, second.actor, second.at) == (
            PROMOTED,
            STAGING,
            "bob",
            NOW + HOUR,
        )
        assert (second.reason, second.forced, second.digest) == ("looks good", True, version.digest)
        check_chain([first, second])
        assert catalog.head("digits") == CatalogHead(2, second.hash)
        assert [event.seq for event in catalog.events("digits", until=NOW)] == [1]
        assert catalog.events("digits", until=NOW - HOUR) == []

    def test_a_target_that_nobody_registered_has_no_story(self, catalog: Catalog) -> None:
        assert catalog.events("digits") == []
        assert catalog.standing("digits").stages == {}
        assert catalog.head("digits") == CatalogHead(0, None)
        assert catalog.targets() == []

    def test_the_position_grows_with_every_event(self, catalog: Catalog) -> None:
        assert catalog.position() == 0
        one = register(catalog, tiny("a/x"))
        assert catalog.position() == 1
        register(catalog, tiny("a/y"))
        assert promote(catalog, one) == catalog.position() == 3
        assert catalog.targets() == ["x", "y"]

    def test_the_stage_position_is_the_last_event_that_moved_a_stage(self, catalog: Catalog) -> None:
        assert catalog.stage_position() == 0
        one, two = register(catalog, tiny("a/x", seed=1)), register(catalog, tiny("a/x", seed=2))
        assert catalog.stage_position() == 0
        assert promote(catalog, one) == catalog.stage_position() == 3
        assert promote(catalog, two) == catalog.stage_position() == 4
        other = register(catalog, tiny("a/y"))
        assert catalog.stage_position() == 4
        assert catalog.roll_back("x", 4, "ada", NOW, None).id == catalog.stage_position() == 6
        assert promote(catalog, one, RETIRED) == catalog.stage_position() == 7
        catalog.delete(other, "ada", NOW, "a mistake")
        assert (catalog.stage_position(), catalog.position()) == (7, 8)

    # Deletion

    def test_a_deleted_version_is_gone_and_its_number_stays_taken(self, catalog: Catalog) -> None:
        version = register(catalog, tiny())
        event = catalog.delete(version, "ada", NOW, "a mistake")
        assert (event.action, event.ref, event.reason, event.stage) == (
            DELETED,
            version.ref,
            "a mistake",
            None,
        )
        assert catalog.find(Query(), 10) == []
        assert catalog.tombstone(version.ref) == event
        assert [*catalog.references()] == []
        assert register(catalog, tiny(seed=1)).number == 2
        assert register(catalog, tiny()).number == 3
        check_chain(catalog.events("digits"))

    def test_a_deleted_version_can_neither_be_deleted_nor_promoted(self, catalog: Catalog) -> None:
        version = register(catalog, tiny())
        catalog.delete(version, "ada", NOW, "a mistake")
        with pytest.raises(UnknownVersion):
            catalog.delete(version, "ada", NOW, "again")
        with pytest.raises(UnknownVersion):
            promote(catalog, version)

    def test_what_is_needed_is_not_deleted(self, catalog: Catalog) -> None:
        one, two = register(catalog, tiny(seed=1)), register(catalog, tiny(seed=2))
        promote(catalog, one)
        with pytest.raises(VersionInUse, match="production"):
            catalog.delete(one, "ada", NOW, "why not")
        promote(catalog, two)
        with pytest.raises(VersionInUse, match="rolled back"):
            catalog.delete(one, "ada", NOW, "why not")
        promote(catalog, one, RETIRED)
        catalog.delete(one, "ada", NOW, "why not")

    def test_a_parent_is_not_deleted_before_its_children(self, catalog: Catalog) -> None:
        parent = register(catalog, tiny("a/b"))
        child = register(catalog, tiny("b/c", parent=parent.digest))
        with pytest.raises(VersionInUse, match="b/c@1"):
            catalog.delete(parent, "ada", NOW, "why not")
        catalog.delete(child, "ada", NOW, "first")
        catalog.delete(parent, "ada", NOW, "then")

    # Tokens

    def test_a_token_is_kept_as_it_was_made(self, catalog: Catalog) -> None:
        grant = Grant.of(["digits", "shapes"], ["embed"])
        narrow, text = Token.issue("narrow", grant, "ada", NOW, NOW + HOUR)
        wide, _ = Token.issue("wide", EVERYTHING, "bob", NOW + HOUR)
        for token in (narrow, wide):
            catalog.add_token(token)
        assert catalog.tokens() == [wide, narrow]
        assert catalog.tokens()[1].proved_by(text.encode())

    def test_a_name_is_given_once(self, catalog: Catalog) -> None:
        first, _ = Token.issue("ci", EVERYTHING, "ada", NOW)
        catalog.add_token(first)
        catalog.revoke_token("ci", "ada", NOW)
        with pytest.raises(NameTaken, match="ci"):
            catalog.add_token(Token.issue("ci", EVERYTHING, "ada", NOW)[0])
        assert [token.id for token in catalog.tokens()] == [first.id]

    def test_of_many_that_want_a_name_at_once_one_gets_it(self, catalog: Catalog) -> None:
        made = [Token.issue("ci", EVERYTHING, "ada", NOW)[0] for _ in range(6)]
        results = at_once(*(lambda each=each: catalog.add_token(each) or each for each in made))
        assert sum(isinstance(result, Token) for result in results) == 1
        assert sum(isinstance(result, NameTaken) for result in results) == 5

    def test_a_revoked_token_stays_listed_with_time_and_actor(self, catalog: Catalog) -> None:
        catalog.add_token(Token.issue("ci", EVERYTHING, "ada", NOW)[0])
        revoked = catalog.revoke_token("ci", "bob", NOW + HOUR)
        again = catalog.revoke_token("ci", "eve", NOW + 2 * HOUR)
        assert (revoked.revoked_at, revoked.revoked_by) == (NOW + HOUR, "bob")
        assert catalog.tokens() == [revoked] == [again]

    def test_a_token_that_is_not_there_cannot_be_revoked(self, catalog: Catalog) -> None:
        with pytest.raises(UnknownToken, match="ci"):
            catalog.revoke_token("ci", "ada", NOW)
        assert catalog.token_changes() == 0

    def test_changes_of_tokens_are_counted_apart_from_events(self, catalog: Catalog) -> None:
        assert catalog.token_changes() == 0
        catalog.add_token(Token.issue("ci", EVERYTHING, "ada", NOW)[0])
        added = catalog.token_changes()
        catalog.revoke_token("ci", "ada", NOW)
        assert 0 < added < catalog.token_changes()
        register(catalog, tiny())
        assert catalog.position() == 1

    # Garbage

    def test_references_name_every_blob_of_every_version(self, catalog: Catalog) -> None:
        made = tiny()
        version = register(catalog, made)
        expected = {("manifest", made.manifest.digest), *made.manifest.blobs()}
        rows = [*catalog.references()]
        assert {(kind, digest) for _, kind, digest, _ in rows} == expected
        assert {ref for ref, _, _, _ in rows} == {version.ref}
        sizes = {Digest.of(data): len(data) for _, data in made.blobs}
        assert all(size == sizes.get(digest, size) for _, _, digest, size in rows)

    def test_neither_the_referred_to_nor_the_leased_is_unneeded(self, catalog: Catalog) -> None:
        made = tiny()
        version = register(catalog, made)
        catalog.lease("me", BLOB, NOW, NOW + HOUR, ("segment", 6))
        catalog.adopt(OTHER, 7, NOW)
        assert [blob.digest for blob in catalog.unneeded(NOW)] == [OTHER]
        assert [blob.digest for blob in catalog.unneeded(NOW + HOUR)] == sorted([BLOB, OTHER])
        catalog.delete(version, "ada", NOW, "a mistake")
        assert {made.manifest.recipe, made.manifest.digest} <= {blob.digest for blob in catalog.unneeded(NOW)}

    def test_condemning_spares_what_was_claimed_since(self, catalog: Catalog) -> None:
        for digest in (BLOB, OTHER):
            catalog.lease("me", digest, NOW, NOW + HOUR, ("segment", 6))
        catalog.release("me")
        catalog.lease("you", OTHER, NOW, NOW + HOUR)
        catalog.condemn([BLOB, OTHER], NOW)
        states = {blob.digest: blob.state for blob in catalog.unneeded(NOW + 2 * HOUR)}
        assert states == {BLOB: CONDEMNED, OTHER: STAGED}

    def test_a_condemned_blob_is_deleted_when_its_time_has_come(self, catalog: Catalog) -> None:
        catalog.adopt(BLOB, 6, NOW)
        assert not catalog.reclaim(BLOB, NOW + HOUR, NOW - HOUR, never)
        deleted: list[bool] = []
        assert catalog.reclaim(BLOB, NOW + HOUR, NOW, lambda: deleted.append(True))
        assert deleted == [True]
        assert catalog.unknown([BLOB]) == [BLOB]
        assert not catalog.reclaim(BLOB, NOW + HOUR, NOW, never)

    def test_a_claim_takes_a_condemned_blob_back(self, catalog: Catalog) -> None:
        catalog.adopt(BLOB, 99, NOW)
        blob = catalog.lease("me", BLOB, NOW, NOW + HOUR, ("segment", 6))
        assert blob is not None
        assert (blob.state, blob.kind, blob.bytes) == (STAGED, "segment", 6)
        assert not catalog.reclaim(BLOB, NOW + 2 * HOUR, NOW + 2 * HOUR, never)

    def test_a_deletion_that_fails_changes_nothing(self, catalog: Catalog) -> None:
        catalog.adopt(BLOB, 6, NOW)

        def fail() -> None:
            raise PermissionError("read-only")

        with pytest.raises(PermissionError):
            catalog.reclaim(BLOB, NOW, NOW, fail)
        assert [blob.state for blob in catalog.unneeded(NOW)] == [CONDEMNED]

    def test_an_export_goes_with_its_segment(self, catalog: Catalog) -> None:
        made = tiny()
        weights, segment = made.manifest.segments[0].weights, made.manifest.segments[0].digest
        version = register(catalog, made, {weights: segment})
        catalog.delete(version, "ada", NOW, "a mistake")
        catalog.condemn([segment], NOW)
        assert catalog.reclaim(segment, NOW, NOW, lambda: None)
        assert catalog.export(weights) is None

    def test_nobody_claims_a_digest_while_its_bytes_are_deleted(self, catalog: Catalog) -> None:
        catalog.adopt(BLOB, 6, NOW)
        order: list[str] = []
        deleting = threading.Event()

        def delete() -> None:
            deleting.set()
            # Long enough for a claim that does not wait to slip in.
            threading.Event().wait(0.3)
            order.append("deleted")

        def lease() -> None:
            deleting.wait()
            catalog.lease("me", BLOB, NOW, NOW + HOUR, ("segment", 6))
            order.append("leased")

        at_once(lambda: catalog.reclaim(BLOB, NOW, NOW, delete), lease)
        assert order == ["deleted", "leased"]
        assert [blob.state for blob in catalog.unneeded(NOW + HOUR)] == [STAGED]
