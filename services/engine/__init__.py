"""The engine: rows in, futures out. Plain arrays; it knows nothing of HTTP."""

from services.engine.engine import Engine
from services.engine.limits import Limits
from services.engine.observer import Observer
from services.engine.preparation import Effort, Preparation, TooMuch
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
    "Effort",
    "Engine",
    "Head",
    "Limits",
    "Observer",
    "Preparation",
    "Route",
    "Step",
    "TooMuch",
]
