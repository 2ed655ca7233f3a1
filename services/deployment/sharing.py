"""The segments that deployed versions share, as a tree for people and programs, and the bytes that this saves."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from registry.digests import Digest
from registry.manifest import Manifest
from services.deployment.plan import Plan, PlannedRun


def sharing(versions: Iterable[tuple[str, Digest, Manifest]]) -> dict[str, Any]:
    """Return the segments that some versions share.

    Args:
        versions: the name ``TARGET@STAGE``, digest and manifest of each; one version may be in several stages.

    Returns:
        ``runs``: what is loaded and run once, in topological order, each as
        ``{id, after[], segments: [{name, role, digest, bytes}], bytes, serves[]}``; ``bytes``: the bytes of all runs;
        ``unshared_bytes``: the bytes if nothing were shared.
    """
    manifests: dict[Digest, Manifest] = {}
    names: dict[Digest, list[str]] = {}
    for name, digest, manifest in versions:
        manifests[digest] = manifest
        names.setdefault(digest, []).append(name)
    plan = Plan.of(manifests)
    made_by = {wire: run.key for run in plan.runs for wire in run.gives}
    runs = [_described(run, plan, made_by, names) for run in plan.runs]
    return {
        "runs": runs,
        "bytes": sum(run["bytes"] for run in runs),
        "unshared_bytes": sum(
            segment.bytes for manifest in manifests.values() for segment in manifest.segments
        ),
    }


def tree(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines that show a document of ``sharing`` as a tree, roots first, with branches below."""
    runs: Sequence[Mapping[str, Any]] = document["runs"]
    for run in runs:
        if not run["after"]:
            yield from _branch(run, runs, "")
    saved = document["unshared_bytes"] - document["bytes"]
    if runs:
        yield f"{_size(document['bytes'])} of segments; {_size(saved)} more without sharing"


def _described(
    run: PlannedRun, plan: Plan, made_by: Mapping[str, Digest], names: Mapping[Digest, Sequence[str]]
) -> dict[str, Any]:
    versions = dict.fromkeys(digest for digest, _ in sorted(plan.consumers[run.key]))
    return {
        "id": run.key.short,
        "after": sorted({made_by[wire].short for wire in run.takes if wire in made_by}),
        "segments": [
            {
                "name": place.segment.name,
                "role": place.segment.role,
                "digest": place.segment.digest,
                "bytes": place.segment.bytes,
            }
            for place in run.places
        ],
        "bytes": sum(place.segment.bytes for place in run.places),
        "serves": sorted(name for digest in versions for name in names[digest]),
    }


def _branch(run: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], indent: str) -> Iterator[str]:
    segments = run["segments"]
    first, last = segments[0]["name"], segments[-1]["name"]
    span = first if len(segments) == 1 else f"{first} … {last}"
    yield f"{indent}{span}  {segments[0]['digest'].removeprefix('sha256:')[:12]}  {_size(run['bytes'])}  " + (
        ", ".join(run["serves"])
    )
    for other in runs:
        # A run that several runs feed is shown under the last of them.
        if other["after"] and other["after"][-1] == run["id"]:
            yield from _branch(other, runs, f"{indent}  ")


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
