"""Threads give the interpreter lock up sooner while a large body is parsed, and as usual otherwise."""

import asyncio
import sys

import pytest

from services.api.parsing import MAX_PARSED_IN_LOOP_BYTES, MODERATE_BODY_BYTES, parse
from services.api.switch_interval import SHORT_S, SwitchInterval


@pytest.mark.parametrize("size", [MAX_PARSED_IN_LOOP_BYTES + 1, MODERATE_BODY_BYTES + 1])
def test_threads_switch_often_while_a_large_body_is_parsed(size: int) -> None:
    usual = sys.getswitchinterval()
    assert asyncio.run(parse(size, sys.getswitchinterval)) == pytest.approx(SHORT_S)
    assert sys.getswitchinterval() == usual


def test_small_bodies_leave_the_interval_as_it_is() -> None:
    assert asyncio.run(parse(100, sys.getswitchinterval)) == sys.getswitchinterval() > SHORT_S


def test_the_usual_interval_returns_when_the_last_large_body_is_parsed_or_refused() -> None:
    usual = sys.getswitchinterval()
    interval = SwitchInterval()
    with interval.shortened():
        with pytest.raises(ValueError, match="refused"), interval.shortened():
            raise ValueError("refused")
        assert sys.getswitchinterval() == pytest.approx(SHORT_S)
    assert sys.getswitchinterval() == usual
