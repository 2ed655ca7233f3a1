"""The named steps of publications and promotions, announced to a callback.

Tests kill the process at each step and check the remaining state.
"""

from collections.abc import Callable
from typing import TypeAlias

Announce: TypeAlias = Callable[[str], None]

LEASED = "leased"
"""The digest is leased: the garbage collector does not touch it."""
STAGED = "staged"
"""The bytes are in a staging file."""
SYNCED = "synced"
"""The bytes are synced to disk."""
PUBLISHED = "published"
"""The bytes are visible under their digest."""
VERIFIED = "verified"
"""The bytes were read back and have the right digest."""
CONFIRMED = "confirmed"
"""The catalog has marked the blob as live."""
RECORDED = "recorded"
"""Version, references and event are written in an open transaction."""
COMMITTED = "committed"
"""The transaction is committed."""
RELEASED = "released"
"""The leases are released."""
EVALUATED = "evaluated"
"""The gates have been evaluated."""

PUBLICATION = (LEASED, STAGED, SYNCED, PUBLISHED, VERIFIED, CONFIRMED, RECORDED, COMMITTED, RELEASED)
PROMOTION = (EVALUATED, RECORDED, COMMITTED)


def ignore(step: str) -> None:
    """Watch nothing."""
