"""What the command line of the tests takes."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that runs what takes many minutes."""
    parser.addoption(
        "--whole", action="store_true", help="every technique on every family of sources, not some of them"
    )
