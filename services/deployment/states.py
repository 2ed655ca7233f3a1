"""The states of a target at a stage, as servers and commands report them."""

READY = "ready"
STALE = "stale"
"""An older version answers, because the wanted one was refused."""
UNAVAILABLE = "unavailable"
