import re
from pathlib import Path

from adapters.report.drawing import PAPER
from benchmarks.plots import draw_serving

FIGURES = {"cpu_ms_per_row": 20.0, "rows_per_s": 50.0, "p50_ms": 40.0, "p99_ms": 900.0}
SERVERS = ("cultivar", "another")


def drawn(folder: Path) -> dict[str, str]:
    """Draw a run of two servers; return the files by name."""
    rounds = {
        f"{server}, {kind}, {at}": [
            {name: value * at for name, value in FIGURES.items()},
            {name: value * at * 1.1 for name, value in FIGURES.items()},
        ]
        for server in SERVERS
        for kind in ("arrays", "pictures")
        for at in (1, 8, 32)
    }
    limits = {"arrays": [60.0], "pictures": [55.0]}
    draw_serving({"rounds": rounds, "limits": limits, "resident_bytes": dict.fromkeys(SERVERS, 1)}, folder)
    return {file.stem: file.read_text() for file in folder.iterdir()}


def words(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_latencies_name_servers_quantiles_and_what_was_measured(tmp_path: Path) -> None:
    found = words(drawn(tmp_path)["serving-latency-arrays"])
    assert {*SERVERS, "p50", "p99", "1", "8", "32"} <= set(found)
    assert {"50", "1000", "20000"} <= set(found)


def test_every_kind_has_its_rate_its_limit_and_its_cpu(tmp_path: Path) -> None:
    files = drawn(tmp_path / "new")
    for kind in ("arrays", "pictures"):
        assert "without a server" in words(files[f"serving-rate-{kind}"])
        assert "672.0" in words(files[f"serving-cpu-{kind}"])


def test_drawings_take_paper_and_ink_from_a_dark_page_too(tmp_path: Path) -> None:
    for svg in drawn(tmp_path).values():
        assert PAPER not in svg
        assert "prefers-color-scheme: dark" in svg
        used = set(re.findall(r"var\((--c\d)\)", svg))
        assert used and all(f"{each}: #" in svg for each in used)
