"""The named steps of a publication and of a promotion, told to whoever watches.

A test kills the process at each of them and looks at what is left.
"""

from collections.abc import Callable
from typing import TypeAlias

Announce: TypeAlias = Callable[[str], None]

LEASED = "leased"
"""The catalog knows that the digest is wanted: the garbage collector keeps away from it."""
STAGED = "staged"
"""The bytes are in a file that nobody sees."""
SYNCED = "synced"
"""They are on the disk."""
PUBLISHED = "published"
"""They are to be seen under their digest."""
VERIFIED = "verified"
"""They were read back, and have that digest."""
CONFIRMED = "confirmed"
"""The catalog knows that they are there."""
RECORDED = "recorded"
"""Version, references and event are written, in a transaction still open."""
COMMITTED = "committed"
"""They are there for everybody, and stay."""
RELEASED = "released"
"""The leases are given up."""
EVALUATED = "evaluated"
"""The gates have spoken."""

PUBLICATION = (LEASED, STAGED, SYNCED, PUBLISHED, VERIFIED, CONFIRMED, RECORDED, COMMITTED, RELEASED)
PROMOTION = (EVALUATED, RECORDED, COMMITTED)


def ignore(step: str) -> None:
    """Watch nothing."""
