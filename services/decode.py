"""Decoding: from raw items to the rows of a batch, by the version's own recipe.

A small item is prepared where it arrived, in the event loop: handing it to a thread and back, and
passing the interpreter's lock around meanwhile, was measured to cost 0.5 ms, several times the
work. Everything else is prepared in threads: Pillow lets go of the interpreter's lock while it
decodes and scales, and so does the tokenizer, so threads are enough. Requests take turns, item by item;
one thread is kept for pictures that are not large. At most one item a thread is being decoded, and pictures
above a size one at a time, which bounds the memory that hostile pictures can claim.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from time import perf_counter
from typing import TypeAlias

import numpy as np
from PIL import Image

from registry.errors import InputTooLarge, InvalidInput
from registry.recipe import ImageRecipe, Prepared, Raw, Recipe, TextRecipe
from registry.recipe.image import MAX_PIXELS
from registry.recipe.text import MAX_TEXT_CHARACTERS
from services.errors import DeadlineExceeded
from services.turns import Turns

Rows: TypeAlias = dict[str, np.ndarray]

LARGE_PIXELS = 16_000_000
"""Pictures of more pixels than this are decoded one at a time: in RGB and twice in memory, 96 MB."""

MODERATE_PIXELS = 4_000_000
"""One of several threads decodes pictures of up to as many pixels alone: they never wait for many larger ones."""

SMALL_PIXELS = 16_384
"""Pictures of up to as many pixels, 128 x 128, are decoded in the event loop: in about 0.2 ms."""
SMALL_BYTES = 32_768
SMALL_CHARACTERS = 1_000
_SMALL_ITEMS = 4
"""A request of more items goes to the threads, however small they are."""


@dataclass(frozen=True, slots=True)
class ItemLimits:
    """How large one item may be.

    Attributes:
        pixels: width times height of a picture.
        characters: of a text, or of both texts of a pair.
        request_pixels: of all pictures of a request together.
    """

    pixels: int = MAX_PIXELS
    characters: int = MAX_TEXT_CHARACTERS
    request_pixels: int = 4 * MAX_PIXELS


class _Large(InputTooLarge):
    """A picture that is too large for whoever has begun with it."""


class _Call:
    """The items of one request, and the rows that they become."""

    __slots__ = ("deadline", "future", "items", "left", "lock", "pixels", "recipe", "rows", "seconds")

    def __init__(
        self, recipe: Recipe, items: Sequence[Raw], future: "asyncio.Future[Rows]", deadline: float
    ) -> None:
        self.recipe = recipe
        self.items = items
        self.future = future
        self.deadline = deadline
        self.rows: list[Prepared | None] = [None] * len(items)
        self.left = len(items)
        self.pixels = 0
        self.seconds = 0.0
        self.lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.items)


class Decoder:
    """Threads that prepare items: of each request in turn, and one of several threads small pictures alone.

    ``prepare`` belongs to the event loop that the decoder was made in.

    Args:
        threads: items decoded at once.
        limits: how large one item may be, and the pictures of a request together.
        observe: called with the seconds that each request's decoding took, waiting excluded.
    """

    def __init__(self, *, threads: int, limits: ItemLimits, observe: Callable[[float], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._limits = limits
        self._observe = observe
        self._one_large = threading.Lock()
        self._turns: Turns[_Call] = Turns()
        _load_plugins()
        self._threads = [
            threading.Thread(
                target=self._serve, args=(threads > 1 and number == 0,), name=f"decode-{number}", daemon=True
            )
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def prepare(
        self, recipe: Recipe, items: Sequence[Raw], deadline: float = float("inf")
    ) -> "asyncio.Future[Rows]":
        """Prepare a request's items, one or more.

        Returns:
            A future of the recipe's fields, first dimension the items, texts padded to one length;
            cancel it to withdraw the request. It fails with an ``InvalidInput`` whose ``index``
            names the item, or with ``DeadlineExceeded``.
        """
        future: asyncio.Future[Rows] = self._loop.create_future()
        if not self._at_once(recipe, items, future):
            self._turns.add(_Call(recipe, items, future, deadline))
        return future

    def _at_once(self, recipe: Recipe, items: Sequence[Raw], future: "asyncio.Future[Rows]") -> bool:
        """Prepare small items here and now, or return False where one is too large for that."""
        if len(items) > _SMALL_ITEMS or not all(map(_is_small, items)):
            return False
        began = perf_counter()
        try:
            rows = [
                prepare_item(recipe, item, index, self._limits, _little_room)
                for index, item in enumerate(items)
            ]
            future.set_result(recipe.collate(rows))
        except _Large:
            return False
        except Exception as error:
            future.set_exception(error)
        self._observe(perf_counter() - began)
        return True

    def close(self) -> None:
        """Stop the threads after the items under way; what waits stays unanswered."""
        self._turns.close()
        for thread in self._threads:
            thread.join()

    def _serve(self, small_alone: bool) -> None:
        """Prepare items until the queue is closed.

        Args:
            small_alone: pictures of over ``MODERATE_PIXELS`` are left to other threads.
        """
        while (work := self._turns.take(put_off=not small_alone)) is not None:
            entry, index = work
            call = entry.request
            if call.future.done():
                continue
            try:
                self._prepare(call, index, small_alone)
            except _Large:
                self._turns.put_off(entry, index)
            # Whatever a recipe raises, the request must hear of it and the thread must live on.
            except Exception as error:
                self._tell(_fail, call.future, error)

    def _prepare(self, call: _Call, index: int, small_alone: bool) -> None:
        """Prepare one item, and hand the rows over if it was the last."""
        began = perf_counter()
        if call.deadline <= began:
            raise DeadlineExceeded("the deadline passed before the inputs could be decoded")

        def room(pixels: int) -> AbstractContextManager[None]:
            if small_alone and pixels > MODERATE_PIXELS:
                raise _Large("a picture of this size is left to other threads")
            self._count(call, pixels)
            return nullcontext() if pixels <= LARGE_PIXELS else self._alone()

        row = prepare_item(call.recipe, call.items[index], index, self._limits, room)
        with call.lock:
            call.rows[index] = row
            call.left -= 1
            call.seconds += perf_counter() - began
            done = not call.left
        if done:
            rows = call.recipe.collate([row for row in call.rows if row is not None])
            self._observe(call.seconds)
            self._tell(_succeed, call.future, rows)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._one_large:
            yield

    def _count(self, call: _Call, pixels: int) -> None:
        """Count a picture's pixels against what its request may hold.

        Raises:
            InputTooLarge: the pictures so far have more.
        """
        with call.lock:
            call.pixels += pixels
            if call.pixels > self._limits.request_pixels:
                raise InputTooLarge(
                    f"the pictures of a request may have {self._limits.request_pixels:,} pixels together, "
                    "these have more; send fewer at once, or scale them down"
                )

    def _tell(self, what: Callable[..., None], *arguments: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(what, *arguments)


def prepare_item(
    recipe: Recipe,
    item: Raw,
    index: int,
    limits: ItemLimits,
    room: Callable[[int], AbstractContextManager[None]] | None = None,
) -> Prepared:
    """Prepare one item of several.

    Raises:
        InvalidInput: the item cannot be prepared; ``index`` names it.
    """
    try:
        if isinstance(recipe, ImageRecipe) and isinstance(item, bytes):
            return {"pixels": recipe.decode(item, limits.pixels, room)}
        if isinstance(recipe, TextRecipe):
            return recipe.encode(item, limits.characters)
        return recipe.prepare(item)
    except InvalidInput as error:
        error.index = index
        raise


def _load_plugins() -> None:
    """Import Pillow's plugins for the accepted formats, or the first picture would wait; it has forty more."""
    Image.preinit()
    for plugin in ("TiffImagePlugin", "WebPImagePlugin"):
        import_module(f"PIL.{plugin}")


def _is_small(item: Raw) -> bool:
    if isinstance(item, bytes):
        return len(item) <= SMALL_BYTES
    return sum(map(len, (item,) if isinstance(item, str) else item)) <= SMALL_CHARACTERS


def _little_room(pixels: int) -> AbstractContextManager[None]:
    """Turn away pictures that are large once decoded, whatever their files are; before they are."""
    if pixels > SMALL_PIXELS:
        raise _Large("a picture is decoded in the event loop where it is small")
    return nullcontext()


def _succeed(future: "asyncio.Future[Rows]", rows: Rows) -> None:
    if not future.done():
        future.set_result(rows)


def _fail(future: "asyncio.Future[Rows]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
