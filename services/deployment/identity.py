"""The identity of the version behind an answer, and the outputs that it has."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from registry.digests import Digest
from registry.manifest import Head, Manifest
from registry.names import Ref
from services.errors import MissingOutput


@dataclass(frozen=True, slots=True)
class AnswerIdentity:
    """The identity of a version: the fields that every answer starts with.

    Attributes:
        target: target task.
        ref: the full ref ``source/target@number``.
        version: the number.
        digest: the manifest's digest.
        space_id: the space of its features, or None.
        labels_digest: digest of the ordered labels, or None without a head.
        json_prefix: the JSON object of the first five, without its closing brace.
        classified_prefix: the same with the sixth.
        headers: ``X-Cultivar-Version`` and ``X-Cultivar-Space``, as sent.
    """

    target: str
    ref: str
    version: int
    digest: Digest
    space_id: Digest | None
    labels_digest: Digest | None
    json_prefix: bytes
    classified_prefix: bytes
    headers: tuple[tuple[bytes, bytes], ...]

    @classmethod
    def of(cls, ref: Ref, number: int, manifest: Manifest) -> "AnswerIdentity":
        """Return the identity of a registered version."""
        document = {
            "target": manifest.transfer.target,
            "ref": str(ref),
            "version": number,
            "digest": manifest.digest,
            "space_id": manifest.space_id,
        }
        labels_digest = manifest.heads[0].labels_digest if manifest.heads else None
        headers = [(b"x-cultivar-version", str(ref).encode())]
        if manifest.space_id is not None:
            headers.append((b"x-cultivar-space", manifest.space_id.encode()))
        return cls(
            target=manifest.transfer.target,
            ref=str(ref),
            version=number,
            digest=manifest.digest,
            space_id=manifest.space_id,
            labels_digest=labels_digest,
            json_prefix=_open_object(document),
            classified_prefix=_open_object({**document, "labels_digest": labels_digest}),
            headers=tuple(headers),
        )

    def to_json(self) -> dict[str, object]:
        """Return the fields that ``json_prefix`` holds."""
        fields: dict[str, object] = json.loads(self.json_prefix + b"}")
        return fields


def _open_object(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()[:-1]


def head_of(manifest: Manifest) -> Head:
    """Return the head that classify uses: the one named after the target, else the first.

    Raises:
        MissingOutput: the version has no head.
    """
    if not manifest.heads:
        raise MissingOutput(f"this version of {manifest.transfer.target} has features and no head: use embed")
    target = manifest.transfer.target
    return next((head for head in manifest.heads if head.name == target), manifest.heads[0])


def require_features(manifest: Manifest) -> None:
    """Check that a version has features.

    Raises:
        MissingOutput: it has only a head.
    """
    if manifest.features is None:
        raise MissingOutput(
            f"this version of {manifest.transfer.target} has a head and no features: use classify"
        )
