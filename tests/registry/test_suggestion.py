import pytest

from registry.suggestion import nearest, suggestion

KNOWN = ("resnet50", "resnet50c", "wide_resnet50_2", "vit_b_16", "frozen")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("resnet5o", "resnet50"), ("ResNet-50", "resnet50"), ("vit-b-16", "vit_b_16"), ("VIT B 16", "vit_b_16")],
)
def test_the_nearest_name_is_found(name: str, meant: str) -> None:
    assert nearest(name, KNOWN) == meant
    assert suggestion(name, KNOWN) == f"; did you mean {meant!r}?"


def test_a_name_in_use_elsewhere_is_understood_however_it_is_written() -> None:
    aliases = {"linear-probe": "frozen"}
    assert {nearest(name, KNOWN, aliases) for name in ("linear-probe", "Linear_Probe", "linearprobe")} == {
        "frozen"
    }


@pytest.mark.parametrize("name", ["", "bananas", "resnet50" * 10_000])
def test_nothing_is_suggested_where_nothing_is_near(name: str) -> None:
    assert nearest(name, KNOWN) is None
    assert suggestion(name, ()) == ""
