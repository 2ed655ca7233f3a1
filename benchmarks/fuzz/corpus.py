"""Well-formed requests: every route, every encoding of inputs, every format of pictures."""

import base64
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from benchmarks.connection import HOST
from benchmarks.fuzz.request import ARRAY, BOUNDARY, FORM, JSON, PICTURE, Request
from services.api import npy

FORMATS: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("L", "PNG", {}),
    ("RGB", "PNG", {}),
    ("RGBA", "PNG", {}),
    ("P", "PNG", {}),
    ("1", "PNG", {}),
    ("I;16", "PNG", {}),
    ("RGB", "JPEG", {"quality": 80}),
    ("L", "JPEG", {"quality": 80}),
    ("CMYK", "JPEG", {"quality": 80}),
    ("RGB", "JPEG", {"progressive": True}),
    ("P", "GIF", {}),
    ("RGB", "WEBP", {}),
    ("RGBA", "WEBP", {"lossless": True}),
    ("RGB", "BMP", {}),
    ("RGB", "TIFF", {}),
    ("RGB", "TIFF", {"compression": "tiff_lzw"}),
)
"""Mode, format and options of the pictures."""

_TEXTS = ("the parcel never came", "", "ein Päckchen 📦", "\u05e9\u05dc\u05d5\u05dd", "a\x00b", "word " * 200)


@dataclass(frozen=True, slots=True)
class Served:
    """What the server under test answers for.

    Attributes:
        pictures: a target of pictures.
        shape: of one of its arrays: height, width, channels.
        texts: a target of texts.
        token: good for both; None where none is asked for.
    """

    pictures: str
    shape: tuple[int, int, int]
    texts: str
    token: str | None = None


def pictures(side: int) -> list[bytes]:
    """Return a picture file of each format; seeded, so always the same bytes."""
    return [_picture(number, side, *each) for number, each in enumerate(FORMATS)]


def corpus(served: Served) -> list[Request]:
    """Return the requests, each with everything that it needs to be understood."""
    headers = [(b"Host", HOST.encode())]
    if served.token is not None:
        headers.append((b"Authorization", b"Bearer " + served.token.encode()))
    return [request.with_headers(*headers) for request in _requests(served)]


def form(files: Sequence[bytes], boundary: bytes = BOUNDARY) -> bytes:
    """Return a multipart body with a part for each file."""
    head = b'Content-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png'
    parts = [b"--%b\r\n%b\r\n\r\n%b\r\n" % (boundary, head, file) for file in files]
    return b"".join((*parts, b"--%b--\r\n" % boundary))


def _requests(served: Served) -> Iterator[Request]:
    files = pictures(served.shape[0])
    rows = np.random.default_rng(0).integers(0, 256, (3, *served.shape), np.uint8)
    operations = [(b"classify", b"top_k=3"), (b"embed", b"")]
    for operation, query in operations:
        path = b"/v1/%b/%b" % (operation, served.pictures.encode())
        for file in files:
            yield _post(path, query, b"image/png", file, PICTURE)
        media = b"multipart/form-data; boundary=" + BOUNDARY
        yield _post(path, b"", media, form(files[:2]), FORM)
        yield _post(path, b"", media, form(files), FORM)
        yield _post(path, b"", b"application/x-npy", npy.write(rows[:1]), ARRAY)
        yield _post(path, query, b"application/x-npy", npy.write(rows), ARRAY)
        yield _post(path, query, b"application/json", _json(images=_base64(files[:3])), JSON)
        yield _post(path, b"", b"application/json", _json(images=_base64(files)), JSON)
        path = b"/v1/%b/%b" % (operation, served.texts.encode())
        yield _post(path, query, b"application/json", _json(texts=["one text"]), JSON)
        yield _post(path, b"", b"application/json; charset=utf-8", _json(texts=[*_TEXTS, ["a", "b"]]), JSON)
        path = b"/" + operation
        options = {"top_k": 2} if query else {}
        for target, inputs in (
            (served.pictures, {"images": _base64(files[:2])}),
            (served.texts, {"texts": ["a text", ["of", "two"]]}),
        ):
            yield _post(path, b"", b"application/json", _json(target=target, **inputs, **options), JSON)
    path = b"/v1/embed/" + served.pictures.encode()
    array = _post(path, b"", b"application/x-npy", npy.write(rows), ARRAY)
    yield array.with_headers((b"Accept", b"application/x-npy"), (b"X-Cultivar-Priority", b"low"))
    yield _post(b"/v1/classify", b"targets=" + served.pictures.encode(), b"image/png", files[1], PICTURE)
    for path in (b"/v1/targets", b"/livez", b"/readyz", b"/metrics", b"/", b"/docs.json", b"/healthz"):
        for method in (b"GET", b"HEAD", b"OPTIONS"):
            yield Request(method, path)
    for path in (b"/v1/classify/" + served.texts.encode(), b"/nothing", b"/classify"):
        yield Request(b"OPTIONS", path)
        yield Request(b"GET", path)


def _post(path: bytes, query: bytes, media: bytes, body: bytes, encoding: str) -> Request:
    return Request(b"POST", path, query, ((b"Content-Type", media),), body, encoding)


def _json(**document: object) -> bytes:
    return json.dumps(document).encode()


def _base64(files: Sequence[bytes]) -> list[str]:
    return [base64.b64encode(file).decode() for file in files]


def _picture(seed: int, side: int, mode: str, form: str, options: dict[str, object]) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    if mode == "I;16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(pixels).convert(mode)
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()
