"""What several rooms' tests share: data that anything can learn."""

import pytest
import torch

from adapters.datasets import Dataset
from tests.adapters.tiny import shapes


@pytest.fixture(scope="session")
def shapes_data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Three shapes, 40 pictures each, a fifth held out."""
    torch.set_num_threads(1)
    return shapes(tmp_path_factory.mktemp("shapes"), per_class=40)
