"""Forms and JSON documents that cost more to read than to send."""

from collections.abc import Iterator

BOUNDARY = "B"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
JSON = "application/json"

_FILE = b'Content-Disposition: form-data; name="a"; filename="a"\r\n'
_END = b"--B--\r\n"


def form(contents: bytes, headers: bytes = _FILE) -> bytes:
    """Return a part of a form, which ends with the boundary after it."""
    return b"--B\r\n" + headers + b"\r\n" + contents + b"\r\n"


def filled(unit: bytes, size: int) -> bytes:
    """Return as many repetitions as fit."""
    return unit * (size // len(unit))


def forms_of_headers(size: int) -> Iterator[tuple[str, bytes]]:
    """Yield forms of up to ``size`` bytes whose parts are mostly headers, by content type."""
    parameters = b"Content-Disposition: form-data; " + b'a="b";' * 1300 + b'filename="a"\r\n'
    for headers in (
        parameters * 16,
        parameters,
        _FILE + b"".join(b"X%d: " % number + b"a" * 8100 + b"\r\n" for number in range(14)),
        _FILE + (b"X" * 8000 + b": a\r\n") * 14,
        b"Content-Disposition: form-data; " + b'"' * 7900 + b'filename="a"\r\n',
        b"Content-Disposition: form-data; " + b';a="\\"' * 1300 + b"\r\n",
    ):
        yield FORM, filled(form(b"x", headers), min(size - len(_END), 255 * len(form(b"x", headers)))) + _END


def forms_of_contents(size: int) -> Iterator[tuple[str, bytes]]:
    """Yield forms of ``size`` bytes that look again and again as if a boundary began, by content type."""
    for unit in (b"\r", b"\r\n-", b"\r\n--A"):
        yield FORM, form(filled(unit, size - 200)) + _END
    yield FORM, form(b"x") + _END + filled(b"\r\n", size - 200)
    yield FORM, filled(b"a", size - 200) + b"\r\n" + form(b"x") + _END
    yield FORM, form(b"x") * (size // 80) + _END
    # The search for such a boundary among so many of its letters is the slowest there is.
    long = "a" * 35 + "b" + "a" * 34
    head = f"--{long}\r\n".encode() + _FILE + b"\r\n"
    yield f"multipart/form-data; boundary={long}", head + filled(b"a", size - 200)
    yield "multipart/form-data; " + 'a="b";' * 9000 + "boundary=B", _END
    yield 'multipart/form-data; boundary="' + "\\" * 60_000, _END


def documents(size: int) -> Iterator[tuple[str, bytes]]:
    """Yield JSON documents of up to ``size`` bytes, by content type."""
    room = size - 100
    deep = min(1_000_000, room // 2)
    for document in (
        b'{"texts":[' + filled(b"[],", room) + b"[]]}",
        b'{"texts":[' + filled(b"{},", room) + b"{}]}",
        b'{"texts":[' + filled(b'"a",', room) + b'"a"]}',
        b"{" + b",".join(b'"%d":0' % number for number in range(room // 13)) + b"}",
        b'{"texts":' + b"[" * deep + b"]" * deep + b"}",
        b'{"texts":[' + b"9" * deep + b"]}",
        b'{"images":["' + filled(b"AAAA", room) + b'"]}',
        b'{"images":["' + filled(b"AAA\\n", room) + b'"]}',
        b'{"images":["data:image/png;base64,' + filled(b"%41", room) + b'"]}',
        b'{"texts":["\\u0041' + filled("\u0434".encode(), room) + b'"]}',
        b'{"images":["\\ud800"]}',
        b'{"images":["a"],"images":["b"]}',
    ):
        yield JSON, document
