"""What a server is told: where it listens, whom it serves, and how much it takes on.

Every setting is read once, from ``CULTIVAR_SERVE_`` and its name in capitals; the registry's own
settings are in ``registry.settings``.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from registry.errors import InvalidName, InvalidSetting
from registry.names import PRODUCTION, check_stage, check_task

PREFIX = "CULTIVAR_SERVE_"

OVERRIDE = "override"
MOUNT = "mount"
FRONTS = (OVERRIDE, MOUNT)

_COUNTS = ("max_body_bytes", "max_pixels", "max_characters", "max_rows", "max_requests", "max_queue_rows")
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """Settings of one server.

    Attributes:
        host: IP address to listen on.
        port: TCP port, 1 to 65535.
        workers: server processes; each holds its own copy of every model.
        stages: stages that are served besides production, on request (``?stage=``).
        targets: the target tasks that are served; empty for all.
        strict_ready: not ready as long as any target is without a version that answers.
        front: ``override`` answers in front of BentoML's middleware, ``mount`` behind it.
        max_body_bytes: bytes of one request's body.
        max_pixels: width times height of one picture, refused before it is decoded.
        max_characters: characters of one text or pair, refused before it is tokenized.
        max_rows: inputs of one request.
        max_requests: requests under way at once; more are answered 503.
        max_held_bytes: bytes of bodies held at once by all requests; more are answered 503.
        max_queue_rows: rows that wait for one model; more are answered 503.
        deadline_s: seconds from a request's first byte to its answer; later is 504.
        decode_threads: threads that decode pictures and tokenize texts; 0 takes the cores of the machine's quota.
        max_batch_rows: rows that one run of a model takes.
        batches_in_flight: runs under way at once.
        model_threads: cores that one run may use; 0 shares the quota among the workers and their runs.
        poll_s: seconds between two looks at the registry.
    """

    host: str = "127.0.0.1"
    port: int = 3000
    workers: int = 1
    stages: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    strict_ready: bool = False
    front: str = OVERRIDE
    max_body_bytes: int = 32 << 20
    max_pixels: int = 64_000_000
    max_characters: int = 1_000_000
    max_rows: int = 256
    max_requests: int = 512
    max_held_bytes: int = 256 << 20
    max_queue_rows: int = 2048
    deadline_s: float = 30.0
    decode_threads: int = 0
    max_batch_rows: int = 32
    batches_in_flight: int = 2
    model_threads: int = 0
    poll_s: float = 0.1

    def __post_init__(self) -> None:
        _within("port", self.port, 1, 65_535)
        _within("workers", self.workers, 1, 256)
        for name in _COUNTS:
            _within(name, getattr(self, name), 1, 1 << 40)
        _within("max_held_bytes", self.max_held_bytes, self.max_body_bytes, 1 << 40)
        _within("deadline_s", self.deadline_s, 0.01, 3600)
        _within("decode_threads", self.decode_threads, 0, 256)
        _within("max_batch_rows", self.max_batch_rows, 1, 4096)
        _within("batches_in_flight", self.batches_in_flight, 1, 16)
        _within("model_threads", self.model_threads, 0, 1024)
        _within("poll_s", self.poll_s, 0.01, 60)
        if self.front not in FRONTS:
            raise InvalidSetting(f"front is one of {', '.join(FRONTS)}, got {self.front!r}")
        try:
            for stage in self.stages:
                check_stage(stage)
            for target in self.targets:
                check_task(target)
        except InvalidName as error:
            raise InvalidSetting(str(error)) from error

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ, **given: object) -> Self:
        """Settle each setting: the argument unless None, else the environment, else the default.

        Raises:
            InvalidSetting: one of them cannot be used.
        """
        values: dict[str, Any] = {}
        for field in fields(cls):
            if (value := given.get(field.name)) is not None:
                values[field.name] = value
            elif text := environment.get(PREFIX + field.name.upper()):
                values[field.name] = _parse(field.name, text, field.default)
        return cls(**values)

    @property
    def served_stages(self) -> tuple[str, ...]:
        """Every stage that is served, production first."""
        return (PRODUCTION, *(stage for stage in self.stages if stage != PRODUCTION))

    def to_environment(self) -> dict[str, str]:
        """Return the variables that ``read`` reads these settings from."""
        return {PREFIX + field.name.upper(): _text(getattr(self, field.name)) for field in fields(self)}


def split_names(text: str) -> tuple[str, ...]:
    """Read names that are separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _parse(name: str, text: str, default: object) -> object:
    try:
        if isinstance(default, bool):
            return _truth(text)
        if isinstance(default, int):
            return int(text)
        if isinstance(default, float):
            return float(text)
    except ValueError as error:
        kind = type(default).__name__
        raise InvalidSetting(
            f"{PREFIX}{name.upper()} is a value of type {kind}, got {text!r:.100}"
        ) from error
    return split_names(text) if isinstance(default, tuple) else text


def _truth(text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise ValueError(text)
    return text.lower() in _TRUE


def _text(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InvalidSetting(f"{name} is {low:g} to {high:g}, got {value:g}")
