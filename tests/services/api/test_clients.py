"""Clients that are refused while they still send: each sees the status, whichever library it is written with."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.clients import CLIENTS, HANGS, body, seen, uploads
from registry.registry import Registry
from tests.contracts.http.asking import wait_for
from tests.contracts.http.running import Running, serving

TIMES = 2


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("clients"), auth="required") as running:
        yield running


@pytest.fixture(scope="module")
def token(running: Running) -> str:
    with Registry.open(running.registry) as registry:
        _, text = registry.add_token("clients")
    url, header = f"{running.url}/v1/targets", {"Authorization": f"Bearer {text}"}
    wait_for(lambda: httpx.get(url, headers=header).status_code == 200)
    return text


@pytest.mark.parametrize("mebibytes", [2, 40])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_sees_why_it_is_refused(
    running: Running, token: str, tmp_path: Path, client: str, mebibytes: int
) -> None:
    if client.startswith("curl") and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    for status, upload in uploads(running.url, "digits", token, body(tmp_path, mebibytes)).items():
        assert [seen(client, upload) for _ in range(TIMES)] == [status] * TIMES


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_that_sends_far_too_much_is_told_or_hung_up_on(
    running: Running, token: str, tmp_path: Path, client: str
) -> None:
    if client.startswith("curl") and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    upload = uploads(running.url, "digits", token, body(tmp_path, 100))["401"]
    assert seen(client, upload) != HANGS
