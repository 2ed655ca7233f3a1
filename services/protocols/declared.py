"""Bodies of the operations that BentoML declares: one JSON document that names the target too."""

from collections.abc import Mapping

from services.errors import MalformedRequest, UnsupportedMedia
from services.protocols import document

_TAKES = {
    "classify": frozenset({"target", "images", "texts", "top_k"}),
    "embed": frozenset({"target", "images", "texts"}),
}


def check(content_type: str, body: bytes, operation: str, max_rows: int) -> None:
    """Check a body before BentoML reads it, so that what is wrong costs no more than to say so.

    Args:
        content_type: the header as it came.
        body: the whole body.
        operation: ``classify`` or ``embed``.
        max_rows: inputs that it may hold.

    Raises:
        UnsupportedMedia: it is no JSON.
        MalformedRequest: it is not what the operation takes.
        InputTooLarge: it holds more inputs than allowed.
        UndecodableInput: an input is neither a string nor a list of strings.
    """
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMedia(f"the content type is application/json, got {content_type[:100]!r}")
    found = document.read(body, max_rows)
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


def _check_inputs(found: Mapping[str, document.Value]) -> None:
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


def _is_text(item: document.Item) -> bool:
    return isinstance(item, str) or (isinstance(item, list) and all(isinstance(text, str) for text in item))
