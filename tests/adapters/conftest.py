"""What several packages' tests share: data that anything can learn, and one table for all exports."""

import pytest
import torch

from adapters.datasets import Dataset, load
from tests.adapters.tiny import shapes
from tests.adapters.tiny_text import TinyTextSource, write_texts, write_words
from tests.exporter import translations_made_once

__all__ = ["translations_made_once"]


@pytest.fixture(scope="session")
def shapes_data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Three shapes, 40 pictures each, a fifth held out."""
    torch.set_num_threads(1)
    return shapes(tmp_path_factory.mktemp("shapes"), per_class=40)


@pytest.fixture(scope="session")
def moods_data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two moods, 60 texts each, a fifth held out."""
    torch.set_num_threads(1)
    return load(write_texts(tmp_path_factory.mktemp("moods") / "moods.csv", 60), TinyTextSource().recipe)


@pytest.fixture(scope="session")
def words_data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """120 texts that have any of three labels, none or all, a fifth held out."""
    torch.set_num_threads(1)
    return load(write_words(tmp_path_factory.mktemp("words") / "words.csv", 120), TinyTextSource().recipe)
