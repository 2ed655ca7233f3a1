"""A registry that goes away while it is served: what is served stays, it is told once, and it is found again."""

import logging
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import make_url

from registry.registry import Registry
from registry.settings import Settings
from services.api.auth import TokenCache
from services.deployment.sessions import Sessions
from services.deployment.watcher import DeploymentWatcher
from services.process.server import ROOT, Server, free_port
from services.settings import ServeSettings
from tests.builders import picture, publish, tiny
from tests.contracts.http import PNG, metric
from tests.hanging import HangingProxy
from tests.postgres import Postgres, running_postgres

AWAY = "the registry cannot be read"
BACK = "the registry is read again"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings.read(tmp_path / "home", actor="tests", environment={})
    with Registry.open(settings) as registry:
        registry.promote(publish(registry, tiny(seed=1)).ref, "production")
        publish(registry, tiny(seed=2))
    return settings


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


def deployment_of(settings: Settings, **options: Any) -> DeploymentWatcher:
    return DeploymentWatcher(
        lambda: Registry.open(settings, anew=False),
        stages=("production",),
        sessions=Sessions(threads=1, cores=1),
        poll_s=0.01,
        **options,
    )


def served(deployment: DeploymentWatcher) -> dict[str, int | None]:
    return {
        name: target.stages["production"].version.ref.number
        for name, target in deployment.snapshot.targets.items()
        if "production" in target.stages
    }


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def promote(settings: Settings, ref: str) -> None:
    with Registry.open(settings, anew=False) as registry:
        registry.promote(ref, "production")


