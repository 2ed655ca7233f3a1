"""The states of a target at a stage, as servers and commands tell them."""

READY = "ready"
STALE = "stale"
"""An older version answers than the one that should."""
UNAVAILABLE = "unavailable"
