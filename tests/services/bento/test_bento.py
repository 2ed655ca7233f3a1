"""The Bento: built from this checkout without a network, served from elsewhere."""

import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml  # type: ignore[import-untyped]  # it has no types

from registry.registry import Registry
from registry.settings import Settings
from services.process.server import ROOT, free_port
from tests.builders import picture, publish, tiny
from tests.contracts.http import PNG, worker_pids

PRIVATE = {"BENTOML_DO_NOT_TRACK": "True"}
BLACK_HOLE = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Build the Bento in a BentoML home of its own; whatever asks the network is refused."""
    home = tmp_path_factory.mktemp("bentoml")
    subprocess.run(
        [sys.executable, "-m", "bentoml", "build", "--output", "tag"],
        cwd=ROOT,
        env=os.environ | BLACK_HOLE | PRIVATE | {"BENTOML_HOME": str(home)},
        check=True,
        capture_output=True,
    )
    yield home


def test_the_bento_carries_what_serving_needs_and_nothing_else(home: Path) -> None:
    (bento,) = (home / "bentos/cultivar").glob("*/bento.yaml")
    source = bento.parent / "src"
    assert {path.name for path in source.iterdir()} == {"bentofile.yaml", "registry", "services"}
    assert not list(source.rglob("*.onnx"))
    assert not list(source.rglob("__pycache__"))
    assert yaml.safe_load(bento.read_text())["models"] == []


def test_the_bentos_packages_are_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bentofile = yaml.safe_load((ROOT / "bentofile.yaml").read_text())
    assert bentofile["python"]["packages"] == [
        *project["dependencies"],
        *project["optional-dependencies"]["serve"],
        *project["optional-dependencies"]["postgres"],
    ]


def test_the_bento_serves_from_another_folder(home: Path, tmp_path: Path) -> None:
    settings = Settings.read(tmp_path / "home", actor="tests")
    with Registry.open(settings) as registry:
        version = publish(registry, tiny())
        registry.promote(version.ref, "production")
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "bentoml",
                "serve",
                "cultivar:latest",
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
            ],
            cwd=tmp_path,
            env=os.environ
            | PRIVATE
            | {"BENTOML_HOME": str(home), "CULTIVAR_HOME": str(settings.home)}
            | {"CULTIVAR_SERVE_AUTH": "off"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            answer = _first_answer(process, f"http://127.0.0.1:{port}/v1/classify/digits")
            folders = {Path(f"/proc/{pid}/cwd").resolve() for pid in worker_pids(process.pid)}
        finally:
            process.terminate()
            process.wait(30)
    assert answer.json()["ref"] == str(version.ref)
    assert [folder.is_relative_to(home / "bentos/cultivar") for folder in folders] == [True]


def _first_answer(process: "subprocess.Popen[bytes]", url: str) -> httpx.Response:
    end = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < end:
        try:
            answer = httpx.post(url, content=picture(), headers=PNG)
        except httpx.TransportError:
            time.sleep(0.1)
            continue
        if answer.status_code == 200:
            return answer
        time.sleep(0.1)
    raise AssertionError("the Bento did not answer")
