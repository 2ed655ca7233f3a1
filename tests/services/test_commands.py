"""The command line: what is loaded when, and the offline commands."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from registry.registry import Registry
from registry.settings import Settings
from services.cli import COMMANDS, main
from tests.builders import picture, publish, tiny
from tests.services.pictures import BROKEN


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A registry with digits and vectors in production, and a folder of 40 pictures beside it."""
    with Registry.open(Settings.read(tmp_path / "home", actor="tests")) as registry:
        registry.promote(publish(registry, tiny("letters/digits", seed=1)).ref, "production")
        registry.promote(publish(registry, tiny("letters/vectors", labels=None)).ref, "production")
    (tmp_path / "pictures").mkdir()
    for number in range(40):
        (tmp_path / "pictures" / f"{number:02}.png").write_bytes(picture(number))
    return tmp_path


def cultivar(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(home / "home"), *arguments])


def document(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_help_and_list_load_neither_torch_nor_bentoml(home: Path) -> None:
    script = (
        "import sys\nfrom services.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'bentoml', 'torchvision', 'onnxscript'} & set(sys.modules)\nassert not heavy, heavy"
    )
    for arguments in (["--help"], ["--home", str(home / "home"), "list"]):
        subprocess.run([sys.executable, "-c", script, *arguments], check=True, capture_output=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_explains_itself(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.help
    assert {"--json", "--traceback", "--home"} <= {option for each in command.params for option in each.opts}


def test_folders_are_classified_in_order_across_batches(home: Path) -> None:
    answer = document(cultivar(home, "classify", "digits", str(home / "pictures"), "--top-k", "2", "--json"))
    assert answer["ref"] == "letters/digits@1"
    assert [Path(result["input"]).name for result in answer["results"]] == [f"{n:02}.png" for n in range(40)]
    assert {len(result["labels"]) for result in answer["results"]} == {2}
    single = document(
        cultivar(home, "classify", "digits", str(home / "pictures/37.png"), "--top-k", "2", "--json")
    )
    assert single["results"][0]["labels"][0]["label"] == answer["results"][37]["labels"][0]["label"]


def test_a_person_gets_a_table(home: Path) -> None:
    result = cultivar(home, "classify", "digits", str(home / "pictures/00.png"))
    assert result.exit_code == 0
    assert "letters/digits@1" in result.stdout


def test_vectors_are_printed_or_written_to_parquet(home: Path) -> None:
    output = home / "vectors.parquet"
    printed = document(cultivar(home, "embed", "vectors", str(home / "pictures"), "--json"))
    written = document(
        cultivar(home, "embed", "vectors", str(home / "pictures"), "-o", str(output), "--json")
    )
    table = pq.read_table(output)
    assert table["input"].to_pylist() == printed["inputs"]
    np.testing.assert_allclose(table["embedding"].to_pylist(), printed["embeddings"], rtol=1e-6)
    assert table.schema.metadata[b"cultivar.space_id"].decode() == printed["space_id"]
    assert (written["rows"], written["dim"], written["output"]) == (40, 4, str(output))
    assert "embeddings" not in written
    assert sorted(path.name for path in home.iterdir()) == ["home", "pictures", "vectors.parquet"]


def test_a_broken_file_is_named_and_nothing_is_written(home: Path) -> None:
    (home / "pictures/07.png").write_bytes(BROKEN["truncated-png"])
    output = home / "vectors.parquet"
    result = cultivar(home, "embed", "vectors", str(home / "pictures"), "-o", str(output))
    assert result.exit_code == 1
    assert "07.png" in result.stderr
    assert sorted(path.name for path in home.iterdir()) == ["home", "pictures"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["classify", "vectors", "{}/pictures/00.png"], "use embed"),
        (["classify", "digits@9", "{}/pictures/00.png"], "digits@9"),
        (["classify", "nothing", "{}/pictures/00.png"], "nothing"),
        (["classify", "digits", "{}/home/blobs"], "folder with pictures"),
    ],
)
def test_what_cannot_be_answered_ends_with_one_line(home: Path, arguments: list[str], says: str) -> None:
    result = cultivar(home, *(argument.format(home) for argument in arguments))
    assert result.exit_code == 1
    assert says in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_port_that_is_taken_ends_with_one_line(home: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = cultivar(home, "serve", "--port", str(taken.getsockname()[1]))
    assert result.exit_code == 1
    assert "choose another --host or --port" in result.stderr
