"""Cultivar's own protocol: pictures, texts, forms, arrays and JSON in; JSON or arrays out.

Bodies are parsed into ``Inputs``; ``classification`` and ``embedding`` write the answers.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import orjson

from registry.errors import InputTooLarge, UndecodableInput
from services.api import base64_picture, json_document, multipart, npy
from services.deployment.identity import AnswerIdentity
from services.errors import MalformedRequest, UnsupportedMedia
from services.inference.inputs import IMAGE, TEXT, Inputs
from services.inference.ranking import Ranking, results_of

JSON = b"application/json"
NPY = b"application/x-npy"


_AS_MOST_WRITE_IT = frozenset({"application/x-npy", "application/json", "image/jpeg", "image/png"})


def is_read_at_once(content_type: str) -> bool:
    """Whether a body of this type is read in constant time: a picture file or an array."""
    return content_type.startswith(("image/", "application/x-npy"))


def parse(content_type: str, body: bytes, max_rows: int) -> Inputs:
    """Read a request's body.

    Args:
        content_type: the header as received.
        body: the whole body.
        max_rows: inputs that it may hold.

    Raises:
        UnsupportedMedia: the content type is not supported.
        MalformedRequest: the body does not match the content type.
        UndecodableInput: one of its inputs cannot be decoded.
        InputTooLarge: it holds more inputs than allowed.
    """
    media = content_type
    if media not in _AS_MOST_WRITE_IT:
        media = content_type.partition(";")[0].strip().lower()
    if media.startswith("image/"):
        return Inputs(IMAGE, (body,))
    if media == "application/x-npy":
        return Inputs(IMAGE, array=_pixels(body))
    if media == "application/json":
        return _from_json(body, max_rows)
    if media == "multipart/form-data":
        return Inputs(IMAGE, multipart.files(body, multipart.boundary_of(content_type), max_rows))
    came = f"got {media[:100]!r}" if media else "got none"
    raise UnsupportedMedia(
        f"the content type is image/*, multipart/form-data, application/x-npy or application/json, {came}"
    )


def classification(identity: AnswerIdentity, rankings: Sequence[Ranking]) -> bytes:
    """Return the answer of classify: one result for each input, in order."""
    return b'%b,"results":%b}' % (identity.classified_prefix, orjson.dumps(results_of(rankings)))


def classifications(answers: Mapping[str, tuple[AnswerIdentity, Sequence[Ranking]]]) -> bytes:
    """Return the answer of classify for several targets: by target name, what each would answer alone."""
    each = [
        orjson.dumps(target) + b":" + classification(identity, rankings)
        for target, (identity, rankings) in answers.items()
    ]
    return b'{"results":{%b}}' % b",".join(each)


def embedding(identity: AnswerIdentity, features: np.ndarray) -> bytes:
    """Return the answer of embed: float32 [rows, dim] as lists."""
    rows = np.ascontiguousarray(features)
    return b'%b,"dim":%d,"embeddings":%b}' % (
        identity.json_prefix,
        rows.shape[1],
        orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY),
    )


def _pixels(body: bytes) -> np.ndarray:
    array = npy.read_uint8(body)
    if array.ndim != 4:
        raise UndecodableInput(
            f"expected uint8 [rows, height, width, channels], got {array.ndim} dimensions: {list(array.shape)}"
        )
    return array


def _from_json(body: bytes, max_rows: int) -> Inputs:
    return read_document(json_document.read(body, max_rows), max_rows)


def read_document(given: object, max_rows: int) -> Inputs:
    """Read ``{"images": [base64 or data: URL, …]}`` or ``{"texts": [text or [text, text], …]}``, as ``parse`` does."""
    if not isinstance(given, Mapping) or len(given) != 1 or not {"images", "texts"} & set(given):
        raise MalformedRequest(
            'expected {"images": [base64, …]} or {"texts": [text or [text, text], …]} and no other key'
        )
    key, items = next(iter(given.items()))
    if not isinstance(items, list) or not items:
        raise MalformedRequest(f"{key!r} is a list of one input or more")
    if len(items) > max_rows:
        raise InputTooLarge(f"a request holds at most {max_rows} inputs, got {len(items)}")
    if key == "texts":
        return Inputs(TEXT, [_text(item, index) for index, item in enumerate(items)])
    return Inputs(IMAGE, [base64_picture.read(item, index) for index, item in enumerate(items)])


def _text(item: object, index: int) -> str | tuple[str, str]:
    match item:
        case str():
            return item
        case [str(first), str(second)]:
            return first, second
        case list():
            kinds = ", ".join(type(each).__name__ for each in item[:3])
            raise UndecodableInput(
                f"a pair is a list of two texts, got a list of {len(item)}: {kinds}", index
            )
    raise UndecodableInput(f"expected a text or a pair of texts, got {type(item).__name__}", index)
