"""The benchmark of a GPU, rehearsed on the CPU provider with a tiny network."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.gpu.__main__ import NO_DEVICE, PARTS, main
from registry.runtime import usable_providers

TINY = ("--quick", "--source", "bundled:glyphs", "--heads", "2")


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hide every GPU, and forget afterwards that it was hidden."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    usable_providers.cache_clear()
    yield
    usable_providers.cache_clear()


def test_every_part_runs_on_the_cpu_provider_and_says_that_it_is_a_rehearsal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--provider", "cpu", *TINY, "--json", str(tmp_path / "seen.json")])
    printed = capsys.readouterr().out
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert seen["rehearsal"]
    assert "no figure here says anything of a GPU" in printed
    assert set(seen["parts"]) == set(PARTS)
    assert all(title in printed for title, _ in PARTS.values())
    there = seen["parts"]["there"]["bundled:glyphs"]
    assert there["off"] == {"features": 0.0, "logits": 0.0}
    assert set(there["nodes"]) == {"CPUExecutionProvider"}
    assert seen["parts"]["float16"]["bundled:glyphs"]["cosine"] > 0.999


def test_without_a_gpu_it_says_why_and_ends_with_a_status_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--quick"])
    assert ended.value.code == NO_DEVICE
    assert "no session gets a GPU here" in capsys.readouterr().err


def test_a_part_that_fails_leaves_the_others_standing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: object) -> object:
        raise RuntimeError("out of memory")

    monkeypatch.setitem(PARTS, "buckets", ("Sizes of batches", broken))
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "--provider",
                "cpu",
                *TINY,
                "--only",
                "buckets",
                "--only",
                "there",
                "--json",
                str(tmp_path / "x"),
            ]
        )
    parts = json.loads((tmp_path / "x").read_text())["parts"]
    assert ended.value.code == 1
    assert parts["buckets"] == {"failed": "out of memory"}
    assert "bundled:glyphs" in parts["there"]
    assert "Failed: out of memory" in capsys.readouterr().out
