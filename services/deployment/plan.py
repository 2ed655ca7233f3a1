"""What the deployed versions share: their segments as one graph, divided into runs.

A segment in its place computes the same tensor wherever its bytes and everything above it are the
same, so places are named by a digest of just that. Nobody declares what is shared: equal trunks
have equal digests. Places that serve exactly the same outputs of the same versions form a run,
and a run is merged into one session; where somebody branches off, a run ends. The vector that a
head takes is itself an output (``embed`` returns it), so heads always are runs of their own, and
a new head on a trunk that is served leaves the trunk's session as it is.

Pure: it opens nothing. (Prefix sharing as in Nexus, Shen et al., SOSP 2019, with runs found from
digests instead of retraining lineage.)
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from registry.digests import Digest
from registry.manifest import RECIPE, Manifest, Segment

Consumer = tuple[Digest, str]
"""An output of a version: the manifest's digest and the output's name."""


@dataclass(frozen=True, slots=True)
class PlannedSegment:
    """A segment in its place.

    Attributes:
        key: digest of the segment's digest and of what feeds it: equal keys compute equal tensors.
        segment: the segment.
        feeds: for each of its ports the wire that feeds it, ``recipe:FIELD`` or ``KEY:OUTPUT``.
        depth: segments on the longest way from the recipe, itself included.
    """

    key: Digest
    segment: Segment
    feeds: Mapping[str, str]
    depth: int


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """Places that are merged into one session.

    Attributes:
        key: digest of the places and of what leaves them: what a session is known by.
        places: each after those that feed it.
        takes: the wires that come from outside.
        gives: the wires that others need.
        depth: of its first place.
    """

    key: Digest
    places: tuple[PlannedSegment, ...] = field(repr=False)
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    depth: int

    @property
    def from_recipe(self) -> bool:
        """Whether it takes fields of the recipe alone: a root."""
        return all(wire.startswith(f"{RECIPE}:") for wire in self.takes)


@dataclass(frozen=True, slots=True)
class PlannedPath:
    """A version's way through the plan.

    Attributes:
        runs: those that it needs, each after those that feed it; the first is its root.
        outputs: for each output of the version the wire that carries it.
    """

    runs: tuple[PlannedRun, ...]
    outputs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """The runs of everything that is deployed; immutable.

    Attributes:
        runs: each after those that feed it.
        paths: for each version's manifest digest its way.
        consumers: for each run's key the outputs that it serves.
    """

    runs: tuple[PlannedRun, ...] = ()
    paths: Mapping[Digest, PlannedPath] = field(default_factory=dict)
    consumers: Mapping[Digest, frozenset[Consumer]] = field(default_factory=dict)

    @classmethod
    def of(cls, versions: Mapping[Digest, Manifest]) -> "Plan":
        """Return the plan of some versions, each by its manifest's digest."""
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
        # Along a wire the outputs that are served grow fewer, so this order puts a run after its feeders.
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
    """Note that an output needs a place and all that feeds it."""
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
