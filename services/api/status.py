"""The status of a server: the targets that it serves, and whether it is ready."""

from services.deployment.loading import LoadedVersion
from services.deployment.sharing import sharing
from services.deployment.snapshot import Refusal, Snapshot, Target


def targets(snapshot: Snapshot) -> dict[str, object]:
    """Return the answer to ``GET /v1/targets``: an entry for each target and stage, and the segments they share."""
    entries = [
        _entry(target, stage)
        for _, target in sorted(snapshot.targets.items())
        for stage in sorted({*target.stages, *target.refused})
    ]
    shared = sharing(
        (f"{target.name}@{stage}", loaded.version.digest, loaded.manifest)
        for _, target in sorted(snapshot.targets.items())
        for stage, loaded in sorted(target.stages.items())
    )
    return {"targets": entries, "sharing": shared}


def readiness(snapshot: Snapshot, *, strict: bool, leaving: bool = False) -> tuple[bool, dict[str, object]]:
    """Return whether the server should get requests, and the answer to ``GET /readyz``.

    Args:
        snapshot: what is served.
        strict: a target without any version that answers makes the server unready.
        leaving: the process is about to end.
    """
    degraded = snapshot.degraded()
    ready = snapshot.settled and not snapshot.behind and not leaving and not (strict and degraded)
    refused = [
        {"target": name, "stage": stage, **_refusal(refusal)}
        for name, target in sorted(snapshot.targets.items())
        for stage, refusal in sorted(target.refused.items())
    ]
    document: dict[str, object] = {"ready": ready, "degraded": degraded, "refused": refused}
    if snapshot.away:
        document["registry"] = "unreadable"
    return ready, document | ({"leaving": True} if leaving else {})


def _entry(target: Target, stage: str) -> dict[str, object]:
    loaded, refusal = target.stages.get(stage), target.refused.get(stage)
    entry: dict[str, object] = {"target": target.name, "stage": stage, "state": target.state(stage)}
    if loaded is not None:
        entry |= _version(loaded)
    elif refusal is not None:
        version = refusal.version
        entry |= {
            "ref": str(version.ref),
            "version": version.number,
            "digest": version.digest,
            "kind": version.kind,
            "modality": None,
            "labels": None,
            "labels_digest": None,
            "space_id": version.space_id,
            "providers": [],
            "segments": [],
        }
    if refusal is not None:
        entry["refused"] = _refusal(refusal)
    return entry


def _version(loaded: LoadedVersion) -> dict[str, object]:
    manifest, head = loaded.manifest, loaded.head
    return {
        "ref": loaded.identity.ref,
        "version": loaded.identity.version,
        "digest": loaded.identity.digest,
        "kind": manifest.kind,
        "modality": manifest.modality,
        "labels": None if head is None else list(head.labels),
        "labels_digest": loaded.identity.labels_digest,
        "space_id": loaded.identity.space_id,
        "providers": list(loaded.providers),
        "segments": [
            {"name": segment.name, "role": segment.role, "digest": segment.digest}
            for segment in manifest.segments
        ],
    }


def _refusal(refusal: Refusal) -> dict[str, object]:
    return {"ref": str(refusal.version.ref), "reason": refusal.reason}
