"""How a request is framed and sent: by length or in chunks, well or badly, whole or in pieces."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import TypeAlias

from benchmarks.fuzz.mutations import spoilt
from benchmarks.fuzz.request import Header, Request

WAIT, HALF_CLOSE, LEAVE = "wait", "half-close", "leave"
"""What a client does when it has sent everything."""

_CLOSE = (b"Connection", b"close")
_CHUNKED = (b"Transfer-Encoding", b"chunked")
_EXPECTED = (b"Expect", b"100-continue")
_MOST_PIECES = 6


@dataclass(frozen=True, slots=True)
class Sent:
    """The bytes of one or several requests.

    Attributes:
        data: all of them.
        answers: how many answers they have, where that is known: 1 at least.
        intact: whether what follows on the connection is a request of its own.
    """

    data: bytes
    answers: int = 1
    intact: bool = True


Framing: TypeAlias = Callable[[Random, Request], Sent]


def by_length(random: Random, request: Request) -> Sent:
    """Say the body's length; the usual way."""
    return Sent(request.to_bytes())


def in_chunks(random: Random, request: Request) -> Sent:
    """Send the body in chunks of any size, sometimes with extensions and trailers."""
    extension = random.choice((b"", b"", b";a=b", b';a="b c"'))
    trailer = random.choice((b"", b"", b"X-After: it\r\n", b"Authorization: Bearer x\r\nX: y\r\n"))
    size = random.choice((7, 100, 5000, 1 << 20))
    return Sent(
        request.head(_CHUNKED) + chunked(request.body, size, extension) + b"0\r\n" + trailer + b"\r\n"
    )


def old(random: Random, request: Request) -> Sent:
    """Send it as HTTP/1.0, after whose answer the server closes."""
    length = (b"Content-Length", b"%d" % len(request.body))
    return Sent(request.head(length, version=b"HTTP/1.0") + request.body, intact=False)


def closing(random: Random, request: Request) -> Sent:
    """Say that it is the connection's last."""
    length = (b"Content-Length", b"%d" % len(request.body))
    return Sent(request.head(length, _CLOSE) + request.body, intact=False)


def expecting(random: Random, request: Request) -> Sent:
    """Ask to be told to go on, and go on at once."""
    length = (b"Content-Length", b"%d" % len(request.body))
    return Sent(request.head(length, _EXPECTED) + request.body)


def pipelined(random: Random, request: Request) -> Sent:
    """Send it several times without waiting."""
    count = random.randint(2, 5)
    return Sent(request.to_bytes() * count, count)


GOOD: Sequence[Framing] = (by_length, by_length, by_length, in_chunks, old, closing, expecting, pipelined)


def bad_length(random: Random, request: Request) -> Sent:
    """Say a length that is none, or another one than the body's, or two."""
    size = len(request.body)
    lengths = (b"%d" % (size + 1), b"%d" % max(0, size - 1), b"-1", b"+%d" % size, b"%d, %d" % (size, size), b"0x10",
               b"9" * 30, b"", b"1e3", b"%d " % size, b"99999999")  # fmt: skip
    framing: list[Header] = [(b"Content-Length", random.choice(lengths))]
    if random.random() < 0.4:
        more = ((b"Content-Length", b"%d" % size), _CHUNKED, (b"Transfer-Encoding", b"gzip, chunked"))
        framing.append(random.choice(more))
    if random.random() < 0.2:
        framing = [(b"Transfer-Encoding", random.choice((b"gzip", b"identity", b"chunked, gzip", b"x")))]
    return Sent(request.head(*framing) + request.body, intact=False)


def bad_chunks(random: Random, request: Request) -> Sent:
    """Send chunks that are none, or stop among them, or let trailers go on."""
    good = chunked(request.body, random.choice((7, 100, 5000)), b"") + b"0\r\n\r\n"
    match random.randrange(7):
        case 0:
            data = spoilt(random, good)
        case 1:
            data = good[: random.randint(0, len(good))]
        case 2:
            data = b"%b\r\n" % random.choice((b"-1", b"0x5", b"f" * 20, b"zz", b"", b" 5", b"5 ")) + good
        case 3:
            data = good.replace(b"\r\n", b"\n")
        case 4:
            data = good[:-2] + b"X: y\r\n" * random.choice((1, 5000)) + b"\r\n"
        case 5:
            data = chunked(request.body[:500], 1, b";" + b"x" * random.choice((10, 2000))) + b"0\r\n\r\n"
        case _:
            data = (
                good[:-2]
                + random.choice((b" folded\r\n", b"no colon\r\n", b"X: \0\r\n", b": x\r\n"))
                + b"\r\n"
            )
    return Sent(request.head(_CHUNKED) + data, intact=False)


def bad_bytes(random: Random, request: Request) -> Sent:
    """Change any bytes of the whole request, of its head more often than not."""
    data = request.to_bytes()
    edge = len(request.head()) if random.random() < 0.7 else len(data)
    return Sent(spoilt(random, data[:edge]) + data[edge:], intact=False)


def bad_lines(random: Random, request: Request) -> Sent:
    """Write the head in ways that HTTP/1.1 forbids or hardly allows."""
    head, empty, rest = request.to_bytes().partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    place = random.randrange(len(lines))
    match random.randrange(8):
        case 0:
            return Sent(b"\n".join(lines) + b"\n\n" + rest, intact=False)
        case 1:
            lines[place] = b" " + lines[place]
        case 2:
            lines[place] = lines[place].replace(b":", b" :", 1)
        case 3:
            lines.insert(
                place,
                random.choice((b"", b"no colon", b": x", b"X\0: y", b"X: a\x01b", b"X: a\rb", b"\xff: y")),
            )
        case 4:
            lines.append(b"X-Long: " + b"y" * random.choice((5000, 70_000, 300_000)))
        case 5:
            versions = (
                b"HTTP/1.2",
                b"HTTP/2.0",
                b"HTTP/0.9",
                b"http/1.1",
                b"HTTP/1.1 x",
                b"",
                b"HTTP/1.10",
                b"ICE/1.0",
            )
            lines[0] = lines[0].replace(b"HTTP/1.1", random.choice(versions))
        case 6:
            lines[0] = lines[0].replace(
                b" ", random.choice((b"  ", b"\t", b"", b"\0", b" x ")), random.randint(1, 2)
            )
        case _:
            return Sent(
                random.choice((b"\r\n" * 3, b"\n", b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
                + head
                + empty
                + rest,
                intact=False,
            )
    return Sent(b"\r\n".join(lines) + empty + rest, intact=False)


def after_good(random: Random, request: Request) -> Sent:
    """Send garbage behind a request that is well-formed."""
    return Sent(
        request.to_bytes()
        + random.choice((b"\0", b"garbage\r\n\r\n", b"GET\r\n", b"{}", random.randbytes(200))),
        intact=False,
    )


BAD: Sequence[Framing] = (bad_length, bad_chunks, bad_bytes, bad_bytes, bad_lines, bad_lines, after_good)


def chunked(body: bytes, size: int, extension: bytes) -> bytes:
    """Return a body in chunks, without the last one."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces)


def in_pieces(random: Random, data: bytes) -> tuple[bytes, ...]:
    """Return the bytes as they are handed to the socket: most often at once."""
    if random.random() < 0.7 or len(data) < 2:
        return (data,)
    cuts = sorted(random.randrange(1, len(data)) for _ in range(random.randint(1, _MOST_PIECES - 1)))
    edges = [0, *cuts, len(data)]
    return tuple(data[start:stop] for start, stop in pairwise(edges) if stop > start)
