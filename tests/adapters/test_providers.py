import pytest

from adapters.sources import providers
from registry.errors import UnknownSource


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ("resnet50", "torchvision:resnet50"),
        ("ResNet5o", "torchvision:resnet50"),
        ("convnext_atto", "timm:convnext_atto"),
        ("torchvison:resnet50", "torchvision:resnet50"),
        ("pytorch:resnet50", "torchvision:resnet50"),
        ("huggingface:intfloat/e5-small", "hf:intfloat/e5-small"),
        ("HF:folder", "hf:folder"),
    ],
)
def test_a_spec_without_a_known_scheme_is_answered_with_the_nearest(spec: str, meant: str) -> None:
    with pytest.raises(UnknownSource, match=f"got '{spec}'; did you mean '{meant}'"):
        providers.find(spec)


def test_a_provider_that_does_not_exist_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownSource, match="did you mean 'torchvision'"):
        list(providers.offered("torchvsion"))


def test_a_long_spec_is_quoted_with_a_mark_where_it_was_cut() -> None:
    with pytest.raises(UnknownSource, match=r"aaa…'; 'cultivar sources' lists them all$"):
        providers.find("a" * 5000)
