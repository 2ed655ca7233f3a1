"""Blob stores: bytes kept under their digests."""

from registry.blobs.blobs import Blobs, Staged, Stored
from registry.blobs.local import LocalBlobs
from registry.errors import InvalidSetting
from registry.settings import Settings
from registry.steps import Announce, ignore

__all__ = ["Blobs", "LocalBlobs", "Staged", "Stored", "open_blobs"]


def open_blobs(settings: Settings, announce: Announce = ignore) -> Blobs:
    """Open the store that the settings name.

    Raises:
        InvalidSetting: there is no store of that kind.
    """
    folder = settings.blob_folder
    if folder is None:
        raise InvalidSetting(f"blobs can be kept at file:///…, got {settings.blobs!r}; set CULTIVAR_BLOBS")
    return LocalBlobs(folder, announce)
