import pytest

from benchmarks.strictness import ACCEPTED, ANOTHER, NONE, REFUSED, UNANSWERED, difference, measure, show
from tests.services.httpd.clients import echo
from tests.services.httpd.conformance import REQUESTS


def test_our_connections_refuse_all_that_uvicorns_refuse_and_more() -> None:
    ours, theirs = measure(echo)
    assert ours == {name: status for name, _, status in REQUESTS}
    differences = [difference(ours[name], theirs[name]) for name in ours]
    assert REFUSED not in differences
    assert ACCEPTED in differences
    assert show(ours, theirs).count("\n") == 2 + sum(each is not None for each in differences)


@pytest.mark.parametrize(
    ("ours", "theirs", "word"),
    [
        (400, 400, None),
        (400, 200, ACCEPTED),
        (505, 400, ANOTHER),
        (400, NONE, UNANSWERED),
        (200, 400, REFUSED),
    ],
)
def test_a_difference_has_a_name(ours: int, theirs: int, word: str | None) -> None:
    assert difference(ours, theirs) == word