def test_a_server_whose_catalog_is_deleted_goes_on_and_picks_up_when_it_is_back(
    settings: Settings, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    catalog, copy = settings.home / "catalog.sqlite", settings.home / "copy"
    with closing(sqlite3.connect(catalog)) as one, closing(sqlite3.connect(copy)) as other:
        one.backup(other)
    options = ServeSettings(port=free_port(), poll_s=0.05, auth="required")
    with Registry.open(settings) as registry:
        registry.promote("digits@2", "production")
        _, text = registry.add_token("client")
    with log.open("wb") as file, Server(options, settings, file.fileno()) as server:
        server.wait_until_ready(60)

        def asked() -> tuple[int, str]:
            headers = PNG | {"Authorization": f"Bearer {text}"}
            answer = httpx.post(f"{server.url}/v1/classify/digits", content=picture(), headers=headers)
            return answer.status_code, answer.headers.get("X-Cultivar-Version", "")

        def ready() -> tuple[int, object]:
            answer = httpx.get(f"{server.url}/readyz")
            return answer.status_code, answer.json().get("registry")

        assert asked() == (200, "letters/digits@2")
        read_at = metric(server.url, "cultivar_registry_read_timestamp_seconds")
        for path in settings.home.glob("catalog.sqlite*"):
            path.unlink()
        until(lambda: ready() == (200, "unreadable"))
        time.sleep(3)  # for it to look again, and be silent
        assert asked() == (200, "letters/digits@2")
        assert log.read_text().count(AWAY) == 2  # for what is served, and for tokens
        assert read_at <= metric(server.url, "cultivar_registry_read_timestamp_seconds") < time.time() - 2
        assert not catalog.exists()
        # An older copy, which knows neither the promotion nor the token.
        copy.rename(catalog)
        until(lambda: asked()[0] == 401)
        until(lambda: ready() == (200, None))
        assert log.read_text().count(BACK) == 2
        with Registry.open(settings) as registry:
            _, text = registry.add_token("another")
        until(lambda: asked() == (200, "letters/digits@1"))
        promote(settings, "digits@2")
        until(lambda: asked() == (200, "letters/digits@2"))
    assert "Traceback" not in log.read_text()


def test_a_lost_catalog_is_not_served_as_an_empty_one(settings: Settings) -> None:
    for path in settings.home.glob("catalog.sqlite*"):
        path.unlink()
    deployment = deployment_of(settings)
    deployment.start()
    until(lambda: deployment.snapshot.away)
    deployment.close()
    assert not deployment.snapshot.settled
    assert not (settings.home / "catalog.sqlite").exists()


def test_a_catalog_that_somebody_writes_to_for_long_is_read_all_the_same(settings: Settings) -> None:
    deployment = deployment_of(settings)
    with closing(sqlite3.connect(settings.home / "catalog.sqlite", isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        assert deployment.look()
        assert not deployment.look()
        writer.execute("ROLLBACK")
    deployment.close()
    assert served(deployment) == {"digits": 1}


def test_following_ends_though_the_catalog_is_locked(settings: Settings, tmp_path: Path) -> None:
    catalog = settings.home / "catalog.sqlite"
    with closing(sqlite3.connect(catalog, isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        deployment = deployment_of(settings)
        deployment.start()
        time.sleep(0.1)
        deployment.close()
        connection.execute("ROLLBACK")
    assert not deployment.snapshot.settled


@pytest.mark.parametrize("what", ["stages", "versions", "counters"])
def test_what_a_damaged_catalog_shows_is_not_served(settings: Settings, what: str) -> None:
    deployment = deployment_of(settings)
    deployment.look()
    damage = {
        "stages": "UPDATE stages SET version = (SELECT max(event) FROM versions)",
        "versions": "UPDATE versions SET number = 7 WHERE number = 1",
        "counters": "DELETE FROM counters WHERE name = 'stages'",
    }[what]
    with closing(sqlite3.connect(settings.home / "catalog.sqlite")) as connection, connection:
        connection.execute(damage)
        connection.execute("UPDATE counters SET value = value + 1 WHERE name = 'stages'")
    deployment.start()
    if what == "counters":
        until(lambda: deployment.snapshot.away)
    else:
        until(lambda: deployment.snapshot.targets["digits"].refused)
    deployment.close()
    assert served(deployment) == {"digits": 1}


def test_a_target_that_a_damaged_catalog_leaves_out_stays(settings: Settings) -> None:
    deployment = deployment_of(settings)
    deployment.look()
    with closing(sqlite3.connect(settings.home / "catalog.sqlite")) as connection, connection:
        connection.execute("DELETE FROM stages")
        connection.execute("UPDATE counters SET value = value + 1 WHERE name = 'stages'")
    deployment.look()
    deployment.close()
    assert served(deployment) == {"digits": 1}
    assert deployment.snapshot.targets["digits"].refused["production"].reason == "BrokenHistory"


def test_random_damage_while_it_is_served_changes_nothing_or_is_refused(settings: Settings) -> None:
    """Bytes of the file are changed under the server, as a failing disk does."""
    dice = random.Random(5)
    catalog = settings.home / "catalog.sqlite"
    with closing(sqlite3.connect(catalog)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    good = catalog.read_bytes()
    used = [place for place, byte in enumerate(good) if byte]
    for _ in range(20):
        deployment = deployment_of(settings)
        deployment.look()
        damaged = bytearray(good)
        for place in dice.sample(used, 50):
            damaged[place] ^= 1 << dice.randrange(8)
        with catalog.open("r+b") as file:
            file.write(damaged)
        deployment.start()
        time.sleep(0.05)
        deployment.close()
        assert served(deployment) == {"digits": 1}
        for path in settings.home.glob("catalog.sqlite*"):
            path.unlink()
        catalog.write_bytes(good)


def test_a_database_that_goes_away_is_told_once_and_found_again(
    postgres: Postgres, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = postgres.database()
    settings = Settings.read(tmp_path / "home", url, actor="tests", environment={})
    with Registry.open(settings) as registry:
        registry.promote(publish(registry, tiny(seed=1)).ref, "production")
        publish(registry, tiny(seed=2))
        registry.add_token("client")
    token_cache = TokenCache(lambda: Registry.open(settings, anew=False), poll_s=0.01)
    deployment = deployment_of(settings)
    with caplog.at_level(logging.WARNING):
        deployment.start()
        token_cache.start()
        until(lambda: deployment.snapshot.settled and token_cache.settled)
        postgres.stop()
        until(lambda: deployment.snapshot.away)
        time.sleep(2.5)
        assert served(deployment) == {"digits": 1}
        until(lambda: caplog.text.count(AWAY) == 2)
        postgres.start()
        until(lambda: caplog.text.count(BACK) == 2)
        assert not deployment.snapshot.away
        promote(settings, "digits@2")
        until(lambda: served(deployment) == {"digits": 2})
    deployment.close()
    token_cache.close()
    assert caplog.text.count(AWAY) == 2
    assert "Traceback" not in caplog.text


def test_a_database_that_is_away_at_first_is_waited_for(postgres: Postgres, tmp_path: Path) -> None:
    settings = Settings.read(tmp_path / "home", postgres.database(), actor="tests", environment={})
    with Registry.open(settings) as registry:
        registry.promote(publish(registry, tiny(seed=1)).ref, "production")
    postgres.stop()
    deployment = deployment_of(settings)
    deployment.start()
    until(lambda: deployment.snapshot.away)
    assert not deployment.snapshot.settled
    postgres.start()
    until(lambda: served(deployment) == {"digits": 1})
    deployment.close()


@pytest.fixture
def proxied(postgres: Postgres, tmp_path: Path) -> Iterator[tuple[Settings, HangingProxy]]:
    """A registry that is reached through a proxy, with two versions; the first is in production."""
    database = make_url(postgres.database())
    proxy = HangingProxy(Path(str(database.query["host"])) / ".s.PGSQL.5432")
    url = f"postgresql+psycopg://cultivar@127.0.0.1:{proxy.port}/{database.database}"
    settings = Settings.read(
        tmp_path / "home", f"{url}?connect_timeout=2&answer_timeout=1", actor="tests", environment={}
    )
    with Registry.open(settings) as registry:
        registry.promote(publish(registry, tiny(seed=1)).ref, "production")
        publish(registry, tiny(seed=2))
    yield settings, proxy
    proxy.close()


def test_a_server_whose_database_hangs_goes_on_and_picks_up_when_it_answers(
    proxied: tuple[Settings, HangingProxy], tmp_path: Path
) -> None:
    settings, proxy = proxied
    log = tmp_path / "log"
    with log.open("wb") as file, Server(ServeSettings(port=free_port()), settings, file.fileno()) as server:
        server.wait_until_ready(60)

        def asked() -> str:
            start = time.monotonic()
            answer = httpx.post(f"{server.url}/v1/classify/digits", content=picture(), headers=PNG)
            assert time.monotonic() - start < 1
            return answer.headers["X-Cultivar-Version"]

        def registry() -> object:
            return httpx.get(f"{server.url}/readyz").raise_for_status().json().get("registry")

        proxy.hang()
        until(lambda: asked() == "letters/digits@1" and registry() == "unreadable")
        connected = proxy.taken
        until(lambda: proxy.taken > connected + 1)  # it tries again, and is silent
        assert asked() == "letters/digits@1"
        assert log.read_text().count(AWAY) == 1
        proxy.go_on()
        until(lambda: registry() is None)
        promote(settings, "digits@2")
        until(lambda: asked() == "letters/digits@2")
        # It ends in time while the database hangs.
        proxy.hang()
        time.sleep(0.5)
        start = time.monotonic()
    assert time.monotonic() - start < 15
    assert log.read_text().count(BACK) == 1
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("arguments", [["list"], ["promote", "digits@2", "production"]])
@pytest.mark.parametrize("within", ["connecting", "statement"])
def test_a_command_on_a_database_that_hangs_ends_with_one_line(
    proxied: tuple[Settings, HangingProxy], arguments: list[str], within: str
) -> None:
    settings, proxy = proxied
    if within == "connecting":
        proxy.hang()
    else:
        proxy.hang(after=b"alembic_version")
    start = time.monotonic()
    done = cultivar(settings, *arguments)
    assert time.monotonic() - start < 20
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert ("timeout expired" if within == "connecting" else "not answered for 1 s") in done.stderr


def test_serve_starts_on_a_database_that_hangs_and_is_ready_when_it_answers(
    proxied: tuple[Settings, HangingProxy], tmp_path: Path
) -> None:
    settings, proxy = proxied
    proxy.hang()
    log = tmp_path / "log"
    with log.open("wb") as file, Server(ServeSettings(port=free_port()), settings, file.fileno()) as server:
        until(lambda: AWAY in log.read_text())
        assert httpx.get(f"{server.url}/readyz").status_code == 503
        assert httpx.get(f"{server.url}/livez").status_code == 200
        proxy.go_on()
        server.wait_until_ready(60)
    assert log.read_text().count(AWAY) == 1


def cultivar(settings: Settings, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments],
        cwd=ROOT,
        env=os.environ | settings.to_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
