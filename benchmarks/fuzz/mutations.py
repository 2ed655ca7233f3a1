"""How a request is spoilt: by what it says, or by what its body is made of. Framing is another matter."""

import json
import re
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from typing import Any, TypeAlias

from benchmarks.fuzz import hostile
from benchmarks.fuzz.request import ARRAY, BOUNDARY, FORM, JSON, PICTURE, Request

Mutation: TypeAlias = Callable[[Random, Request], Request]

_MOST_DEPTH = 300
_PNG = b"\x89PNG\r\n\x1a\n"
_TOKEN = re.compile(rb'[][{},:"]')


def spoilt(random: Random, data: bytes) -> bytes:
    """Return bytes that were changed in one to four places: flipped, cut out, doubled, replaced, or cut off."""
    for _ in range(random.randint(1, 4)):
        start = random.randint(0, len(data))
        stop = min(len(data), start + random.choice((1, 2, 4, 16, 200)))
        match random.randrange(6):
            case 0 if start < len(data):
                middle = bytes([data[start] ^ 1 << random.randrange(8)]) + data[start + 1 : stop]
            case 1:
                middle = b""
            case 2:
                middle = data[start:stop] * 2
            case 3:
                middle = random.randbytes(random.choice((1, 2, 8)))
            case 4:
                middle = random.choice(
                    (b"\0", b"\r\n", b"\n", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"%s%n")
                )
            case _:
                return data[:start] if random.random() < 0.3 else data[start:stop] + data
        data = data[:start] + middle + data[stop:]
    return data


def body(random: Random, request: Request) -> Request:
    """Change bytes of the body."""
    return replace(request, body=spoilt(random, request.body))


def swapped(random: Random, request: Request) -> Request:
    """Say another type of the body, or none."""
    kept = tuple(header for header in request.headers if header[0] != b"Content-Type")
    if random.random() < 0.15:
        return replace(request, headers=kept)
    return replace(request, headers=(*kept, (b"Content-Type", random.choice(hostile.MEDIA))))


def line(random: Random, request: Request) -> Request:
    """Change method, path or query."""
    match random.randrange(4):
        case 0:
            return replace(request, method=random.choice(hostile.METHODS))
        case 1:
            words = request.path.split(b"/")
            words[random.randrange(len(words))] = random.choice(hostile.WORDS)
            return replace(request, path=b"/".join(words))
        case 2:
            return replace(request, path=spoilt(random, request.path))
    names = (b"top_k", b"stage", b"version", b"source", b"targets", b"", b"x" * 300)
    values = (*hostile.NUMBERS, *hostile.WORDS)
    fields = [
        b"%b=%b" % (random.choice(names), random.choice(values))
        for _ in range(random.choice((1, 1, 2, 3, 40)))
    ]
    return replace(request, query=b"&".join(fields))


def headers(random: Random, request: Request) -> Request:
    """Add, drop, double, rename or change headers."""
    found = list(request.headers)
    for _ in range(random.randint(1, 3)):
        place = random.randrange(len(found)) if found else 0
        match random.randrange(6):
            case 0 if found:
                del found[place]
            case 1 if found:
                found.append(found[place])
            case 2 if found:
                found[place] = (
                    random.choice((str.upper, str.lower))(found[place][0].decode()).encode(),
                    found[place][1],
                )
            case 3 if found:
                found[place] = (found[place][0], spoilt(random, found[place][1]))
            case 4:
                found += [
                    (b"X-%d" % number, b"a" * random.choice((1, 100)))
                    for number in range(random.choice((5, 200)))
                ]
            case _:
                found.insert(place, random.choice(hostile.HEADERS))
    return replace(request, headers=tuple(found))


def document(random: Random, request: Request) -> Request:
    """Change what a JSON document holds, or its punctuation."""
    if random.random() < 0.3:
        return replace(request, body=_punctuation(random, request.body))
    found = json.loads(request.body)
    found = _node(random, found)
    text = json.dumps(found, ensure_ascii=random.random() < 0.7)
    match random.randrange(12):
        case 0:
            return replace(request, body=text.encode("utf-16", "surrogatepass"))
        case 1:
            return replace(request, body=b"\xef\xbb\xbf" + text.encode("utf-8", "surrogatepass"))
        case 2 if isinstance(found, dict) and found:
            key = json.dumps(random.choice(list(found)))
            text = f"{text[:-1]}, {key}: {json.dumps(_value(random))}}}"
    return replace(request, body=text.encode("utf-8", "surrogatepass"))


