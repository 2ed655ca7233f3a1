"""Times: aware datetimes in UTC, written as RFC 3339 with a ``Z``."""

from datetime import UTC, datetime

from registry.errors import InvalidValue
from registry.quoting import quoted


def now() -> datetime:
    """Return the current time in UTC, to the microsecond."""
    return datetime.now(UTC)


def to_text(moment: datetime) -> str:
    """Write an aware datetime as ``2026-05-03T14:00:00Z``, with a fraction if it has one."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse(text: str) -> datetime:
    """Read an RFC 3339 time; ``parse(to_text(moment)) == moment``.

    Raises:
        InvalidValue: the text is not an RFC 3339 time, or has no UTC offset.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidValue(
            f"a time is written like 2026-05-03T14:00:00Z, offset included; got {quoted(text)}"
        )
    return moment.astimezone(UTC)
