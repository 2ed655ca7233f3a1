"""The exporter's table of operators, made once for all exports of a test process: it takes a second each time."""

from collections.abc import Iterator
from functools import cache

import pytest


@pytest.fixture(scope="session", autouse=True)
def translations_made_once() -> Iterator[None]:
    """Let the exporter reuse the table, which it only reads."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    whole = ONNXRegistry.from_torchlib
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(cache(whole)))
        yield
