"""Whoever watches is told of every long step: by bars on a terminal, by a few lines in a log."""

import io
import time

import pytest
from rich.console import Console

from registry.progress import Bars, Lines, watching


def console(stream: io.StringIO, *, terminal: bool = False) -> Console:
    return Console(file=stream, force_terminal=terminal, width=200)


def until(stream: io.StringIO, text: str) -> str:
    """Wait until something was written."""
    while text not in stream.getvalue():
        time.sleep(0.001)
    return stream.getvalue()


def test_a_terminal_has_bars_and_anything_else_lines() -> None:
    assert isinstance(watching(console(io.StringIO(), terminal=True)), Bars)
    assert isinstance(watching(console(io.StringIO())), Lines)


def test_a_short_step_leaves_no_line() -> None:
    stream = io.StringIO()
    with Lines(console(stream)).step("reading", 3) as step:
        for _ in range(3):
            step.advance()
    assert stream.getvalue() == ""


def test_a_long_step_is_told_of_while_it_lasts_and_when_it_ends() -> None:
    stream = io.StringIO()
    with Lines(console(stream), first=0.001, every=1000, clock=lambda: 7).step("reading", 2000) as step:
        until(stream, "reading: 0 of 2,000, 0 s\n")
        step.advance(1999, "almost")
        step.advance(1, "done")
    assert stream.getvalue() == "reading: 0 of 2,000, 0 s\nreading: 2,000 of 2,000, 0 s, done\n"


def test_a_step_that_nobody_can_measure_is_told_of_too() -> None:
    stream = io.StringIO()
    with Lines(console(stream), first=0.001, every=0.001, clock=lambda: 7).step("exporting"):
        until(stream, "exporting: 0 s\nexporting: 0 s\n")


def test_of_steps_within_each_other_the_innermost_is_told_of() -> None:
    stream = io.StringIO()
    lines = Lines(console(stream), first=0.001, every=0.001)
    with lines.step("outer"):
        until(stream, "outer")
        with lines.step("inner"):
            until(stream, "inner")
            before = stream.getvalue().count("outer")
            until(stream, "inner: 0 s\n" * 5)
            assert stream.getvalue().count("outer") == before


def test_a_step_that_fails_ends() -> None:
    stream = io.StringIO()
    lines = Lines(console(stream), first=0.001, every=0.001)
    with pytest.raises(KeyboardInterrupt), lines.step("reading"):
        until(stream, "reading")
        raise KeyboardInterrupt
    told = stream.getvalue()
    time.sleep(0.02)
    assert stream.getvalue() == told


def test_bars_within_each_other_are_drawn() -> None:
    stream = io.StringIO()
    bars = Bars(console(stream, terminal=True))
    with bars.step("outer [1]"), bars.step("inner", 2) as step:
        step.advance(2)
    assert "inner" in stream.getvalue() and "2/2" in stream.getvalue()
