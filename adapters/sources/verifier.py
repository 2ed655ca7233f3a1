"""Verifies each source once, and again when its files, our code or its provider's libraries change."""

import hashlib
import json
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import adapters.sources
import registry.recipe
from adapters.sources.agreement import verify
from adapters.sources.reference import Reference
from adapters.sources.source import Source
from registry.digests import PREFIX, Digest, canonical_json
from registry.errors import InvalidManifest
from registry.manifest import SourceVerification
from registry.progress import SILENT, Progress

OURS = ("torch", "tokenizers", "pillow")
"""Libraries used by our side of the comparison."""

_MAX_BYTES = 1 << 16


class Verifier:
    """Holds sources against their providers' own code, and remembers what came of it.

    Only what agreed is remembered: what differed is compared again, so that a refusal can always be
    looked into.

    Args:
        folder: where results are kept; None keeps none. It may be deleted at any time.
        progress: shows the progress.
    """

    def __init__(self, folder: Path | None = None, progress: Progress = SILENT) -> None:
        self._folder = folder
        self._progress = progress

    def verify(self, source: Source) -> SourceVerification | None:
        """Return the proof that a source answers as its provider's own code does; None where it has none.

        Raises:
            SourceDiffers: it does not.
            SourceUnavailable: its weights are not on this machine.
        """
        reference = source.reference()
        if reference is None:
            return None
        key = _key(source, reference)
        found = self._read(key)
        if found is None:
            found = verify(source, reference, self._progress)
            self._write(key, found)
        return found

    def _read(self, key: Digest) -> SourceVerification | None:
        """Return a remembered result; None where there is none, or what is there is damaged."""
        if self._folder is None:
            return None
        try:
            with self._path(key).open("rb") as stream:
                value = json.loads(stream.read(_MAX_BYTES))
            if value["key"] != key or value["digest"] != Digest.of_json(value["verification"]):
                return None
            return SourceVerification.from_json(value["verification"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError, InvalidManifest):
            return None

    def _write(self, key: Digest, verification: SourceVerification) -> None:
        """Remember a result; where the folder cannot be written, the source is verified again next time."""
        if self._folder is None:
            return
        found = verification.to_json()
        entry = {"key": key, "digest": Digest.of_json(found), "verification": found}
        path = self._path(key)
        aside = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(canonical_json(entry))
            aside.replace(path)
        except OSError:
            return

    def _path(self, key: Digest) -> Path:
        assert self._folder is not None, "asked before"
        return self._folder / f"{key.removeprefix(PREFIX)}.json"


def _key(source: Source, reference: Reference) -> Digest:
    """Return the digest of all that a result depends on: the source, its files, our code, and the libraries."""
    normalisation = source.normalisation
    return Digest.of_json(
        {
            "spec": source.spec,
            "architecture": source.architecture,
            "cuts": list(source.cuts),
            "labels": list(source.labels),
            "pooling": [source.pooling, source.norm],
            "recipe": source.recipe.digest,
            "normalisation": [list(normalisation.mean), list(normalisation.std)] if normalisation else None,
            "files": [[file.name, _digest_of(file)] for file in reference.files()],
            "code": [[name, _digest_of(file)] for name, file in sorted(_code())],
            "libraries": {name: version(name) for name in OURS} | dict(reference.libraries),
        }
    )


def _code() -> Iterator[tuple[str, Path]]:
    """Yield our own files that decide what a source answers, each with its name in its package."""
    for package in (adapters.sources, registry.recipe):
        root = Path(next(iter(package.__path__)))
        for file in root.rglob("*"):
            if file.suffix in (".py", ".json"):
                yield f"{package.__name__}/{file.relative_to(root).as_posix()}", file


def _digest_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
