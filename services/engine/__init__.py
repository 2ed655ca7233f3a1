"""The engine: takes rows and returns futures. It works on plain arrays and is independent of HTTP."""

from services.engine.engine import Engine
from services.engine.limits import QueueLimits
from services.engine.observer import Observer
from services.engine.preparation import Effort, EffortExceeded, Preparation
from services.engine.queue import HIGH, LOW, NORMAL, PRIORITIES
from services.engine.request import Answer
from services.engine.route import Arrays, GemmHead, Route, RouteStep

__all__ = [
    "HIGH",
    "LOW",
    "NORMAL",
    "PRIORITIES",
    "Answer",
    "Arrays",
    "Effort",
    "EffortExceeded",
    "Engine",
    "GemmHead",
    "Observer",
    "Preparation",
    "QueueLimits",
    "Route",
    "RouteStep",
]
