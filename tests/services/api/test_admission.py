"""The door: limits, deadlines, clients that leave."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import pytest

import services.api.admission as admission_module
from registry.errors import InputTooLarge
from services.api.admission import SMALL_BODY_BYTES, Admission, ClientLeft, content_length
from services.errors import DeadlineExceeded, MalformedRequest, Overloaded
from services.httpd.asgi import TellsWhenLeft

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


def door(**limits: Any) -> Admission:
    defaults = {"max_requests": 2, "max_body_bytes": 10, "max_held_bytes": 15, "deadline_s": 10.0}
    return Admission(**(defaults | limits))


def arriving(*chunks: bytes, then: Iterable[MutableMapping[str, Any]] = ()) -> Receive:
    """A body in chunks; then what is given; then nothing for ever."""
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    if messages:
        messages[-1]["more_body"] = False
    queue = iter([*messages, *then])

    async def receive() -> MutableMapping[str, Any]:
        for message in queue:
            return message
        await asyncio.Event().wait()
        raise AssertionError

    return receive


def test_so_many_requests_come_in_and_no_more() -> None:
    async def trial() -> None:
        admission = door()
        visits = [admission.enter(arriving(b"x")) for _ in range(2)]
        with pytest.raises(Overloaded):
            admission.enter(arriving(b"x"))
        visits[0].leave()
        admission.enter(arriving(b"x"))

    asyncio.run(trial())


def test_a_request_that_is_slow_to_send_its_body_gives_its_place_to_a_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission_module, "SLOW_BODY_S", 0.0)

    async def trial() -> None:
        admission = door()
        quick = admission.enter(arriving(b"x"))
        await quick.body(1)
        ended: list[Exception | None] = []

        async def slow() -> None:
            admitted = admission.enter(arriving())
            try:
                await admitted.body(1)
            except asyncio.CancelledError:
                ended.append(admitted.ended())
            finally:
                admitted.leave()

        task = asyncio.create_task(slow())
        await asyncio.sleep(0)
        third = admission.enter(arriving(b"x"))
        await task
        assert isinstance(ended[0], Overloaded)
        assert admission.visits == {quick, third}

    asyncio.run(trial())


def test_a_request_that_is_answered_or_has_sent_all_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission_module, "SLOW_BODY_S", 0.0)

    async def trial() -> None:
        admission = door()
        visits = [admission.enter(arriving(b"x")) for _ in range(2)]
        await visits[0].body(1)
        visits[1].answering()
        with pytest.raises(Overloaded):
            admission.enter(arriving(b"x"))

    asyncio.run(trial())


@pytest.mark.parametrize("announced", [None, 9])
def test_a_body_is_read_whole(announced: int | None) -> None:
    async def trial() -> None:
        assert await door().enter(arriving(b"abc", b"def", b"ghi")).body(announced) == b"abcdefghi"

    asyncio.run(trial())


def test_a_body_over_the_limit_is_refused_unread_or_at_the_limit() -> None:
    async def trial() -> None:
        with pytest.raises(InputTooLarge):
            await door().enter(arriving()).body(11)
        with pytest.raises(InputTooLarge):
            await door().enter(arriving(b"12345", b"67890", b"1")).body(None)

    asyncio.run(trial())


def test_all_bodies_together_are_bounded_and_given_back() -> None:
    async def trial() -> None:
        admission = door()
        first = admission.enter(arriving(bytes(10)))
        await first.body(10)
        second = admission.enter(arriving(bytes(10)))
        with pytest.raises(Overloaded) as refused:
            await second.body(10)
        assert refused.value.reason == "bytes"
        second.leave()
        first.leave()
        assert admission.held_bytes == 0
        await admission.enter(arriving(bytes(10))).body(10)

    asyncio.run(trial())


class Sending:
    """A request whose body does not come to its end."""

    def __init__(self, admission: Admission, announced: int | None, *came: bytes) -> None:
        self.end: Exception | None = None
        self.admitted = admission.enter(_unfinished(came))
        self._announced = announced

    async def __call__(self) -> None:
        try:
            await self.admitted.body(self._announced)
        except asyncio.CancelledError:
            self.end = self.admitted.ended()
        finally:
            self.admitted.leave()


def _unfinished(came: Iterable[bytes]) -> Receive:
    parts = iter(came)

    async def receive() -> MutableMapping[str, Any]:
        for part in parts:
            return {"type": "http.request", "body": part, "more_body": True}
        await asyncio.Event().wait()
        raise AssertionError

    return receive


async def _begun(
    admission: Admission, announced: int | None, *came: bytes
) -> tuple[Sending, "asyncio.Task[None]"]:
    """Begin to send a body in a task of its own; it is under way when this returns."""
    sending: list[Sending] = []

    async def send() -> None:
        sending.append(Sending(admission, announced, *came))
        await sending[0]()

    task = asyncio.create_task(send())
    while not sending or not sending[0].admitted.held_bytes:
        await asyncio.sleep(0)
    return sending[0], task


@pytest.mark.parametrize("announced", [9, None], ids=["announced", "in chunks"])
def test_the_largest_body_on_its_way_gives_way_to_smaller_ones(announced: int | None) -> None:
    async def trial() -> None:
        admission = door(max_requests=9)
        large, large_task = await _begun(admission, announced, bytes(9))
        small, small_task = await _begun(admission, 4, bytes(4))
        assert await admission.enter(arriving(bytes(8))).body(8) == bytes(8)
        await large_task
        assert isinstance(large.end, Overloaded)
        assert large.end.reason == "bytes"
        assert small.end is None
        assert admission.held_bytes == 12
        small_task.cancel()

    asyncio.run(trial())


def test_no_body_gives_way_to_one_that_is_as_large() -> None:
    async def trial() -> None:
        admission = door(max_requests=9)
        large, task = await _begun(admission, 9)
        with pytest.raises(Overloaded):
            await admission.enter(arriving(bytes(9))).body(9)
        assert large.end is None
        task.cancel()

    asyncio.run(trial())


def test_a_body_that_is_whole_gives_way_to_nobody() -> None:
    async def trial() -> None:
        admission = door(max_requests=9)
        await admission.enter(arriving(bytes(10))).body(10)
        with pytest.raises(Overloaded):
            await admission.enter(arriving(bytes(6))).body(6)

    asyncio.run(trial())


def test_a_fourth_of_all_bytes_is_kept_for_small_bodies() -> None:
    async def trial() -> None:
        large = 2 * SMALL_BODY_BYTES
        admission = door(max_requests=99, max_body_bytes=large, max_held_bytes=4 * large)
        for _ in range(3):
            await admission.enter(arriving(bytes(large))).body(large)
        with pytest.raises(Overloaded):
            await admission.enter(arriving(bytes(large))).body(large)
        for _ in range(2):
            await admission.enter(arriving(bytes(SMALL_BODY_BYTES))).body(SMALL_BODY_BYTES)
        assert admission.held_bytes == 4 * large

    asyncio.run(trial())


def leaving_soon(tell: Callable[[], None]) -> None:
    """What a server tells of itself: the client goes in a moment."""
    asyncio.get_running_loop().call_later(0.01, tell)


@pytest.mark.parametrize(
    ("then", "when_left", "deadline_s", "end"),
    [
        ([{"type": "http.disconnect"}], None, 10.0, ClientLeft),
        ([], leaving_soon, 10.0, ClientLeft),
        ([], None, 0.01, DeadlineExceeded),
    ],
    ids=["client-left", "client-left-by-what-the-server-tells", "deadline"],
)
def test_a_visit_ends_with_its_client_or_its_time(
    then: list[MutableMapping[str, Any]],
    when_left: TellsWhenLeft | None,
    deadline_s: float,
    end: type[Exception],
) -> None:
    async def trial() -> None:
        admitted = door(deadline_s=deadline_s).enter(arriving(b"x", then=then), when_left)
        await admitted.body(1)
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 5)
        except asyncio.CancelledError:
            assert isinstance(admitted.ended(), end)
        else:
            raise AssertionError("nothing ended the visit")
        admitted.leave()
        await asyncio.sleep(0)

    asyncio.run(trial())


def test_an_answer_on_its_way_is_not_cut() -> None:
    async def trial() -> None:
        admitted = door(deadline_s=0.01).enter(arriving(b"x"), leaving_soon)
        await admitted.body(1)
        admitted.answering()
        await asyncio.sleep(0.12)
        admitted.leave()

    asyncio.run(trial())


def test_a_client_that_leaves_before_its_body_is_whole_leaves_it_to_the_reader_to_notice() -> None:
    async def trial() -> None:
        admitted = door().enter(arriving(b"x"), lambda tell: tell())
        assert await admitted.body(1) == b"x"

    asyncio.run(trial())


def test_a_client_that_leaves_before_its_body_is_noticed() -> None:
    async def trial() -> None:
        with pytest.raises(ClientLeft):
            await door().enter(arriving(then=[{"type": "http.disconnect"}])).body(5)

    asyncio.run(trial())


@pytest.mark.parametrize("text", [b"", b"-1", b"1.5", b"x", b"9" * 19])
def test_a_length_is_a_whole_number(text: bytes) -> None:
    with pytest.raises(MalformedRequest):
        content_length(text)
