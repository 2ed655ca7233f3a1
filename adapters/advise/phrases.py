"""Formatting of numbers in advice."""

from registry.statistics.interval import Interval

UNDECIDED = "not decidable"


def percent(found: Interval) -> str:
    """Write a share and its interval: ``94.0 % (83.8–97.9)``."""
    return f"{_hundredth(found.value, '.1f')} % ({ends(found)})"


def difference(found: Interval) -> str:
    """Write a difference of shares and its interval: ``+3.0 points (-1.0 to +7.0)``."""
    return f"{_hundredth(found.value, '+.1f')} points ({_ends(found, '+.1f', ' to ')})"


def share(found: Interval) -> str:
    """Write a share that was removed and its interval: ``41 % (35 to 48)``."""
    return f"{_hundredth(found.value, '.0f')} % ({_ends(found, '.0f', ' to ')})"


def minutes(count: float) -> str:
    """Write minutes: ``0.3 minutes``, ``12 minutes``."""
    number = f"{count:.1f}" if count < 9.95 else f"{count:.0f}"
    return f"{number} minute{'' if number == '1.0' else 's'}"


def ends(found: Interval) -> str:
    """Write the ends of a share's interval: ``83.8–97.9``."""
    return _ends(found, ".1f", "–")


def _ends(found: Interval, form: str, between: str) -> str:
    if not found.decidable:
        return UNDECIDED
    return f"{_hundredth(found.low, form)}{between}{_hundredth(found.high, form)}"


def _hundredth(value: float, form: str) -> str:
    """Write a number times 100; a value that rounds to zero has no minus sign."""
    return f"{100 * value:z{form}}" if "+" not in form else f"{100 * value:+z{form[1:]}}"
