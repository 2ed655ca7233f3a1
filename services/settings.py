"""The settings of a server: address, targets, authentication and limits.

Every setting is read once, from the environment variable ``CULTIVAR_SERVE_`` and its name in capitals. The registry's
settings are in ``registry.settings``.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from registry.errors import InvalidName, InvalidSetting
from registry.names import PRODUCTION, check_stage, check_task
from registry.quoting import quoted
from services.httpd.address import is_loopback, resolve
from services.httpd.limits import ConnectionLimits, networks

PREFIX = "CULTIVAR_SERVE_"

OVERRIDE = "override"
MOUNT = "mount"
FRONTS = (OVERRIDE, MOUNT)

DEFAULT_TOP_K = 5
"""Labels of an answer if the request gives no number."""

AUTO = "auto"
REQUIRED = "required"
OFF = "off"
AUTHS = (AUTO, REQUIRED, OFF)

_MOST_LANES = 16
"""With more, each gets too few of the queued rows. On more cores a run has several, one of which prepares inputs."""
_GPU_LANES = 1
"""More make batches smaller: two were slower with 8 and 32 concurrent requests (docs/performance.md)."""

_COUNTS = (
    "max_body_bytes",
    "max_pixels",
    "max_request_pixels",
    "max_characters",
    "max_rows",
    "max_requests",
    "max_queue_rows",
)
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """Settings of one server.

    Attributes:
        host: IP address to listen on, or a name of this machine.
        port: TCP port, 1 to 65535.
        workers: server processes; each holds its own copy of every model.
        stages: stages that are served besides production, on request (``?stage=``).
        targets: the target tasks that are served; empty for all.
        auth: whether requests need a token: ``required``, ``off``, or ``auto``: off on a loopback address, where only
            this machine can send requests, and required elsewhere.
        strict_ready: not ready while any target has no version that answers.
        front: ``override`` answers before BentoML's middleware, ``mount`` behind it.
        max_body_bytes: bytes of one request's body.
        max_pixels: width times height of one picture, refused before it is decoded.
        max_request_pixels: pixels of all pictures of one request together.
        max_characters: characters of one text or pair, refused before it is tokenized.
        max_rows: inputs of one request.
        max_requests: admitted requests at once; more are answered 503.
        max_held_bytes: bytes of the bodies of all requests at once; beyond it, 503 is answered, to the largest first.
            Also bytes of answers that wait for slow clients.
        max_queue_rows: queued rows of one trunk and shape; more are answered 503.
        max_queue_tokens: rows times length of the queued texts of one trunk and shape.
        deadline_s: seconds from a request's first byte to its answer; later is 504.
        line_s: longest wait estimate, in seconds, at which a request is admitted if more than a batch waits, or a
            request was refused recently; beyond it, 503 is answered at once; 0 takes a tenth of the deadline.
        decode_threads: threads that decode pictures and tokenize texts for a GPU; 0 takes the cores of the machine's
            quota. On a CPU the threads that run batches prepare their inputs.
        max_batch_rows: rows of one batch, at most 64.
        max_batch_tokens: rows times length of one batch of texts.
        lanes: batches that run at once; 0 takes one per core, and one on a GPU.
        model_threads: cores of each run; with 0, a run beside others gets an equal share of the cores and a run that
            is alone all cores, for twice the memory.
        tensor_bytes: memory that the tensors of one worker's runs may take, weights not counted; a run that needs more
            fails. 0 takes three quarters of the memory of the machine or the cgroup, divided by the workers.
        feature_cache_bytes: memory of the feature cache; 0 disables it.
        keep_alive_s: seconds that a connection may be idle. It should be longer than a proxy's own limit, commonly 60:
            a request that is sent just as the server closes the connection gets no answer.
        max_connections: connections open at once in one worker, at most as many as its file handles allow. A new one
            replaces the one that has been idle longest, or is refused if none is idle.
        max_connections_per_address: connections from one address; 0 takes half of ``max_connections``. Trusted proxies
            have no such limit.
        head_s: seconds from the first byte of a request's head to its last.
        body_s: seconds without a byte of a body that the server waits for.
        write_s: seconds in which a client takes hardly anything of a waiting answer.
        trusted_proxies: addresses or networks whose ``X-Forwarded-For`` is trusted.
        poll_s: seconds between two polls of the registry.
        flip_s: seconds that workers wait for one another before they switch versions.
        silence_s: seconds without a heartbeat after which a worker is killed and replaced.
        drain_s: seconds between the signal to end and the end of listening, in which the server is not ready.
    """

    host: str = "127.0.0.1"
    port: int = 3000
    workers: int = 1
    stages: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    auth: str = AUTO
    strict_ready: bool = False
    front: str = OVERRIDE
    max_body_bytes: int = 32 << 20
    max_pixels: int = 64_000_000
    max_request_pixels: int = 256_000_000
    max_characters: int = 1_000_000
    max_rows: int = 256
    max_requests: int = 512
    max_held_bytes: int = 256 << 20
    max_queue_rows: int = 2048
    deadline_s: float = 30.0
    line_s: float = 0.0
    decode_threads: int = 0
    max_queue_tokens: int = 1 << 20
    max_batch_rows: int = 32
    max_batch_tokens: int = 16_384
    lanes: int = 0
    model_threads: int = 0
    tensor_bytes: int = 0
    feature_cache_bytes: int = 64 << 20
    keep_alive_s: int = 75
    max_connections: int = 4096
    max_connections_per_address: int = 0
    head_s: float = 10.0
    body_s: float = 10.0
    write_s: float = 10.0
    trusted_proxies: tuple[str, ...] = ()
    poll_s: float = 0.2
    flip_s: float = 10.0
    silence_s: float = 15.0
    drain_s: float = 0.0

    def __post_init__(self) -> None:
        _within("port", self.port, 1, 65_535)
        _within("workers", self.workers, 1, 256)
        for name in _COUNTS:
            _within(name, getattr(self, name), 1, 1 << 40)
        _within("max_held_bytes", self.max_held_bytes, self.max_body_bytes, 1 << 40)
        _within("deadline_s", self.deadline_s, 0.01, 3600)
        _within("line_s", self.line_s, 0, 3600)
        _within("decode_threads", self.decode_threads, 0, 256)
        _within("max_batch_rows", self.max_batch_rows, 1, 64)
        _within("max_batch_tokens", self.max_batch_tokens, 1, 1 << 30)
        _within("max_queue_tokens", self.max_queue_tokens, 1, 1 << 40)
        _within("lanes", self.lanes, 0, 64)
        _within("tensor_bytes", self.tensor_bytes, 0, 1 << 50)
        _within("feature_cache_bytes", self.feature_cache_bytes, 0, 1 << 40)
        _within("model_threads", self.model_threads, 0, 1024)
        _within("keep_alive_s", self.keep_alive_s, 1, 86_400)
        _within("max_connections", self.max_connections, 1, 1 << 20)
        _within("max_connections_per_address", self.max_connections_per_address, 0, self.max_connections)
        _within("head_s", self.head_s, 0.1, 3600)
        _within("body_s", self.body_s, 0.1, 3600)
        _within("write_s", self.write_s, 0.1, 3600)
        networks(self.trusted_proxies)
        _within("poll_s", self.poll_s, 0.01, 60)
        _within("flip_s", self.flip_s, 0.01, 3600)
        _within("silence_s", self.silence_s, 2, 3600)
        _within("drain_s", self.drain_s, 0, 3600)
        _among("front", self.front, FRONTS)
        _among("auth", self.auth, AUTHS)
        try:
            for stage in self.stages:
                check_stage(stage)
            for target in self.targets:
                check_task(target)
        except InvalidName as error:
            raise InvalidSetting(str(error)) from error

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ, **given: object) -> Self:
        """Read each setting: the argument unless None, else the environment, else the default.

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
    def patience_s(self) -> float:
        """Seconds within which a server that was stopped should have finished its requests and ended."""
        return self.drain_s + self.deadline_s + 5

    @property
    def served_stages(self) -> tuple[str, ...]:
        """Every stage that is served, production first."""
        return (PRODUCTION, *(stage for stage in self.stages if stage != PRODUCTION))

    @property
    def loopback(self) -> bool:
        """Whether only this machine can send requests; False for a name, see ``decided``."""
        return is_loopback(self.host)

    @property
    def limits(self) -> ConnectionLimits:
        """Limits of one worker on its connections."""
        return ConnectionLimits(
            connections=self.max_connections,
            per_address=self.max_connections_per_address or max(1, self.max_connections // 2),
            head_s=self.head_s,
            body_s=self.body_s,
            write_s=self.write_s,
            unsent_bytes=self.max_held_bytes,
            proxies=networks(self.trusted_proxies),
        )

    def parallel_batches(self, cores: int, *, gpu: bool) -> int:
        """Return how many batches may run at once in a worker, by its cores and whether it has a GPU."""
        return self.lanes or (_GPU_LANES if gpu else min(cores, _MOST_LANES))

    def decode_threads_of(self, cores: int, *, gpu: bool) -> int:
        """Return how many threads only prepare inputs: with a GPU two or more, as one takes no large inputs."""
        return (self.decode_threads or max(2, cores)) if gpu else 0

    def decided(self) -> Self:
        """Return these settings with the host's name replaced by its address, and ``auto`` by ``off`` or ``required``.

        So the server listens on the address by which ``auto`` was decided.

        Raises:
            InvalidSetting: the name has no address.
        """
        host = resolve(self.host)
        auth = (OFF if is_loopback(host) else REQUIRED) if self.auth == AUTO else self.auth
        return replace(self, host=host, auth=auth)

    def to_environment(self) -> dict[str, str]:
        """Return the variables that ``read`` reads these settings from."""
        return {PREFIX + field.name.upper(): _text(getattr(self, field.name)) for field in fields(self)}


def split_names(text: str) -> tuple[str, ...]:
    """Split names at commas."""
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
            f"{PREFIX}{name.upper()} is a value of type {kind}, got {quoted(text)}"
        ) from error
    return split_names(text) if isinstance(default, tuple) else text


def _truth(text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise ValueError(text)
    return text.lower() in _TRUE


def _text(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _among(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidSetting(f"{name} is one of {', '.join(choices)}, got {quoted(value)}")


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InvalidSetting(f"{name} is {low:g} to {high:g}, got {value:g}")
