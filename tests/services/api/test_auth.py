"""Who may ask: the tokens as a server knows them, and the authenticator of both ways of serving."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest

from registry import instants
from registry.errors import StorageFailure
from registry.registry import Registry
from registry.settings import Settings
from registry.tokens import EVERYTHING, Grant
from services.api.auth import Authenticator, TokenCache, check, set_grant, visible
from services.deployment.snapshot import Snapshot, Target
from services.errors import Forbidden, TargetUnavailable, Unauthorized
from services.process.server import ROOT, free_port
from tests.contracts.http import Running, serving
from tests.contracts.http.asking import wait_for
from tests.contracts.http.running import prepare
from tests.contracts.http.tokens import TokenContract, bearer


class TestOverride(TokenContract):
    @pytest.fixture(scope="class")
    @classmethod
    def running(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
        with serving(tmp_path_factory.mktemp("override"), auth="required") as running:
            yield running


class TestMount(TokenContract):
    @pytest.fixture(scope="class")
    @classmethod
    def running(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
        with serving(tmp_path_factory.mktemp("mount"), auth="required", front="mount") as running:
            yield running


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.read(tmp_path / "home", actor="ada", environment={})


@pytest.fixture
def registry(settings: Settings) -> Iterator[Registry]:
    with Registry.open(settings) as registry:
        yield registry


@pytest.fixture
def token_cache(settings: Settings) -> Iterator[TokenCache]:
    token_cache = TokenCache(lambda: Registry.open(settings))
    yield token_cache
    token_cache.close()


def headers(text: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", f"Bearer {text}".encode())]


def test_without_a_keyring_everybody_may_ask_for_everything() -> None:
    authenticator = Authenticator(None)
    assert authenticator.settled
    assert authenticator.identify([]) == authenticator.current_grant() == EVERYTHING


def test_before_the_tokens_are_read_nobody_is_told_to_be_unknown(
    registry: Registry, token_cache: TokenCache
) -> None:
    _, text = registry.add_token("ci")
    authenticator = Authenticator(token_cache)
    with pytest.raises(TargetUnavailable):
        authenticator.identify(headers(text))
    assert not authenticator.settled
    token_cache.look()
    assert authenticator.identify(headers(text)) == EVERYTHING


def test_a_keyring_reads_the_tokens_only_when_they_changed(
    registry: Registry, token_cache: TokenCache
) -> None:
    _, first = registry.add_token("first")
    token_cache.look()
    _, second = registry.add_token("second")
    assert token_cache.find(second.encode()) is None
    token_cache.look()
    assert token_cache.find(first.encode()) is not None
    assert token_cache.find(second.encode()) is not None


def test_while_the_catalog_is_away_the_tokens_known_stay_good_until_they_expire(
    settings: Settings, registry: Registry, token_cache: TokenCache
) -> None:
    now = instants.now()
    _, text = registry.add_token("ci", expires=now + timedelta(hours=1))
    token_cache.look()
    with closing(sqlite3.connect(settings.home / "catalog.sqlite")) as connection:
        connection.execute("DROP TABLE counters")
    with pytest.raises(StorageFailure):
        token_cache.look()
    times: list[datetime] = [now]
    authenticator = Authenticator(token_cache, lambda: times[-1])
    assert authenticator.identify(headers(text)) == EVERYTHING
    times.append(now + timedelta(hours=1))
    with pytest.raises(Unauthorized, match="expired"):
        authenticator.identify(headers(text))


def test_one_that_was_not_handed_on_bears_no_token(token_cache: TokenCache) -> None:
    token_cache.look()
    authenticator = Authenticator(token_cache)
    with pytest.raises(Unauthorized):
        authenticator.current_grant()
    set_grant(EVERYTHING)
    assert authenticator.current_grant() == EVERYTHING
    set_grant(None)
    with pytest.raises(Unauthorized):
        authenticator.current_grant()


def test_several_targets_are_asked_for_all_or_nothing() -> None:
    grant = Grant.of(["a", "b"], ["classify"])
    check(grant, "classify", ["a", "b"])
    with pytest.raises(Forbidden, match="'c'"):
        check(grant, "classify", ["a", "c"])
    with pytest.raises(Forbidden, match="embed"):
        check(grant, "embed", ["a"])


def test_a_snapshot_is_seen_as_far_as_the_grant_goes() -> None:
    snapshot = Snapshot({name: Target(name) for name in "abc"})
    assert [*visible(snapshot, Grant.of(["a", "z"])).targets] == ["a"]
    assert visible(snapshot, EVERYTHING) is snapshot


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [([], 401, "requests need a token"), (["--auth", "off"], 200, "anybody who can reach 0.0.0.0")],
    ids=["auto", "off"],
)
def test_a_server_that_others_reach_requires_tokens_unless_told_otherwise(
    tmp_path: Path, settings: Settings, registry: Registry, words: list[str], status: int, said: str
) -> None:
    prepare(registry)
    port = free_port()
    line = ["serve", "--host", "0.0.0.0", "--port", str(port), "--targets", "digits", *words, "--json"]
    program = [sys.executable, "-m", "services.cli", "--home", str(settings.home), *line]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(program, stdout=subprocess.PIPE, stderr=log, cwd=ROOT) as process,
    ):
        try:
            assert process.stdout is not None
            document = json.loads(process.stdout.readline())
            url = f"{document['url']}/v1/targets"
            _, text = registry.add_token("ci")
            asked = httpx.get(url).status_code
            wait_for(lambda: httpx.get(url, headers=bearer(text)).status_code == 200)
        finally:
            process.terminate()
    assert document["targets"] == [
        {"target": "digits", "stage": "production", "ref": "letters/digits@1", "state": "ready"}
    ]
    assert asked == status
    written = (tmp_path / "log").read_text()
    assert said in written
    assert ("tokens are off" in written) == (status == 200)
    assert text not in written
