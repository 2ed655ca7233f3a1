"""Settings: argument, then environment, then default."""

from pathlib import Path

import pytest

from registry.errors import InvalidSetting
from registry.settings import Settings


def test_everything_lies_below_home_by_default(tmp_path: Path) -> None:
    settings = Settings.read(environment={"CULTIVAR_HOME": str(tmp_path), "CULTIVAR_ACTOR": "ann"})
    assert settings.catalog == f"sqlite:///{tmp_path}/catalog.sqlite"
    assert settings.blob_folder == tmp_path / "blobs"
    assert settings.cache == tmp_path / "cache"
    assert settings.features == tmp_path / "cache" / "features"
    assert settings.cache_bytes == 4 << 30
    assert settings.actor == "ann"


def test_an_argument_wins_over_the_environment(tmp_path: Path) -> None:
    environment = {"CULTIVAR_HOME": "/nowhere", "CULTIVAR_BLOBS": "file:///elsewhere"}
    settings = Settings.read(home=tmp_path, actor="bob", environment=environment)
    assert settings.home == tmp_path
    assert settings.blobs == "file:///elsewhere"
    assert settings.blob_folder == Path("/elsewhere")


def test_a_blob_folder_with_a_space_in_its_name_is_found(tmp_path: Path) -> None:
    settings = Settings.read(home=tmp_path / "my models", environment={})
    assert settings.blob_folder == tmp_path / "my models" / "blobs"


def test_the_cache_takes_what_it_is_allowed(tmp_path: Path) -> None:
    environment = {"CULTIVAR_CACHE_BYTES": "0"}
    assert Settings.read(tmp_path, environment=environment).cache_bytes == 0
    assert Settings.read(tmp_path, cache_bytes=7, environment=environment).cache_bytes == 7
    for wrong in ("4 GiB", "-1"):
        with pytest.raises(InvalidSetting, match="number of bytes"):
            Settings.read(tmp_path, environment={"CULTIVAR_CACHE_BYTES": wrong})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("catalog", "mysql://x"),
        ("blobs", "/tmp/x"),
        ("blobs", "s3://bucket/prefix"),
        ("actor", "a\nb"),
        ("actor", "x" * 201),
    ],
)
def test_settings_that_cannot_be_used_are_refused(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match="got"):
        Settings.read(home=tmp_path, environment={f"CULTIVAR_{key.upper()}": value})
