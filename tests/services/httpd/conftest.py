"""A server that echoes."""

from collections.abc import Iterator

import pytest

from tests.services.httpd.clients import (
    echo,
    served,
)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served(echo) as (_, number):
        yield number
