"""Bodies of the operations that BentoML declares: one JSON document, which also names the target."""

from collections.abc import Mapping
from contextvars import ContextVar

import orjson

from services.api import codec, json_document
from services.errors import MalformedRequest, UnsupportedMedia
from services.inference.inputs import Inputs

_INPUTS = ("images", "texts")
_REQUEST_INPUTS: ContextVar[list[Inputs] | None] = ContextVar("handed_on", default=None)
"""Held in a list and popped from it: a pipelined request starts in the context of the one before it."""

_TAKES = {
    "classify": frozenset({"target", "images", "texts", "top_k"}),
    "embed": frozenset({"target", "images", "texts"}),
}


def read(content_type: str, body: bytes, operation: str, max_rows: int) -> tuple[Inputs, bytes]:
    """Read a body before BentoML does, so that a malformed one is refused cheaply.

    Args:
        content_type: the header as received.
        body: the whole body.
        operation: ``classify`` or ``embed``.
        max_rows: inputs that it may hold.

    Returns:
        the inputs, for ``put_inputs``, and a body without them, for BentoML.

    Raises:
        UnsupportedMedia: it is not JSON.
        MalformedRequest: it is not what the operation takes.
        InputTooLarge: it holds more inputs than allowed.
        UndecodableInput: an input is neither a string nor a list of strings, or a picture is not base64.
    """
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMedia(f"the content type is application/json, got {content_type[:100]!r}")
    found = json_document.read(body, max_rows)
    takes = _TAKES[operation]
    if not found.keys() <= takes:
        raise MalformedRequest(
            f"{operation} takes {', '.join(sorted(takes))}; got {', '.join(sorted(found))[:200]}"
        )
    if not isinstance(found.get("target"), str):
        raise MalformedRequest(f"{operation} takes a target: a string")
    top_k = found.get("top_k", 1)
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
        raise MalformedRequest("top_k is a whole number from 1")
    _check_inputs(found)
    given = {name: found.pop(name) for name in _INPUTS if name in found}
    inputs = codec.read_document(
        {name: items for name, items in given.items() if items is not None}, max_rows
    )
    return inputs, orjson.dumps(found)


def put_inputs(inputs: Inputs) -> None:
    """Store the inputs of this request, which ``take_inputs`` returns."""
    _REQUEST_INPUTS.set([inputs])


def take_inputs() -> Inputs | None:
    """Return the inputs of this request and remove them; None where there are none."""
    held = _REQUEST_INPUTS.get()
    return held.pop() if held else None


def _check_inputs(found: Mapping[str, json_document.Value]) -> None:
    images, texts = found.get("images"), found.get("texts")
    for name, items in (("images", images), ("texts", texts)):
        if items is not None and not isinstance(items, list):
            raise MalformedRequest(f"{name} is a list")
    if (images is None) == (texts is None):
        raise MalformedRequest("expected either images or texts")
    if isinstance(images, list) and not all(isinstance(item, str) for item in images):
        raise MalformedRequest("images is a list of pictures in base64")
    if isinstance(texts, list) and not all(map(_is_text, texts)):
        raise MalformedRequest("texts is a list of texts and of pairs of texts")


def _is_text(item: json_document.Item) -> bool:
    return isinstance(item, str) or (isinstance(item, list) and all(isinstance(text, str) for text in item))
