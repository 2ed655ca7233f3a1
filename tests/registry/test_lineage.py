"""Ancestry is followed to its end, and what is shared is said by bytes."""

import pytest

from registry.digests import Digest
from registry.errors import UnknownTarget
from registry.lineage import trace
from registry.registry import Registry
from tests.builders import publish, tiny


def test_each_generation_says_what_it_shares_with_the_one_before(registry: Registry) -> None:
    first = publish(registry, tiny(seed=1))
    second = publish(registry, tiny("digits/odd", seed=2, parent=first.digest))
    third = publish(registry, tiny("odd/prime", seed=3, trunk_seed=9, parent=second.digest))
    found = registry.lineage(third.ref)
    assert [each.ref for each in found.generations] == [first.ref, second.ref, third.ref]
    assert [[each.shared for each in one.segments] for one in found.generations] == [
        [False, False],
        [True, False],
        [False, False],
    ]
    trunk = found.generations[0].segments[0].segment
    assert [each.bytes_saved for each in found.generations] == [0, trunk.bytes, 0]
    assert not any(each.gone for each in found.generations)


def test_children_are_named_the_last_registered_first(registry: Registry) -> None:
    parent = publish(registry, tiny(seed=1))
    children = [
        publish(registry, tiny("digits/odd", seed=seed, parent=parent.digest)).ref for seed in range(3)
    ]
    assert list(registry.lineage(parent.ref).children) == children[::-1]
    registry.delete(children[1], "not needed")
    assert list(registry.lineage(parent.ref).children) == [children[2], children[0]]


def test_a_parent_that_was_deleted_is_shown_as_such(registry: Registry) -> None:
    orphan = publish(registry, tiny(seed=1))
    event = registry.delete(orphan.ref, "a mistake")
    child = tiny("digits/odd", seed=2, parent=orphan.digest)
    version = publish(registry, tiny("digits/odd", seed=2))
    found = trace(version, child.manifest, lambda digest: event)
    gone, last = found.generations
    assert gone.gone and gone.ref == orphan.ref and gone.deleted == event
    assert gone.to_json()["deleted"] is True and not last.gone
    assert not any(each.shared for each in last.segments)


def test_a_parent_of_which_nothing_is_known_is_a_digest(registry: Registry) -> None:
    unknown = Digest.of(b"elsewhere")
    child = tiny("digits/odd", parent=unknown)
    version = publish(registry, tiny("digits/odd"))
    gone = trace(version, child.manifest, lambda digest: None).generations[0]
    assert gone.gone and gone.ref is None and gone.digest == unknown


def test_a_version_that_is_not_there_has_no_lineage(registry: Registry) -> None:
    with pytest.raises(UnknownTarget):
        registry.lineage("nowhere@1")