def parts(random: Random, request: Request) -> Request:
    """Change what a form is made of: boundaries, part headers, their number, what stands around them."""
    data, dashes = request.body, b"--" + BOUNDARY
    disposition = b'Content-Disposition: form-data; name="file"; filename="a.png"'
    match random.randrange(14):
        case 0:
            return replace(request, body=data.replace(dashes + b"--", b""))
        case 1:
            return replace(
                request,
                body=data.replace(dashes, b"--" + random.choice((b"", BOUNDARY[:-1], BOUNDARY + b"x"))),
            )
        case 2:
            return replace(
                request,
                body=data.replace(b"\r\n", random.choice((b"\n", b"\r", b"\r\n\r\n")), random.randint(1, 9)),
            )
        case 3:
            others = (
                b"",
                b"Content-Disposition: form-data",
                disposition + b"\r\n" + disposition,
                b"X: y",
                b": x",
                b"X : y",
            )
            return replace(request, body=data.replace(disposition, random.choice(others)))
        case 4:
            names = (
                b"filename*=UTF-8''%ff",
                b"filename*=UTF-8''a%20b",
                b'filename="\xff"',
                b"filename",
                b"name=a",
                b'filename="a',
                b"filename*=x",
            )
            return replace(request, body=data.replace(b'filename="a.png"', random.choice(names)))
        case 5:
            more = b"\r\n".join(b"X-%d: y" % number for number in range(random.choice((3, 60, 2000))))
            return replace(request, body=data.replace(disposition, disposition + b"\r\n" + more, 1))
        case 6:
            return replace(
                request,
                body=data.replace(disposition, disposition + b"; x=" + b"y" * random.choice((100, 9000)), 1),
            )
        case 7:
            return replace(request, body=random.choice((b"preamble\r\n", b"\r\n", b"\0" * 70_000)) + data)
        case 8:
            return replace(
                request, body=data + random.choice((b"epilogue", dashes + b"--\r\n", data, b"\0" * 70_000))
            )
        case 9:
            return replace(
                request,
                body=(dashes + b"\r\n" + disposition + b"\r\n\r\n\r\n") * random.choice((1, 300, 3000))
                + dashes
                + b"--",
            )
        case 10:
            return replace(
                request,
                body=random.choice((b"", dashes, dashes + b"\r\n", dashes + b"--", dashes + b"--\r\n")),
            )
        case 11:
            coding = b"\r\nContent-Transfer-Encoding: " + random.choice(
                (b"base64", b"binary", b"7bit", b"\xff")
            )
            return replace(request, body=data.replace(disposition, disposition + coding))
        case 12:
            return replace(request, body=data.replace(dashes + b"\r\n", (dashes + b"\r\n") * 3))
    return replace(request, body=spoilt(random, data))


