"""What the benchmark of sources writes is refused, or verified, as it says."""

import pytest

from benchmarks.sources import REFUSED, TIMM, Result, measure, models, summary, timm_models


@pytest.mark.parametrize("kind", REFUSED)
def test_every_refused_kind_is_refused_by_name(kind: str) -> None:
    result = measure("refused", kind)
    assert result.outcome == "refused", result.message
    assert "\n" not in result.message


@pytest.mark.parametrize("format_", models("vectors"))
def test_word_vectors_of_both_formats_verify(format_: str) -> None:
    result = measure("vectors", format_)
    assert (result.outcome, result.runs) == ("verified", 16), result.message
    assert result.worst < 1


def test_timms_architectures_are_a_spread_of_all() -> None:
    assert len(set(timm_models())) == TIMM + 1
    assert len(models("torchvision")) == 80


def test_what_came_out_otherwise_is_listed() -> None:
    results = [Result("timm", "a", "verified"), Result("timm", "b", "refused", "because")]
    assert "1 of 2" in summary(results)
    assert "- timm b: refused. because" in summary(results)
