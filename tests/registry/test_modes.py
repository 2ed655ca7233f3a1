"""What a registry keeps is its owner's alone, or its group's, whatever the umask."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.blobs import LocalBlobs
from registry.cache import DiskStore
from registry.errors import InvalidSetting
from registry.registry import Registry
from registry.settings import Settings
from tests.builders import publish, tiny
from tests.contracts.blobs import DATA, DIGEST
from tests.contracts.features import KEY, PLENTY, items, rows


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(home: Path) -> dict[str, set[int]]:
    """Return the modes of folders, of blobs, and of the other files below a home, itself included."""
    found: dict[str, set[int]] = {"folders": set(), "blobs": set(), "files": set()}
    for path in [home, *home.rglob("*")]:
        blob = "sha256" in path.parts
        kind = "folders" if path.is_dir() else "blobs" if blob else "files"
        found[kind].add(stat.S_IMODE(path.stat().st_mode))
    return found


def fill(settings: Settings) -> dict[str, set[int]]:
    """Put a version in, and look while the files beside the catalog are there."""
    with Registry.open(settings) as registry:
        registry.promote(publish(registry, tiny()).ref, "production")
        assert (settings.home / "catalog.sqlite-wal").exists()
        assert (settings.home / "catalog.sqlite-shm").exists()
        return modes(settings.home)


def test_a_new_home_is_its_owners_alone(tmp_path: Path, umask: int) -> None:
    home = tmp_path / "deep" / "home"
    assert fill(Settings.read(home, environment={})) == {
        "folders": {0o700},
        "blobs": {0o400},
        "files": {0o600},
    }


def test_a_shared_home_is_its_groups_too(tmp_path: Path, umask: int) -> None:
    settings = Settings.read(tmp_path / "home", environment={"CULTIVAR_SHARED": "group"})
    assert fill(settings) == {"folders": {0o770}, "blobs": {0o440}, "files": {0o660}}
    # Whoever works in it later need not say so again.
    again = Settings.read(tmp_path / "home", environment={})
    with Registry.open(again) as registry:
        publish(registry, tiny(seed=1))
        assert modes(settings.home) == {"folders": {0o770}, "blobs": {0o440}, "files": {0o660}}


@pytest.mark.parametrize("shared", ["", "group"])
def test_existing_modes_stay_and_what_comes_new_follows_them(tmp_path: Path, shared: str) -> None:
    settings = Settings.read(tmp_path / "home", environment={"CULTIVAR_SHARED": shared})
    fill(settings)
    for path in [settings.home, *settings.home.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    with Registry.open(settings) as registry:
        publish(registry, tiny(seed=1))
        assert modes(settings.home) == {"folders": {0o755}, "blobs": {0o644, 0o444}, "files": {0o644}}


def test_a_folder_keeps_the_group_that_it_inherits(tmp_path: Path) -> None:
    tmp_path.chmod(0o2755)
    LocalBlobs(tmp_path / "blobs", shared=True).put(DIGEST, DATA)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_dir()} == {0o2770}


def test_a_folder_that_was_there_keeps_its_mode_and_the_catalog_is_private(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o755)
    fill(Settings.read(home, environment={}))
    assert stat.S_IMODE(home.stat().st_mode) == 0o755
    assert stat.S_IMODE((home / "catalog.sqlite").stat().st_mode) == 0o600
    assert stat.S_IMODE((home / "blobs").stat().st_mode) == 0o700


def test_a_registry_is_shared_with_its_group_or_not(tmp_path: Path) -> None:
    assert not Settings.read(tmp_path, environment={}).shared
    settings = Settings.read(tmp_path, environment={"CULTIVAR_SHARED": "group"})
    assert Settings.read(environment=settings.to_environment()).shared
    with pytest.raises(InvalidSetting, match="CULTIVAR_SHARED"):
        Settings.read(tmp_path, environment={"CULTIVAR_SHARED": "everybody"})


@pytest.mark.parametrize("shared", ["", "group"])
def test_the_features_kept_in_a_home_follow_it(tmp_path: Path, umask: int, shared: str) -> None:
    settings = Settings.read(tmp_path / "home", environment={"CULTIVAR_SHARED": shared})
    Registry.open(settings).close()
    store = DiskStore(settings.features, PLENTY)
    store.put(KEY, items(10), rows(10, 4))
    assert store.problem is None
    found = modes(settings.cache)
    assert found["folders"] == {0o770 if shared else 0o700}
    assert found["files"] == {0o660 if shared else 0o600}
