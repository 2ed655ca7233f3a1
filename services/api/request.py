"""The head of a request to an operation: everything except its body."""

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from services import metrics
from services.api.admission import content_length
from services.api.codec import NPY
from services.deployment.snapshot import ANY, Selector
from services.engine import HIGH, LOW, NORMAL
from services.errors import MalformedRequest, UnsupportedMedia
from services.settings import DEFAULT_TOP_K

MAX_TARGETS = 256
"""Targets of one request."""

_SINGLE = frozenset(
    (b"content-type", b"content-length", b"x-expect-space", b"x-cultivar-priority", b"x-cultivar-timeout")
)
"""Headers of one value. Who reads the first of two and who reads the last would see different requests."""

_MAX_TOP_K_DIGITS = 9
_MAX_FIELDS = 16
_CHOICE = frozenset({"stage", "version", "source"})
_FIELDS = {metrics.CLASSIFY: _CHOICE | {"top_k"}, metrics.EMBED: _CHOICE}
_TARGETS = "targets"
_PRIORITIES = {b"high": HIGH, b"normal": NORMAL, b"low": LOW}


class RequestHead(NamedTuple):
    """The head of a request.

    Attributes:
        content_type: the header as received.
        length: the body's length by its header, or None for a chunked body.
        accepts_npy: the client accepts arrays.
        expected_space: the space of the vectors that the client expects, or None.
        selector: selects a deployed version.
        top_k: number of labels.
        priority: ``HIGH``, ``NORMAL`` or ``LOW``.
        timeout_s: seconds after which the client stops waiting; infinite where the request sets none.
    """

    content_type: str
    length: int | None
    accepts_npy: bool
    expected_space: str | None
    selector: Selector
    top_k: int
    priority: int
    timeout_s: float


def read(scope: Mapping[str, Any], operation: str, *, several: bool = False) -> RequestHead:
    """Read the head of a request.

    Args:
        scope: the connection, as ASGI describes it.
        operation: ``classify`` or ``embed``.
        several: the query names the targets.

    Raises:
        MalformedRequest: a header or the query is invalid, or a header of one value is there twice.
        UnsupportedMedia: the body is compressed.
    """
    content_type = accept = b""
    seen: set[bytes] = set()
    length: bytes | None = None
    space: str | None = None
    priority, timeout_s = NORMAL, float("inf")
    for name, value in scope["headers"]:
        if name in _SINGLE:
            if name in seen:
                raise MalformedRequest(f"expected the header {name.decode()} once, got it several times")
            seen.add(name)
        if name == b"content-type":
            content_type = value
        elif name == b"content-length":
            length = value
        elif name == b"accept":
            accept += value + b","
        elif name == b"x-expect-space":
            space = value.decode("latin-1").strip()
        elif name == b"x-cultivar-priority":
            priority = _priority(value)
        elif name == b"x-cultivar-timeout":
            timeout_s = _timeout(value)
        elif name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise UnsupportedMedia(
                f"expected an uncompressed body, got content-encoding {value[:40].decode('latin-1')!r}"
            )
    selector, top_k = ANY, DEFAULT_TOP_K
    if query := scope["query_string"]:
        fields = _fields(query, _FIELDS[operation] | {_TARGETS} if several else _FIELDS[operation], operation)
        selector = Selector.parse(fields.get("stage"), fields.get("version"), fields.get("source"))
        top_k = _top_k(fields.get("top_k"))
    return RequestHead(
        content_type.decode("latin-1"),
        content_length(length),
        NPY in accept,
        space,
        selector,
        top_k,
        priority,
        timeout_s,
    )


def targets_of(query: bytes) -> tuple[str, ...]:
    """Return the targets that a query names, in order, without duplicates.

    Raises:
        MalformedRequest: there are none, or too many.
    """
    known = _FIELDS[metrics.CLASSIFY] | {_TARGETS}
    names = _fields(query, known, metrics.CLASSIFY).get(_TARGETS, "")
    targets = tuple(dict.fromkeys(name for name in names.split(",") if name))
    if not 1 <= len(targets) <= MAX_TARGETS:
        raise MalformedRequest(
            f"targets= names 1 to {MAX_TARGETS} targets, separated by commas; got {len(targets)}"
        )
    return targets


def _fields(query: bytes, known: frozenset[str], operation: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError as error:
        raise MalformedRequest(f"the query cannot be read: {error}") from error
    fields = dict(pairs)
    if len(fields) != len(pairs) or not fields.keys() <= known:
        raise MalformedRequest(
            f"the query of {operation} takes {', '.join(sorted(known))}, each once at most"
        )
    return fields


def _top_k(text: str | None) -> int:
    if text is None:
        return DEFAULT_TOP_K
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_TOP_K_DIGITS) or int(text) < 1:
        raise MalformedRequest(f"top_k is a whole number from 1, got {text[:40]!r}")
    return int(text)


def _priority(value: bytes) -> int:
    priority = _PRIORITIES.get(value.strip().lower())
    if priority is None:
        raise MalformedRequest(f"X-Cultivar-Priority is high, normal or low, got {value[:40]!r}")
    return priority


def _timeout(value: bytes) -> float:
    text = value.strip()
    if not text.replace(b".", b"", 1).isdigit() or len(text) > 12 or not float(text):
        raise MalformedRequest(f"X-Cultivar-Timeout is a number of seconds, got {value[:40]!r}")
    return float(text)
