"""Blob stores: bytes stored under their digests."""

from registry.blobs.blobs import Blobs, Staged, Stored
from registry.blobs.local import LocalBlobs
from registry.settings import Settings
from registry.steps import Announce, ignore

__all__ = ["Blobs", "LocalBlobs", "Staged", "Stored", "open_blobs"]


def open_blobs(settings: Settings, announce: Announce = ignore) -> Blobs:
    """Open the blob store that the settings name."""
    return LocalBlobs(settings.blob_folder, announce, shared=settings.shared)
