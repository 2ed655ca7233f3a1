"""The command line: what is loaded when, and the offline commands."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from registry.registry import Registry
from registry.settings import Settings
from services.cli import COMMANDS, main
from services.deployment.sessions import RunStep
from tests.builders import picture, publish, tiny, tiny_text
from tests.services.pictures import BROKEN
from tests.terminal import on_terminal


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A registry with digits, vectors and moods in production, and a folder of 40 pictures beside it."""
    with Registry.open(Settings.read(tmp_path / "home", actor="tests")) as registry:
        registry.promote(publish(registry, tiny("letters/digits", seed=1)).ref, "production")
        registry.promote(publish(registry, tiny("letters/vectors", labels=None)).ref, "production")
        registry.promote(publish(registry, tiny_text("words/moods", seed=1)).ref, "production")
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
    found = main.get_command(click.Context(main), name)
    assert found is not None
    assert found.get_short_help_str(limit=1000) == COMMANDS[name].summary
    for command in found.commands.values() if isinstance(found, click.Group) else [found]:
        assert command.help
        assert {"--json", "--traceback", "--home"} <= {
            option for each in command.params for option in each.opts
        }


def test_folders_are_classified_in_order_across_batches(home: Path) -> None:
    answer = document(cultivar(home, "classify", "digits", str(home / "pictures"), "--top-k", "2", "--json"))
    assert answer["ref"] == "letters/digits@1"
    assert [Path(result["input"]).name for result in answer["results"]] == [f"{n:02}.png" for n in range(40)]
    assert {len(result["labels"]) for result in answer["results"]} == {2}
    single = document(
        cultivar(home, "classify", "digits", str(home / "pictures/37.png"), "--top-k", "2", "--json")
    )
    assert single["results"][0]["labels"][0]["label"] == answer["results"][37]["labels"][0]["label"]


def test_a_person_gets_a_table_and_a_program_rows(home: Path) -> None:
    picture = str(home / "pictures/00.png")
    shown = on_terminal("--home", str(home / "home"), "classify", "digits", picture)
    assert "letters/digits@1" in shown
    assert "\t" not in shown
    heading, row = cultivar(home, "classify", "digits", picture).stdout.splitlines()
    assert heading == "input\tlabel\tscore\tthen"
    assert row.split("\t")[0] == picture


def test_a_program_gets_vectors_whole(home: Path) -> None:
    picture = str(home / "pictures/00.png")
    (vector,) = document(cultivar(home, "embed", "vectors", picture, "--json"))["embeddings"]
    heading, row = cultivar(home, "embed", "vectors", picture).stdout.splitlines()
    assert heading == "input\tembedding"
    assert [float(value) for value in row.split("\t")[1].split(" ")] == pytest.approx(vector, rel=1e-6)


def test_a_program_gets_a_row_for_each_target_with_the_runs_it_shares(home: Path) -> None:
    heading, *rows = cultivar(home, "targets").stdout.splitlines()
    assert heading == "target\tstage\tversion\tkind\tdigest\truns"
    digits, moods, vectors = (row.split("\t") for row in rows)
    assert digits[:4] == ["digits", "production", "letters/digits@1", "classification"]
    assert set(digits[5].split()) & set(vectors[5].split())
    assert not set(digits[5].split()) & set(moods[5].split())
    assert "sha256:" in digits[4]
    assert "more without sharing" in on_terminal("--home", str(home / "home"), "targets")


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


TEXTS = ["the day is bright", "", "night 😀 was dark", "unheard words", 'مرحبا, "quoted" day']
PAIRS = [("the day", "is bright"), ("", "night"), ("a 😀", "good day")]


