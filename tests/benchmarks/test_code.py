from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks import code, transfer
from benchmarks.code import digest, place

FILES = {
    "adapters/technique.py": "STEPS = 1",
    "adapters/weights.bin": "bytes",
    "registry/names.py": "",
    "benchmarks/letters.py": "from benchmarks import cells\nfrom benchmarks.hands import hand\n",
    "benchmarks/hands.py": "hand = 1",
    "benchmarks/cells.py": "import json",
    "benchmarks/servers.py": "seconds = 1",
}


def tree(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def of(root: Path, **changed: str) -> str:
    """Return the digest of the files above, some of them changed."""
    files = FILES | {name.replace("__", "/") + ".py": text for name, text in changed.items()}
    return digest(tree(root, files) / "benchmarks/letters.py", root)


@pytest.mark.parametrize("file", [name for name in FILES if name != "benchmarks/servers.py"])
def test_whatever_makes_figures_is_in_the_digest(tmp_path: Path, file: str) -> None:
    before = digest(tree(tmp_path, FILES) / "benchmarks/letters.py", tmp_path)
    (tmp_path / file).write_text(FILES[file] + "\n# another")
    assert digest(tmp_path / "benchmarks/letters.py", tmp_path) != before


def test_what_other_benchmarks_do_and_where_the_tree_stands_is_not(tmp_path: Path) -> None:
    before = of(tmp_path / "one")
    assert of(tmp_path / "two", benchmarks__servers="seconds = 2") == before
    (tmp_path / "one/adapters/__pycache__").mkdir()
    (tmp_path / "one/adapters/__pycache__/technique.pyc").write_text("compiled")
    assert of(tmp_path / "one") == before


def test_other_code_has_another_place_and_its_own_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, folder = tree(tmp_path / "tree", FILES), tmp_path / "figures"
    program = root / "benchmarks/letters.py"
    first = place(folder, program, root)
    (first / "cells.jsonl").write_text("kept")
    assert place(folder, program, root) == first
    assert capsys.readouterr().err == ""
    (root / "adapters/technique.py").write_text("STEPS = 2")
    second = place(folder, program, root)
    assert second != first and list(second.iterdir()) == []
    assert (first / "cells.jsonl").read_text() == "kept"
    assert first.name in capsys.readouterr().err


def test_a_real_benchmark_comes_of_what_it_imports() -> None:
    found = {file.name for file in code._imported(Path(transfer.__file__), code.ROOT / "benchmarks")}
    assert {"transfer.py", "bench.py", "cells.py", "cyrillic.py", "curves.py", "whole.py"} <= found
    assert "promotions.py" not in found
