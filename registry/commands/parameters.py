"""Types of command-line options: a time and a duration."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta

import click

from registry import instants
from registry.errors import InvalidValue
from registry.quoting import quoted


class Time(click.ParamType[datetime]):
    """A time in RFC 3339 format."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Parse a time such as ``2026-05-03T14:00:00Z``."""
        try:
            return value if isinstance(value, datetime) else instants.parse(str(value))
        except InvalidValue as error:
            self.fail(str(error), param, ctx)


class Duration(click.ParamType[timedelta]):
    """A duration: seconds, or a number with ``s``, ``m``, ``h`` or ``d``."""

    name = "duration"
    _UNITS: Mapping[str, str] = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Parse a duration such as ``0``, ``90s`` or ``1h``."""
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"(\d{1,6})([smhd]?)", str(value))
        if match is None:
            self.fail(
                f"expected a number of seconds, or like 15m, 1h, 7d; got {quoted(value, 50)}", param, ctx
            )
        return timedelta(**{self._UNITS[match[2] or "s"]: int(match[1])})
