"""A metric's confidence interval, or the reason why the data cannot give one."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Self, TypeAlias

from registry.errors import InvalidValue

LEVEL = 0.95
"""Default confidence level: the share of intervals that cover the true value."""

Plain: TypeAlias = "float | int | str"


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its confidence interval; or an estimate whose interval is not decidable.

    Attributes:
        value: the estimate, finite.
        ends: the lower and upper end; None if the interval is not decidable.
        method: the method: ``wilson``, ``tango``, ``bca`` …
        examples: number of examples.
        groups: number of independent groups; equal to ``examples`` without groups.
        effective: effective number of independent examples, above 0 and up to ``examples``.
        reason: why the interval is not decidable; empty if it is.
        level: the confidence level.
    """

    value: float
    ends: tuple[float, float] | None
    method: str
    examples: int
    groups: int
    effective: float
    reason: str = ""
    level: float = LEVEL

    def __post_init__(self) -> None:
        if not isfinite(self.value) or not self.method or not 0 < self.level < 1:
            raise InvalidValue(
                f"an interval has a finite value, a method, and a level between 0 and 1; got {self.value}, "
                f"{self.method!r:.50}, {self.level}"
            )
        if not 1 <= self.groups <= self.examples or not 0 < self.effective <= self.examples:
            raise InvalidValue(
                f"an interval rests on 1 to {self.examples} groups and an effective number up to that, got "
                f"{self.groups} and {self.effective}"
            )
        if (self.ends is None) != bool(self.reason):
            raise InvalidValue("an interval has two ends, or a reason why it is not decidable")
        if self.ends is not None and not (
            isfinite(self.low) and isfinite(self.high) and self.low <= self.value <= self.high
        ):
            raise InvalidValue(f"an interval holds its value {self.value}, got {self.low} to {self.high}")

    @property
    def decidable(self) -> bool:
        """True if there are ends."""
        return self.ends is not None

    @property
    def low(self) -> float:
        """The lower end.

        Raises:
            InvalidValue: the interval is not decidable.
        """
        return self._ends()[0]

    @property
    def high(self) -> float:
        """The upper end.

        Raises:
            InvalidValue: the interval is not decidable.
        """
        return self._ends()[1]

    def holds(self, value: float) -> bool:
        """Tell whether the interval contains a value; always true if it is not decidable."""
        return self.ends is None or self.low <= value <= self.high

    def to_json(self) -> dict[str, Plain]:
        """Return the JSON form: ``low`` and ``high``, or ``reason``."""
        found: Mapping[str, Plain]
        found = {"reason": self.reason} if self.ends is None else {"low": self.low, "high": self.high}
        return {
            "value": self.value,
            **found,
            "level": self.level,
            "method": self.method,
            "examples": self.examples,
            "groups": self.groups,
            "effective": self.effective,
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read the JSON form.

        Raises:
            InvalidValue: the value is not an interval.
        """
        if not isinstance(value, dict):
            raise InvalidValue(f"expected an interval, got {value!r:.50}")
        given = dict(value)
        try:
            reason = _text(given.pop("reason", ""))
            ends = None if reason else (_number(given.pop("low")), _number(given.pop("high")))
            found = cls(
                value=_number(given.pop("value")),
                ends=ends,
                method=_text(given.pop("method")),
                examples=_whole(given.pop("examples")),
                groups=_whole(given.pop("groups")),
                effective=_number(given.pop("effective")),
                reason=reason,
                level=_number(given.pop("level")),
            )
        except KeyError as error:
            raise InvalidValue(
                f"expected an interval with {error}, got {', '.join(map(str, value)):.200}"
            ) from error
        if given:
            raise InvalidValue(f"an interval has no {', '.join(map(str, given)):.200}")
        return found

    def _ends(self) -> tuple[float, float]:
        if self.ends is None:
            raise InvalidValue(f"the interval is not decidable: {self.reason}")
        return self.ends


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidValue(f"expected a number, got {value!r:.50}")
    return float(value)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidValue(f"expected a whole number, got {value!r:.50}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidValue(f"expected a text, got {value!r:.50}")
    return value