def array(random: Random, request: Request) -> Request:
    """Change an array's header, or how much follows it."""
    (length,) = struct.unpack_from("<H", request.body, 8)
    pixels = request.body[10 + length :]
    shape = ", ".join(
        str(random.choice((0, 1, 3, 8, 16, 224, 2**31, -1, 10**30))) for _ in range(random.randint(0, 6))
    )
    described = random.choice(("|u1", "|u1", *hostile.DTYPES))
    order = random.choice(("False", "False", "True", "None", "0"))
    text = f"{{'descr': '{described}', 'fortran_order': {order}, 'shape': ({shape}), }}\n".encode()
    match random.randrange(6):
        case 0:
            text = request.body[10 : 10 + length]
            pixels = random.choice((b"", pixels[:-1], pixels + b"\0", pixels * 2))
        case 1:
            text = spoilt(random, request.body[10 : 10 + length])
        case 2:
            text = random.choice(
                (b"", b"{}", b"__import__('os')", b"(" * 1000, b"{" + b" " * 65_000 + b"}", b"\0" * 500)
            )
    version = random.choice((b"\x01\x00", b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x00\x00", b"\xff\xff"))
    size = len(text) if random.random() < 0.8 else random.choice((0, 1, len(text) + 1, 65_535))
    packed = struct.pack("<H" if version[0] == 1 else "<I", size)
    return replace(request, body=b"\x93NUMPY" + version + packed + text + pixels)


def picture(random: Random, request: Request) -> Request:
    """Change bytes of a picture, its size as its header says it, or its chunks."""
    data = request.body
    if not data.startswith(_PNG) or random.random() < 0.4:
        place = random.randrange(min(64, len(data)))
        data = data[:place] + spoilt(random, data[place : place + 40]) + data[place + 40 :]
        return replace(request, body=data if random.random() < 0.7 else data[: random.randint(0, len(data))])
    chunks = list(_chunks(data))
    place = random.randrange(len(chunks))
    match random.randrange(5):
        case 0:
            sizes = struct.pack(
                ">II", *(random.choice((0, 1, 3, 5000, 2**31 - 1, 2**32 - 1)) for _ in range(2))
            )
            chunks[0] = (b"IHDR", sizes + chunks[0][1][8:])
        case 1:
            chunks[0] = (b"IHDR", chunks[0][1][:8] + random.randbytes(5))
        case 2:
            zeros = zlib.compress(bytes(random.choice((100, 1 << 20))))
            more = (
                (b"zTXt", b"a\0\0" + zeros),
                (b"iCCP", b"a\0\0" + zeros),
                (b"eXIf", random.randbytes(60)),
                (b"acTL", struct.pack(">II", 5000, 0)),
                (b"PLTE", random.randbytes(9)),
                (b"tRNS", b"\0"),
                (b"gAMA", b"\0" * 4),
            )
            chunks.insert(place, random.choice(more))
        case 3:
            chunks.insert(place, chunks[place])
        case _:
            del chunks[place]
    return replace(request, body=_PNG + b"".join(map(_chunk, chunks)))


def nothing(random: Random, request: Request) -> Request:
    """Leave it as it is."""
    return request


OF_ANY: Mapping[str, Mutation] = {"none": nothing, "line": line, "headers": headers}
OF_BODIES: Mapping[str, Mutation] = {"body": body, "media type": swapped}
OF_ENCODINGS: Mapping[str, tuple[str, Mutation]] = {
    "JSON": (JSON, document),
    "form": (FORM, parts),
    "array": (ARRAY, array),
    "picture": (PICTURE, picture),
}


def _punctuation(random: Random, text: bytes) -> bytes:
    places = [match.start() for match in _TOKEN.finditer(text)]
    for _ in range(random.randint(1, 3)):
        place = random.choice(places)
        other = random.choice(
            (
                b"",
                b"{",
                b"[",
                b"]",
                b"}",
                b",",
                b":",
                b'"',
                b"[" * 500,
                b"//",
                b"\\u",
                b"\0",
                b"1e999",
                b"NaN",
            )
        )
        text = text[:place] + other + text[place + random.randint(0, 1) :]
    return text


def _node(random: Random, found: Any) -> Any:
    """Return a document with one of its values changed, nearer the root more often than not."""
    if isinstance(found, dict) and found and random.random() < 0.9:
        key = random.choice(list(found))
        changed = {**found, key: _node(random, found[key])}
        match random.randrange(16):
            case 0:
                del changed[key]
            case 1:
                changed[random.choice(("images", "texts", "target", "top_k", "", "x" * 200))] = _value(random)
        return changed
    if isinstance(found, list) and found and random.random() < 0.8:
        place = random.randrange(len(found))
        return [*found[:place], _node(random, found[place]), *found[place + random.randint(0, 1) :]]
    if isinstance(found, str) and found and random.random() < 0.5:
        return spoilt(random, found.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")
    return _value(random)


def _value(random: Random) -> Any:
    match random.randrange(8):
        case 0:
            nested: Any = []
            for _ in range(random.choice((1, 3, _MOST_DEPTH))):
                nested = [nested] if random.random() < 0.5 else {"a": nested}
            return nested
        case 1:
            return [random.choice(hostile.TEXTS)] * random.choice((0, 1, 2, 3, 300))
        case 2:
            return random.choice((None, True, False, 0, -1, 1.5, 10**30, float("nan"), float("inf"), -0.0))
        case 3:
            return [
                [random.choice(hostile.TEXTS) for _ in range(random.randint(0, 4))]
                for _ in range(random.randint(0, 4))
            ]
        case 4:
            return {random.choice(hostile.TEXTS): None}
        case 5:
            return [None, 1, True, {}][: random.randint(0, 4)]
    return random.choice(hostile.TEXTS)


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], len(_PNG)
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def _chunk(chunk: tuple[bytes, bytes]) -> bytes:
    name, data = chunk
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
