"""The doctor's checks, each from a registry that is as it says."""

import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry.blobs import LocalBlobs
from registry.commands.doctor import doctor
from registry.digests import Digest
from registry.examination import FAILURE, OK, WARNING, examine
from registry.registry import Registry
from registry.settings import Settings
from tests.builders import publish, tiny


def outcomes(settings: Settings) -> dict[str, str]:
    """Return the worst outcome of each check."""
    found: dict[str, str] = {}
    for check in examine(settings):
        assert "\n" not in check.message
        order = (OK, WARNING, FAILURE)
        found[check.name] = max(found.get(check.name, OK), check.outcome, key=order.index)
    return found


def told(settings: Settings, name: str) -> str:
    return " ".join(check.message for check in examine(settings) if check.name == name)


@pytest.fixture
def filled(settings: Settings) -> Settings:
    with Registry.open(settings) as registry:
        publish(registry, tiny())
    return settings


def test_all_is_well(filled: Settings) -> None:
    assert outcomes(filled) == {
        "catalog": OK,
        "catalog-writable": OK,
        "blobs-writable": OK,
        "ownership": OK,
        "blobs": OK,
        "modes": OK,
        "space": OK,
    }


def test_a_home_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    settings = Settings.read(tmp_path / "home", environment={})
    assert outcomes(settings) == {"catalog": WARNING}
    assert not (tmp_path / "home").exists()


def test_a_lost_catalog_is_not_made_anew(filled: Settings) -> None:
    (filled.home / "catalog.sqlite").unlink()
    assert outcomes(filled)["catalog"] == WARNING
    assert not (filled.home / "catalog.sqlite").exists()


def test_a_catalog_that_cannot_be_read_is_a_failure(filled: Settings) -> None:
    (filled.home / "catalog.sqlite").write_bytes(b"not a database" * 1000)
    assert outcomes(filled)["catalog"] == FAILURE
    assert "not a database" in told(filled, "catalog")


def test_a_database_that_does_not_answer_is_a_failure(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://cultivar:secret@/none?host={tmp_path}"
    settings = Settings.read(tmp_path / "home", url, environment={})
    assert outcomes(settings)["catalog"] == FAILURE
    assert "secret" not in told(settings, "catalog")


def test_missing_blobs_are_a_failure(filled: Settings) -> None:
    assert filled.blob_folder is not None
    next((filled.blob_folder / "sha256").glob("*/*")).unlink()
    assert outcomes(filled)["blobs"] == FAILURE
    shutil.rmtree(filled.blob_folder)
    assert outcomes(filled)["blobs"] == FAILURE
    assert not filled.blob_folder.exists()


def test_unknown_blobs_are_a_warning(filled: Settings) -> None:
    assert filled.blob_folder is not None
    LocalBlobs(filled.blob_folder).put(Digest.of(b"x"), b"x")
    assert outcomes(filled)["ownership"] == WARNING
    assert "gc --adopt" in told(filled, "ownership")


def test_an_older_catalog_is_a_warning(filled: Settings, tmp_path: Path) -> None:
    shutil.copy(filled.home / "catalog.sqlite", tmp_path / "older")
    with Registry.open(filled) as registry:
        publish(registry, tiny(seed=1))
    shutil.copy(tmp_path / "older", filled.home / "catalog.sqlite")
    assert "as new as its blobs" in told(filled, "ownership")


def test_another_registry_beside_the_same_blobs_is_a_warning(filled: Settings, tmp_path: Path) -> None:
    with Registry.open(Settings.read(tmp_path / "other", blobs=filled.blobs, environment={})) as registry:
        publish(registry, tiny(seed=1))
    assert "registry alone" in told(filled, "ownership")


@pytest.mark.parametrize("what", [".", "catalog.sqlite", "blobs"])
def test_what_others_may_read_is_a_warning(filled: Settings, what: str) -> None:
    path = filled.home / what
    path.chmod(0o755 if path.is_dir() else 0o640)
    assert outcomes(filled)["modes"] == WARNING
    assert str(path) in told(filled, "modes")


def test_what_a_group_may_read_is_as_it_should_be_where_it_is_shared(tmp_path: Path) -> None:
    settings = Settings.read(tmp_path / "home", environment={"CULTIVAR_SHARED": "group"})
    Registry.open(settings).close()
    assert outcomes(settings)["modes"] == OK
    settings.home.chmod(0o775)
    assert outcomes(settings)["modes"] == WARNING


def test_a_full_disk_is_a_warning(filled: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil._ntuple_diskusage(10 << 30, 9 << 30, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert outcomes(filled)["space"] == WARNING


def test_the_command_ends_with_1_where_something_is_wrong(filled: Settings) -> None:
    assert filled.blob_folder is not None
    options = ["--home", os.fspath(filled.home), "--json"]
    filled.home.chmod(0o755)
    done = CliRunner().invoke(doctor, options)
    document = json.loads(done.stdout)
    assert (done.exit_code, document["ok"]) == (0, True)
    assert {"name", "outcome", "message"} == set(document["checks"][0])
    shutil.rmtree(filled.blob_folder)
    done = CliRunner().invoke(doctor, options)
    assert (done.exit_code, json.loads(done.stdout)["ok"]) == (1, False)
    assert "failure  blobs" in CliRunner().invoke(doctor, options[:-1]).stdout
