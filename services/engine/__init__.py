"""The engine: rows in, futures out. Plain arrays; it knows nothing of HTTP."""

from services.engine.engine import Engine, Limits, Observer
from services.engine.queue import HIGH, LOW, NORMAL, PRIORITIES
from services.engine.request import Answer
from services.engine.route import Arrays, Head, Route, Step

__all__ = [
    "HIGH",
    "LOW",
    "NORMAL",
    "PRIORITIES",
    "Answer",
    "Arrays",
    "Engine",
    "Head",
    "Limits",
    "Observer",
    "Route",
    "Step",
]
