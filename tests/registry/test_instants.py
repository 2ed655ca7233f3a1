"""Moments in time."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import instants
from registry.errors import InvalidValue


@given(st.datetimes(timezones=st.just(UTC)))
def test_what_is_written_is_read_back(moment: datetime) -> None:
    text = instants.to_text(moment)
    assert text.endswith("Z")
    assert instants.parse(text) == moment


def test_an_offset_is_carried_to_utc() -> None:
    moment = datetime(2026, 5, 3, 16, tzinfo=timezone(timedelta(hours=2)))
    assert instants.parse("2026-05-03T16:00:00+02:00") == moment
    assert instants.to_text(moment) == "2026-05-03T14:00:00Z"


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-05-03", "2026-05-03T14:00:00", "2026-13-03T14:00:00Z"]
)
def test_a_time_without_its_offset_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="a time is written like"):
        instants.parse(text)
