"""Requests that nobody means well: whatever comes, the answer is one of the interface's, and there is one."""

import asyncio
import gc
import io
import json
import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from registry.registry import Registry
from registry.settings import Settings
from services.process.worker import ServerWorker
from services.settings import ServeSettings
from tests.builders import picture
from tests.contracts.http.asking import base64_of, npy, pixels
from tests.contracts.http.running import LIMITS, prepare

STATUSES = {200, 204, 400, 404, 405, 409, 413, 415, 422, 503, 504}
PATIENCE_S = 15.0
"""Several times the server's own deadline: what takes longer hangs."""
Header = tuple[bytes, bytes]
JSON_TYPE: Header = (b"content-type", b"application/json")
NPY_TYPE: Header = (b"content-type", b"application/x-npy")
PNG_TYPE: Header = (b"content-type", b"image/png")


@dataclass(frozen=True)
class Asked:
    """A request as it may come over the network: its body in pieces, or broken off."""

    method: str = "POST"
    path: str = "/v1/classify/digits"
    query: bytes = b""
    headers: Sequence[Header] = ()
    body: bytes = b""
    pieces: int = 1
    leaves: bool = False


@dataclass
class Answered:
    """What the application sent."""

    messages: list[Any] = field(default_factory=list)

    @property
    def status(self) -> int | None:
        return self.messages[0]["status"] if self.messages else None

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])


class Served:
    """The HTTP application and all that is behind it, in a thread of its own."""

    def __init__(self, home: Settings) -> None:
        self.home = home
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        limits = ServeSettings.read({}, stages=("staging",), auth="off", decode_threads=2, **LIMITS)
        self._worker = ServerWorker(limits, home)
        self._front = self._worker.front()
        self.unexpected: list[logging.LogRecord] = []
        self._handler = logging.Handler(logging.ERROR)
        self._handler.emit = self.unexpected.append  # type: ignore[assignment, method-assign]  # records go to a list

    def __enter__(self) -> "Served":
        logging.getLogger("cultivar.http").addHandler(self._handler)
        self._thread.start()
        self._await(self._worker.start())
        while not self._worker.ready:
            pass
        return self

    def __exit__(self, *_: object) -> None:
        self._await(self._worker.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        logging.getLogger("cultivar.http").removeHandler(self._handler)

    def ask(self, asked: Asked) -> Answered:
        answered: Answered = self._await(self._ask(asked))
        return answered

    def _await(self, what: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(PATIENCE_S)

    async def _ask(self, asked: Asked) -> Answered:
        answered = Answered()
        over = asyncio.Event()
        size = max(1, -(-len(asked.body) // asked.pieces))
        pieces = [asked.body[at : at + size] for at in range(0, len(asked.body), size)] or [b""]
        messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": piece, "more_body": True} for piece in pieces
        ]
        if asked.leaves:
            messages.append({"type": "http.disconnect"})
        else:
            messages[-1]["more_body"] = False

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop(0)
            await over.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            answered.messages.append(message)

        scope = {
            "type": "http", "method": asked.method, "path": asked.path, "raw_path": asked.path.encode(),
            "query_string": asked.query, "headers": list(asked.headers), "http_version": "1.1",
        }  # fmt: skip
        await self._front(scope, receive, send)
        over.set()
        return answered


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = Settings.read(tmp_path_factory.mktemp("fuzz"), environment={"CULTIVAR_ACTOR": "tests"})
    with Registry.open(home) as registry:
        prepare(registry)
    thresholds = gc.get_threshold()
    with Served(home) as running:
        yield running
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def form(*files: bytes) -> bytes:
    head = b'--line\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n'
    return b"".join(head + file + b"\r\n" for file in files) + b"--line--\r\n"


GOOD = {
    b"image/png": picture(),
    b"application/x-npy": npy(pixels(2)),
    b"application/json": json.dumps({"images": [base64_of(picture())]}).encode(),
    b"application/json; charset=utf-8": json.dumps({"texts": ["the day", ["a", "b"]]}).encode(),
    b"multipart/form-data; boundary=line": form(picture(), picture(1)),
}
"""A good body for each media type."""
TARGETS = ("digits", "shapes", "vectors", "moods", "meanings", "nothing")
PATHS = (
    *(f"/v1/{operation}/{target}" for operation in ("classify", "embed") for target in TARGETS),
    "/v1/classify", "/v1/targets", "/livez", "/readyz", "/metrics", "/", "", "//", "/v1/classify/digits/", "/v1/embed",
)  # fmt: skip
HOSTILE = st.sampled_from(
    (b"", b"\0", b"\xff\xfe", b"-1", b"9" * 30, b"1e9", b"nan", b"inf", b"%00", b"../..", b"," * 500)
)


@st.composite
def spoilt(draw: st.DrawFn, body: bytes) -> bytes:
    """A body with a few places cut out, doubled, or replaced."""
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(body)))
        stop = draw(st.integers(start, min(len(body), start + 40)))
        middle = draw(st.sampled_from((b"", body[start:stop] * 2)) | st.binary(max_size=8))
        body = body[:start] + middle + body[stop:]
    return body


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMED = st.dictionaries(st.sampled_from(("images", "texts", "target", "")), JSON_VALUES, max_size=3)
BODIES = st.one_of(
    st.sampled_from(sorted(GOOD.values())).flatmap(spoilt),
    st.binary(max_size=300),
    (JSON_VALUES | NAMED).map(lambda value: json.dumps(value).encode()),
    st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")),
)
MEDIA = st.sampled_from(sorted(GOOD)) | st.binary(max_size=60) | st.sampled_from(
    (b"multipart/form-data", b"multipart/form-data; boundary=", b"image/", b"application/json; charset=utf-16")
)  # fmt: skip
OTHER_HEADERS = st.tuples(
    st.sampled_from(
        (b"accept", b"x-expect-space", b"content-encoding", b"content-length", b"authorization", b"transfer-encoding",
         b"x-cultivar-priority", b"x-cultivar-timeout", b"expect", b"cookie", b"traceparent", b"x-request-id")
    ),
    HOSTILE | st.binary(max_size=40) | st.sampled_from((b"application/x-npy", b"gzip", b"low", b"5", b"sha256:00")),
)  # fmt: skip
QUERIES = st.binary(max_size=60) | st.lists(
    st.tuples(
        st.sampled_from((b"top_k", b"stage", b"version", b"source", b"targets", b"")),
        HOSTILE
        | st.binary(max_size=20)
        | st.sampled_from(
            (b"3", b"staging", b"letters", b"sha256:0", b"digits,shapes", b"digits,digits,moods")
        ),
    ),
    max_size=4,
).map(lambda pairs: b"&".join(b"=".join(pair) for pair in pairs))


@st.composite
def requests(draw: st.DrawFn) -> Asked:
    media = draw(st.lists(MEDIA.map(lambda value: (b"content-type", value)), max_size=1))
    others = draw(st.lists(OTHER_HEADERS, max_size=3))
    return Asked(
        method=draw(st.sampled_from(("POST",) * 8 + ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "BREW"))),
        path=draw(st.sampled_from(PATHS) | st.text(max_size=30).map(lambda text: f"/v1/classify/{text}")),
        query=draw(QUERIES | st.just(b"")),
        headers=[*media, *others],
        body=draw(BODIES),
        pieces=draw(st.integers(1, 5)),
        leaves=draw(st.sampled_from((False,) * 7 + (True,))),
    )


