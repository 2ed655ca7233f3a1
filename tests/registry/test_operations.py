"""The recipes of docs/operations.md, each tried on a registry that is in use."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from registry.errors import InvalidSetting, UnsafeCollection
from registry.locations import file_url
from registry.registry import Registry
from registry.settings import Settings
from tests.builders import publish, tiny
from tests.postgres import postgres_programs
from tests.registry import worker
from tests.registry.conftest import Clock

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


def recipe(heading: str, home: Path, backup: Path, number: int = 0) -> list[str]:
    """Return the commands of a recipe below a heading, as they stand on the page, for these folders."""
    section = re.search(rf"^## {heading}$(.*?)(^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section is not None
    text = re.findall(r"```console\n(.*?)```", section[1], re.DOTALL)[number]
    text = text.replace("\\\n", " ").replace("$CULTIVAR_HOME", str(home)).replace("/backup", str(backup))
    text = text.replace("$ python ", f"$ {sys.executable} ").replace(
        "$ cultivar ", f"$ {sys.executable} -m services.cli "
    )
    return [line.removeprefix("$ ") for line in text.splitlines()]


def test_a_backup_of_a_busy_registry_holds_all_that_its_catalog_needs(
    settings: Settings, tmp_path: Path, clock: Clock
) -> None:
    with Registry.open(settings) as registry:
        publish(registry, tiny(seed=1000))
    backup = tmp_path / "backup"
    backup.mkdir()
    copy, blobs, check = recipe("Backup", settings.home, backup)
    busy = worker.start(settings, "together", "churn 0 30", "register 600 20")
    with Registry.open(settings) as registry:
        while registry.position() < 4:
            pass
        subprocess.run(copy, shell=True, check=True)
        publish(registry, tiny(seed=2000))
    subprocess.run(blobs, shell=True, check=True)
    busy.communicate()
    subprocess.run(check, shell=True, check=True, stdout=subprocess.DEVNULL)

    restored = Settings.read(backup, environment={})
    with Registry.open(restored, clock=clock) as registry:
        seen = {version.digest for version in registry.versions(limit=1000).versions}
        assert len(seen) >= 2
        # The blobs were copied later, so they hold more than the catalog knows.
        with pytest.raises(UnsafeCollection, match="gc --adopt"):
            registry.collect()
        assert registry.adopt().adopted
        clock.ahead += timedelta(hours=2)
        assert registry.collect().removed
        assert registry.verify().ok
        assert {version.digest for version in registry.versions(limit=1000).versions} == seen
        publish(registry, tiny(seed=5000))


def test_a_restored_home_in_the_place_of_a_lost_one_goes_on(settings: Settings, tmp_path: Path) -> None:
    with Registry.open(settings) as registry:
        version = publish(registry, tiny())
    backup = tmp_path / "backup"
    backup.mkdir()
    for line in recipe("Backup", settings.home, backup):
        subprocess.run(line, shell=True, check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(settings.home)
    shutil.copytree(backup, settings.home)
    with Registry.open(settings) as registry:
        assert registry.collect(grace=timedelta(0)).removed == ()
        assert registry.verify().ok
        assert registry.resolve("digits@1").ref == version.ref
        publish(registry, tiny(seed=1))
    with Registry.open(settings) as registry:
        assert registry.collect(grace=timedelta(0)).removed == ()


def test_a_backup_of_a_postgresql_catalog_is_restored_into_an_empty_database(
    postgres: Callable[[], str], tmp_path: Path
) -> None:
    folders = f"{postgres_programs()}:{os.environ['PATH']}"
    if shutil.which("pg_dump", path=folders) is None:
        pytest.skip("PostgreSQL's clients (pg_dump) are not installed")
    blobs, backup = file_url(tmp_path / "blobs"), tmp_path / "backup"
    backup.mkdir()

    def run(line: str, catalog: str) -> None:
        environment = os.environ | {
            "CULTIVAR_CATALOG": catalog,
            "CULTIVAR_BLOBS": blobs,
            "PATH": folders,
        }
        subprocess.run(["bash", "-c", line], check=True, env=environment, stdout=subprocess.DEVNULL)

    first, second = (
        Settings.read(catalog=url, blobs=blobs, environment={}) for url in (postgres(), postgres())
    )
    with Registry.open(first) as registry:
        kept = publish(registry, tiny())
        for line in recipe("Backup", tmp_path, backup, 1):
            run(line, first.catalog)
        late = publish(registry, tiny(seed=1))
    for line in recipe("Backup", tmp_path, backup, 2):
        run(line, second.catalog)
    with Registry.open(second) as registry:
        assert [version.digest for version in registry.versions().versions] == [kept.digest]
        with pytest.raises(UnsafeCollection):
            registry.collect()
    with Registry.open(first) as registry:
        assert registry.resolve(late.ref).digest == late.digest


def test_the_folder_of_a_group_is_made_as_the_page_says(tmp_path: Path) -> None:
    assert "chmod 2770 home" in PAGE
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o2770)
    settings = Settings.read(home, environment={"CULTIVAR_SHARED": "group"})
    with Registry.open(settings) as registry:
        publish(registry, tiny())
        for path in home.rglob("*"):
            expected = 0o2770 if path.is_dir() else 0o440 if "sha256" in path.parts else 0o660
            assert path.stat().st_mode & 0o7777 == expected, path


def test_an_older_program_says_that_it_is_to_be_updated(settings: Settings) -> None:
    Registry.open(settings).close()
    from registry.catalog.engine import open_engine, writing

    engine = open_engine(settings.catalog)
    with writing(engine).begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0999'")
    engine.dispose()
    with pytest.raises(InvalidSetting, match="update this program"):
        Registry.open(settings)
