"""What is shared is shown, with what it saves."""

from collections.abc import Iterator

from registry.digests import Digest
from registry.manifest import Manifest
from services.deployment.sharing import sharing, tree
from tests.builders import Tiny, chain


def named(**versions: Tiny) -> Iterator[tuple[str, Digest, Manifest]]:
    for name, version in versions.items():
        yield f"{name}@production", version.manifest.digest, version.manifest


def size(version: Tiny, *names: str) -> int:
    return sum(segment.bytes for segment in version.manifest.segments if segment.name in names)


def test_bytes_are_counted_once_where_they_are_shared() -> None:
    one, two = chain("letters/one", [1, 2, 3], seed=1), chain("letters/two", [1, 2, 4], seed=2)
    document = sharing(named(one=one, two=two))
    shared = size(one, "colours", "layer 0", "layer 1")
    whole = [sum(segment.bytes for segment in each.manifest.segments) for each in (one, two)]
    assert document["unshared_bytes"] == sum(whole)
    assert document["unshared_bytes"] - document["bytes"] == shared
    root = document["runs"][0]
    assert (root["bytes"], root["after"], root["serves"]) == (
        shared,
        [],
        ["one@production", "two@production"],
    )


def test_every_run_comes_after_those_that_feed_it() -> None:
    versions = {f"t{number}": chain(f"letters/t{number}", [1, number, 3], seed=number) for number in range(4)}
    runs = sharing(named(**versions))["runs"]
    seen: set[str] = set()
    for run in runs:
        assert seen.issuperset(run["after"])
        seen.add(run["id"])


def test_the_tree_has_a_line_for_each_run_and_one_for_what_is_saved() -> None:
    one, two = chain("letters/one", [1, 2], seed=1), chain("letters/two", [1, 2], seed=2)
    document = sharing(named(one=one, two=two))
    lines = list(tree(document))
    assert len(lines) == len(document["runs"]) + 1
    assert lines[0].startswith("colours … layer 1  ")
    assert lines[0].endswith("one@production, two@production")
    assert [line.startswith("  head  ") for line in lines[1:3]] == [True, True]
    assert "more without sharing" in lines[-1]


def test_nothing_deployed_is_nothing_shown() -> None:
    assert list(tree(sharing(named()))) == []