def fine(served: Served, asked: Asked) -> Answered:
    """Ask, and check what holds of every answer."""
    answered = served.ask(asked)
    assert not served.unexpected, served.unexpected[-1].exc_info
    if answered.status is None:
        assert asked.leaves, "no answer, though the client waited"
        return answered
    assert answered.status in STATUSES, answered.body
    assert len(answered.messages) == 2
    for word in ("Traceback", 'File "', str(served.home.home), str(Path(__file__).parents[3])):
        assert word.encode() not in answered.body
    if answered.status >= 400:
        error = json.loads(answered.body)["error"]
        assert error["code"] and error["message"] and error["hint"]
    if answered.status == 503:
        assert b"retry-after" in answered.headers
    return answered


@settings(max_examples=250, deadline=None, derandomize=True, database=None)
@given(asked=requests())
@example(
    asked=Asked(
        headers=[(b"content-type", b"multipart/form-data; boundary=" + b"-" * 5000)], body=b"-" * 20_000
    )
)
@example(asked=Asked(headers=[JSON_TYPE], body=b"[" * 100_000))
@example(asked=Asked(headers=[JSON_TYPE], body=b'{"images":' + b"[" * 50_000))
@example(
    asked=Asked(
        headers=[(b"content-type", b"application/x-npy")], body=b"\x93NUMPY\x01\x00\xff\xff" + bytes(65535)
    )
)
@example(asked=Asked(path="/v1/classify", query=b"targets=" + b"digits," * 300, body=picture()))
def test_whatever_comes_is_answered_as_the_interface_says(served: Served, asked: Asked) -> None:
    fine(served, asked)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(data=st.data(), kind=st.sampled_from(sorted(GOOD)), operation=st.sampled_from(("classify", "embed")))
def test_good_requests_that_were_spoilt_a_little_are_no_errors_of_the_server(
    served: Served, data: st.DataObject, kind: bytes, operation: str
) -> None:
    target = "moods" if b"charset" in kind and operation == "classify" else "digits"
    body = data.draw(spoilt(GOOD[kind]))
    asked = Asked(path=f"/v1/{operation}/{target}", headers=[(b"content-type", kind)], body=body, pieces=3)
    fine(served, asked)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(
    dtype=st.sampled_from(("u1", "<u2", ">f4", "<f8", "O", "S8", "?", "M8[s]", "V16")),
    shape=st.lists(st.integers(0, 9), max_size=5),
    order=st.sampled_from("CF"),
)
def test_arrays_of_every_sort_are_taken_or_refused(
    served: Served, dtype: str, shape: list[int], order: str
) -> None:
    array = np.zeros(shape, np.dtype(dtype), order=order)  # type: ignore[call-overload]  # any order, wrong ones too
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    asked = Asked(headers=[NPY_TYPE], body=stream.getvalue())
    answered = fine(served, asked)
    taken = array.dtype == np.uint8 and array.shape[1:] == (8, 8, 3) and len(shape) == 4 and len(array) > 0
    assert (answered.status == 200) == taken


def test_afterwards_a_good_request_is_answered_and_nothing_is_held(served: Served) -> None:
    asked = Asked(headers=[PNG_TYPE], body=picture())
    assert fine(served, asked).status == 200
    assert served._worker._admission.held_bytes == 0
    assert not served._worker._admission.visits
