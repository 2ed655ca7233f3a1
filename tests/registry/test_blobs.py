"""Blobs as files of one folder."""

import stat
from pathlib import Path

import pytest

from registry.blobs import Blobs, LocalBlobs
from registry.digests import Digest
from registry.errors import StorageFailure
from registry.steps import PUBLISHED, STAGED, SYNCED, VERIFIED
from tests.contracts.blobs import DATA, DIGEST, BlobsContract
from tests.full_disk import files_of_at_most


class TestLocalBlobs(BlobsContract):
    @pytest.fixture
    def blobs(self, tmp_path: Path) -> LocalBlobs:
        return LocalBlobs(tmp_path / "deep" / "blobs")

    def overwrite(self, blobs: Blobs, digest: Digest, data: bytes) -> None:
        path = blobs.path(digest)
        path.chmod(0o644)
        path.write_bytes(data)

    def leave_staged(self, blobs: Blobs, digest: Digest, data: bytes) -> None:
        assert isinstance(blobs, LocalBlobs)
        (blobs.folder / "staging" / f"{digest.hex}.left").write_bytes(data)

    def test_blobs_are_read_only_files(self, blobs: Blobs) -> None:
        blobs.put(DIGEST, DATA)
        assert stat.S_IMODE(blobs.path(DIGEST).stat().st_mode) == 0o400

    def test_a_path_is_made_of_the_digest_alone(self, blobs: Blobs, tmp_path: Path) -> None:
        blobs.put(DIGEST, DATA)
        assert blobs.path(DIGEST).relative_to(tmp_path / "deep" / "blobs" / "sha256").parts == (
            DIGEST.hex[:2],
            DIGEST.hex[2:],
        )

    def test_files_that_are_none_of_ours_are_passed_over(self, blobs: Blobs, tmp_path: Path) -> None:
        folder = tmp_path / "deep" / "blobs"
        (folder / "sha256" / "no").mkdir()
        (folder / "sha256" / "no" / "blob").write_bytes(b"")
        (folder / "staging" / "notes.txt").write_bytes(b"")
        assert [*blobs.list(), *blobs.staged()] == []

    def test_a_full_disk_leaves_nothing_to_be_seen(self, blobs: Blobs) -> None:
        with files_of_at_most(1000), pytest.raises(StorageFailure, match="free some space"):
            blobs.put(DIGEST, DATA)
        assert blobs.size(DIGEST) is None
        assert [*blobs.list(), *blobs.staged()] == []

    def test_the_steps_of_a_put_come_in_order(self, tmp_path: Path) -> None:
        steps: list[str] = []
        seen: list[int | None] = []
        store = LocalBlobs(tmp_path / "blobs")

        def announce(step: str) -> None:
            steps.append(step)
            seen.append(store.size(DIGEST))

        LocalBlobs(tmp_path / "blobs", announce).put(DIGEST, DATA)
        assert steps == [STAGED, SYNCED, PUBLISHED, VERIFIED]
        assert seen == [None, None, len(DATA), len(DATA)]
