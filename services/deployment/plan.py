"""The execution plan: the segments of all deployed versions as one graph, partitioned into runs.

Two places of segments in the graph compute the same tensor if the segment's bytes and everything upstream are the
same. So a place is identified by a digest of these. Nobody declares what is shared: equal trunks have equal digests.
Places that serve exactly the same outputs of the same versions form a run, which is merged into one session. A run
ends where a version branches off. The vector that a head takes is itself an output (``embed`` returns it). So heads
are always separate runs, and a new head on a served trunk leaves the trunk's session unchanged.

Pure: it opens nothing. (Prefix sharing as in Nexus, Shen et al., SOSP 2019, with runs found from digests instead of
retraining lineage.)
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from registry.digests import Digest
from registry.manifest import RECIPE, Manifest, Segment

Consumer = tuple[Digest, str]
"""An output of a version: the manifest's digest and the output's name."""


@dataclass(frozen=True, slots=True)
class PlannedSegment:
    """A segment in its place in the graph.

    Attributes:
        key: digest of the segment's digest and of what feeds it; equal keys compute equal tensors.
        segment: the segment.
        feeds: the wire that feeds each of its ports, ``recipe:FIELD`` or ``KEY:OUTPUT``.
        depth: segments on the longest path from the recipe, including itself.
    """

    key: Digest
    segment: Segment
    feeds: Mapping[str, str]
    depth: int


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """Places that are merged into one session.

    Attributes:
        key: digest of the places and of their output wires; identifies a session.
        places: the places in topological order.
        takes: the input wires.
        gives: the output wires.
        depth: the least depth of its places.
    """

    key: Digest
    places: tuple[PlannedSegment, ...] = field(repr=False)
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    depth: int

    @property
    def from_recipe(self) -> bool:
        """Whether it takes only fields of the recipe, so that it is a root."""
        return all(wire.startswith(f"{RECIPE}:") for wire in self.takes)


@dataclass(frozen=True, slots=True)
class PlannedPath:
    """A version's path through the plan.

    Attributes:
        runs: the runs that it needs, in topological order; the first is its root.
        outputs: the wire of each of the version's outputs.
    """

    runs: tuple[PlannedRun, ...]
    outputs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """The runs of all deployed versions; immutable.

    Attributes:
        runs: all runs, in topological order.
        paths: the path of each version, by manifest digest.
        consumers: the outputs that each run serves, by run key.
    """

    runs: tuple[PlannedRun, ...] = ()
    paths: Mapping[Digest, PlannedPath] = field(default_factory=dict)
    consumers: Mapping[Digest, frozenset[Consumer]] = field(default_factory=dict)

    @classmethod
    def of(cls, versions: Mapping[Digest, Manifest]) -> "Plan":
        """Return the plan of some versions, given by manifest digest."""
        places: dict[Digest, PlannedSegment] = {}
        outputs: dict[Digest, dict[str, str]] = {}
        consumers: dict[Digest, set[Consumer]] = {}
        for digest, manifest in versions.items():
            placed = _placed(manifest)
            for place in placed.values():
                places.setdefault(place.key, place)
            outputs[digest] = {
                name: f"{placed[wire.segment].key}:{wire.port}" for name, wire in manifest.outputs.items()
            }
            for name, wire in outputs[digest].items():
                _consume(places, consumers, _producer(wire), (digest, name))
        groups: dict[frozenset[Consumer], list[PlannedSegment]] = {}
        for key, place in places.items():
            if key in consumers:
                groups.setdefault(frozenset(consumers[key]), []).append(place)
        needed = {wire for named in outputs.values() for wire in named.values()}
        made = {users: _run(group, places.values(), needed) for users, group in groups.items()}
        # A run serves fewer outputs than the runs that feed it, so this order is topological.
        order = sorted(made, key=lambda users: (-len(users), made[users].key))
        return cls(
            tuple(made[users] for users in order),
            {
                digest: PlannedPath(
                    tuple(made[users] for users in order if any(user[0] == digest for user in users)),
                    outputs[digest],
                )
                for digest in versions
            },
            {made[users].key: users for users in order},
        )


def _placed(manifest: Manifest) -> dict[str, PlannedSegment]:
    """Return a version's segments in their places, by name."""
    placed: dict[str, PlannedSegment] = {}
    for segment in manifest.segments:
        feeds, depth = {}, 1
        for port, wire in segment.inputs.items():
            if wire.from_recipe:
                feeds[port] = str(wire)
            else:
                feeds[port] = f"{placed[wire.segment].key}:{wire.port}"
                depth = max(depth, placed[wire.segment].depth + 1)
        key = Digest.of_json([segment.digest, sorted(feeds.items())])
        placed[segment.name] = PlannedSegment(key, segment, feeds, depth)
    return placed


def _consume(
    places: Mapping[Digest, PlannedSegment],
    consumers: dict[Digest, set[Consumer]],
    key: Digest,
    consumer: Consumer,
) -> None:
    """Record that an output needs a place and everything upstream."""
    waiting = [key]
    while waiting:
        users = consumers.setdefault(waiting[-1], set())
        place = places[waiting.pop()]
        if consumer in users:
            continue
        users.add(consumer)
        waiting += [_producer(wire) for wire in place.feeds.values() if not wire.startswith(f"{RECIPE}:")]


def _run(group: list[PlannedSegment], places: Iterable[PlannedSegment], needed: set[str]) -> PlannedRun:
    inside = {place.key for place in group}
    takes = dict.fromkeys(
        wire
        for place in group
        for wire in place.feeds.values()
        if wire.startswith(f"{RECIPE}:") or _producer(wire) not in inside
    )
    leaving = {wire for place in places if place.key not in inside for wire in place.feeds.values()} | needed
    gives = [
        wire
        for place in group
        for port in place.segment.outputs
        if (wire := f"{place.key}:{port}") in leaving
    ]
    key = Digest.of_json([[place.key for place in group], gives])
    return PlannedRun(key, tuple(group), tuple(takes), tuple(gives), min(place.depth for place in group))


def _producer(wire: str) -> Digest:
    return Digest(wire.rpartition(":")[0])
