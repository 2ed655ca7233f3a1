"""What each process of a server imports: no more than it needs, since all of it is waited for."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from registry.recipe.image import FORMATS
from registry.settings import Settings
from services.httpd.address import resolve
from services.process.server import ROOT, Server, free_port
from services.settings import ServeSettings

HEAVY = (
    "numpy",
    "onnx",
    "onnxruntime",
    "PIL",
    "sqlalchemy",
    "tokenizers",
    "bentoml",
    "torch",
    "sklearn",
    "scipy",
)


def told(script: str, home: Path) -> list[str]:
    """Run a script in a new process and return the list that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", f"import json, sys\n{script}"],
        cwd=ROOT,
        env=os.environ | {"CULTIVAR_HOME": str(home), "BENTOML_HOME": str(home / "bentoml")},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    names: list[str] = json.loads(done.stdout)
    return names


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("services.commands.serve", set()),
        ("services.app", {"bentoml"}),
        ("services.process.worker", {"numpy", "onnx", "onnxruntime", "PIL", "sqlalchemy", "tokenizers"}),
    ],
    ids=["command", "supervisor", "worker"],
)
def test_a_process_imports_what_it_needs(module: str, allowed: set[str], tmp_path: Path) -> None:
    script = f"import {module}\nprint(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    assert set(told(script, tmp_path)) <= allowed


def test_every_accepted_format_is_there_before_the_first_picture_and_few_others(tmp_path: Path) -> None:
    script = (
        "from PIL import Image\nfrom services.inference.preprocessing import load_plugins\n"
        "load_plugins()\nprint(json.dumps(list(Image.OPEN)))"
    )
    found = told(script, tmp_path)
    assert set(FORMATS) <= set(found)
    assert len(found) < 2 * len(FORMATS)


@pytest.mark.parametrize("host", ["localhost", "::1"])
def test_a_server_is_reached_where_its_host_says(host: str, tmp_path: Path) -> None:
    settings = ServeSettings(host=host, port=free_port(resolve(host)))
    with (
        (tmp_path / "log").open("wb") as log,
        Server(settings, Settings.read(tmp_path / "home"), log.fileno()) as server,
    ):
        assert server.wait_until_ready()
        with urllib.request.urlopen(f"{server.url}/v1/targets", timeout=10) as answer:
            assert json.load(answer)["targets"] == []
