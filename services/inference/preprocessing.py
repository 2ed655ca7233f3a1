"""Preprocessing: turns the raw inputs of a request into rows of a batch, by the version's own recipe.

It runs in the engine's worker threads. Threads are enough, as Pillow releases the interpreter's lock while it decodes
and scales, and so does the tokenizer. A picture's header gives the effort before it is decoded.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from time import perf_counter

from PIL import Image

from registry.errors import InputTooLarge, InvalidInput
from registry.recipe import ImageRecipe, Prepared, Raw, Recipe, TextRecipe, webp
from registry.recipe.image import MAX_PIXELS
from registry.recipe.text import MAX_TEXT_CHARACTERS
from services.engine import Arrays, Effort, EffortExceeded, Preparation

HUGE_PIXELS = 16_000_000
"""Pictures of more pixels are decoded one at a time: RGB held twice in memory is 96 MB."""

WEBP_PIXELS = 16_000_000
"""A served WebP picture has at most this many pixels. Pillow opens and copies one with the interpreter's lock held: 64
megapixels stopped everything else in the process for 0.7 to 1.7 s, this many for a quarter of that."""

LARGE_PIXELS = 4_000_000
"""Pictures of more pixels take longer than most runs, and are decoded separately."""

SMALL_PIXELS = 16_384
"""Pictures of up to this many pixels, 128 x 128, are decoded in about 0.2 ms."""
SMALL_BYTES = 32_768
SMALL_CHARACTERS = 1_000
_SMALL_INPUTS = 4
"""A request of more inputs is not small, whatever their sizes."""


@dataclass(frozen=True, slots=True)
class InputLimits:
    """Limits on one input.

    Attributes:
        pixels: width times height of a picture.
        characters: characters of a text, or of both texts of a pair.
        request_pixels: pixels of all pictures of a request together.
    """

    pixels: int = MAX_PIXELS
    characters: int = MAX_TEXT_CHARACTERS
    request_pixels: int = 4 * MAX_PIXELS


class RawInputs(Preparation):
    """The raw inputs of one request, prepared by a recipe.

    Args:
        recipe: prepares them.
        inputs: one or more raw inputs.
        limits: limits on each input, and on all pictures together.
        observe: called with the seconds that preparing all of them took, without waiting.
    """

    __slots__ = ("_inputs", "_left", "_limits", "_lock", "_observe", "_pixels", "_recipe", "_seconds")

    def __init__(
        self, recipe: Recipe, inputs: Sequence[Raw], limits: InputLimits, observe: Callable[[float], None]
    ) -> None:
        self._recipe = recipe
        self._inputs = inputs
        self._limits = limits
        self._observe = observe
        self._lock = threading.Lock()
        self._left = len(inputs)
        self._pixels = 0
        self._seconds = 0.0

    @property
    def small(self) -> bool:
        """Whether there are few inputs, each of few bytes or characters."""
        return len(self._inputs) <= _SMALL_INPUTS and all(map(_is_small, self._inputs))

    def __len__(self) -> int:
        return len(self._inputs)

    def prepare(self, index: int, most: Effort) -> Arrays:
        """Return one input as a row, as ``Preparation.prepare`` does.

        Raises:
            EffortExceeded: the picture has more pixels than this effort allows.
            InvalidInput: it cannot be prepared; ``index`` names it.
        """
        began = perf_counter()

        item = self._inputs[index]
        _check_webp(item, index)

        def reserve(pixels: int) -> AbstractContextManager[None]:
            effort = _effort(pixels)
            if effort > most:
                raise EffortExceeded(effort)
            self._count(pixels)
            return nullcontext()

        row = prepare_input(self._recipe, item, index, self._limits, reserve)
        with self._lock:
            self._left -= 1
            self._seconds += perf_counter() - began
            if not self._left:
                self._observe(self._seconds)
        return row

    def collate(self, rows: Sequence[Arrays]) -> Arrays:
        """Return rows as a batch, texts padded to one length."""
        return self._recipe.collate(rows)

    def _count(self, pixels: int) -> None:
        """Count a picture's pixels against the limit of its request.

        Raises:
            InputTooLarge: the pictures so far have too many.
        """
        with self._lock:
            self._pixels += pixels
            if self._pixels > self._limits.request_pixels:
                raise InputTooLarge(
                    f"the pictures of a request may have {self._limits.request_pixels:,} pixels together, "
                    "these have more; send fewer at once, or scale them down"
                )


class Shared(Preparation):
    """Inputs of several models, each prepared once, when the first model needs it.

    Args:
        preparation: prepares them.
    """

    __slots__ = ("_locks", "_preparation", "_rows")

    def __init__(self, preparation: Preparation) -> None:
        self._preparation = preparation
        self._rows: list[Arrays | None] = [None] * len(preparation)
        self._locks = [threading.Lock() for _ in range(len(preparation))]

    @property
    def small(self) -> bool:
        """Whether all inputs together are probably small."""
        return self._preparation.small

    def __len__(self) -> int:
        return len(self._preparation)

    def prepare(self, index: int, most: Effort) -> Arrays:
        """Return one input as a row, as ``Preparation.prepare`` does; a second caller waits for the first."""
        with self._locks[index]:
            row = self._rows[index]
            if row is None:
                row = self._rows[index] = self._preparation.prepare(index, most)
        return row

    def collate(self, rows: Sequence[Arrays]) -> Arrays:
        """Return rows as a batch."""
        return self._preparation.collate(rows)


def prepare_input(
    recipe: Recipe,
    item: Raw,
    index: int,
    limits: InputLimits,
    room: Callable[[int], AbstractContextManager[None]] | None = None,
) -> Prepared:
    """Prepare one of several inputs.

    Raises:
        InvalidInput: the input cannot be prepared; ``index`` names it.
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


def load_plugins() -> None:
    """Import Pillow's plugins for the accepted formats, not the forty others, before the first picture needs them."""
    Image.preinit()
    for plugin in ("TiffImagePlugin", "WebPImagePlugin"):
        import_module(f"PIL.{plugin}")


def _check_webp(item: Raw, index: int) -> None:
    """Refuse a large WebP picture before it is opened.

    Raises:
        InputTooLarge: it has more than 16 megapixels.
    """
    size = webp.size_of(item) if isinstance(item, bytes) else None
    if size is not None and size[0] * size[1] > WEBP_PIXELS:
        raise InputTooLarge(
            f"a WebP picture may have {WEBP_PIXELS:,} pixels, this one is {size[0]} x {size[1]}; "
            "send it as JPEG, or scale it down",
            index,
        )


def _effort(pixels: int) -> Effort:
    if pixels <= SMALL_PIXELS:
        return Effort.SMALL
    if pixels <= LARGE_PIXELS:
        return Effort.MODERATE
    return Effort.LARGE if pixels <= HUGE_PIXELS else Effort.HUGE


def _is_small(item: Raw) -> bool:
    if isinstance(item, bytes):
        return len(item) <= SMALL_BYTES
    return sum(map(len, (item,) if isinstance(item, str) else item)) <= SMALL_CHARACTERS