def written(path: Path, rows: list[dict[str, str]]) -> Path:
    """Write a table in the form that the file's suffix says."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_texts_of_a_table_are_answered_as_those_of_lines(home: Path, suffix: str) -> None:
    (home / "texts.txt").write_text("\n".join(TEXTS) + "\n", "utf-8")
    table = written(home / f"texts{suffix}", [{"id": str(n), "text": text} for n, text in enumerate(TEXTS)])
    lines = document(cultivar(home, "classify", "moods", str(home / "texts.txt"), "--json"))
    rows = document(cultivar(home, "classify", "moods", str(table), "--json"))
    assert [result["input"] for result in lines["results"]] == TEXTS
    assert rows == lines


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_pairs_are_read_from_two_columns(home: Path, suffix: str) -> None:
    table = written(home / f"pairs{suffix}", [{"text": a, "text_pair": b} for a, b in PAIRS])
    output = home / "vectors.parquet"
    answer = document(cultivar(home, "embed", "moods", str(table), "--json"))
    document(cultivar(home, "embed", "moods", str(table), "-o", str(output), "--json"))
    assert answer["inputs"] == [list(pair) for pair in PAIRS]
    kept = pq.read_table(output)
    assert kept["input"].to_pylist() == answer["inputs"]
    np.testing.assert_allclose(kept["embedding"].to_pylist(), answer["embeddings"], rtol=1e-6)


def test_texts_come_from_standard_input_too(home: Path) -> None:
    result = CliRunner().invoke(
        main, ["--home", str(home / "home"), "classify", "moods", "-", "--json"], input="a day\r\n\nbad\n"
    )
    assert [each["input"] for each in document(result)["results"]] == ["a day", "", "bad"]


def test_a_person_gets_a_line_for_each_text(home: Path) -> None:
    (home / "texts.txt").write_text(f"[bold]bright\x1b[2J day\n{'day ' * 5000}\n", "utf-8")
    for command in ("classify", "embed"):
        shown = on_terminal("--home", str(home / "home"), command, "moods", str(home / "texts.txt"))
        assert "words/moods@1" in shown
        assert "[bold]bright" in shown
        assert "\x1b[2J" not in shown
        assert len(shown) < 3000
        heading, first, second = cultivar(home, command, "moods", str(home / "texts.txt")).stdout.splitlines()
        assert heading.startswith("input\t")
        assert first.startswith("[bold]bright\\x1b[2J day\t")
        assert second.startswith("day " * 5000 + "\t")


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.txt", b"", "found none"),
        ("a.txt", b"fine\n\xff\n", "a.txt, line 2: expected UTF-8"),
        ("a.txt", b"fine\n" + b"a" * 1_000_001, "a.txt, line 2: a text may have 1,000,000 characters"),
        ("a.csv", b"label\na\n", "a.csv: expected a column 'text', found 'label'"),
        ("a.csv", b"text\na\nb,c\n", "a.csv, line 3"),
        ("a.jsonl", b'{"text": "a"}\n{"text": 7}\n', "a.jsonl, line 2: 'text' is a text, got int 7"),
        ("a.jsonl", b'{"text": "a", "text_pair": "b"}\n{"text": "c"}\n', "a.jsonl, line 2: 'text_pair'"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', "a.jsonl, line 1: expected a text of whole Unicode"),
        ("a.parquet", b"PAR1", "expected a parquet file"),
        ("a.png", picture(), "this model takes texts"),
    ],
)
def test_a_file_of_texts_that_cannot_be_read_is_named(home: Path, name: str, data: bytes, says: str) -> None:
    (home / name).write_bytes(data)
    result = cultivar(home, "classify", "moods", str(home / name))
    assert result.exit_code == 1
    assert says in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


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
        (["classify", "digits", "-"], "takes pictures"),
        (["classify", "moods", "{}/pictures"], "takes texts"),
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


def test_what_was_embedded_before_is_found_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = home / "pictures"
    first = document(cultivar(home, "embed", "vectors", str(pictures), "--json"))
    ran: list[int] = []
    run = RunStep.run

    def counted(self: RunStep, values: Any, *, alone: bool = False, onward: bool = False) -> Any:
        ran.append(len(next(iter(values.values()))))
        return run(self, values, alone=alone, onward=onward)

    monkeypatch.setattr(RunStep, "run", counted)
    (pictures / "40.png").write_bytes(picture(40))
    again = document(cultivar(home, "embed", "vectors", str(pictures), "--json"))
    assert again["embeddings"][:40] == first["embeddings"]
    assert ran[-1] == 1 and sum(ran) < 40
