"""What the command line of the tests takes, and in which order they run."""

from collections.abc import Sequence

import pytest
from hypothesis.internal.entropy import deterministic_PRNG

LONG = (
    "tests/test_readme.py",
    "tests/adapters/test_few_shot.py",
    "tests/adapters/test_families.py",
    "tests/adapters/test_export.py",
    "tests/adapters/test_adaptation.py",
    "tests/services/process/",
    "tests/services/api/",
    "tests/adapters/",
    "tests/services/",
    "tests/benchmarks/",
    "tests/cases/",
)
"""Modules that take longest come first, so that no process works alone at the end; those of many short tests last."""


with deterministic_PRNG():
    # Hypothesis looks for who refers to its random numbers at their first use, and warns where it finds nobody: it does
    # not see what a server that ran in this process has exempted from garbage collection.
    pass


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that runs what takes many minutes."""
    parser.addoption(
        "--whole", action="store_true", help="every technique on every family of sources, not some of them"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long modules first; the order of the tests of a module stays."""
    items.sort(key=lambda item: _place(item.nodeid, LONG))


def _place(name: str, prefixes: Sequence[str]) -> int:
    return next((place for place, prefix in enumerate(prefixes) if name.startswith(prefix)), len(prefixes))
