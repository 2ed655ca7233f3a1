"""Pictures: from a file's bytes to uint8 pixels, heights first, channels last.

The steps, always in this order: decode the first frame; turn it upright by its EXIF
orientation; reduce 16-bit greys to 8; lay transparency over the background; convert to the
recipe's colour; resize; crop the centre. Normalisation is not here: it is the first part of
the trunk's graph, so that a batch stays uint8 until it reaches the runtime.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import ClassVar, Self

import numpy as np
from PIL import Image, ImageOps
from PIL.ExifTags import Base

from registry.errors import InputTooLarge, InvalidRecipe, UndecodableInput, WrongModality
from registry.recipe.recipe import Prepared, Raw, Recipe
from registry.signature import TensorSpec

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 64_000_000
"""Pixels of one picture, width times height, refused from its header before anything is decoded."""

COLOURS = {"RGB": 3, "L": 1}
INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_MAX_SIDE = 4096
_UPRIGHT = 1
_MAX_SCALED_PIXELS = 1 << 22

# The limit above is checked on every header, for every format; Pillow's own would only warn.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True, slots=True)
class ImageRecipe(Recipe):
    """How a picture becomes pixels.

    Attributes:
        height: rows of the result, 1 to 4096.
        width: columns of the result, 1 to 4096.
        resize: length that the shorter side is scaled to before the centre is cropped (as
            torchvision's ``Resize(int)`` and ``CenterCrop``); None scales straight to height
            and width, whatever the proportions.
        interpolation: Pillow's filter for scaling: nearest, box, bilinear, bicubic, lanczos.
            Pillow's filters widen when they shrink a picture, that is, they antialias.
        colour: ``RGB`` or ``L`` (grey).
        background: grey level 0 to 255 that shows through where a picture is transparent.
    """

    height: int
    width: int
    resize: int | None = None
    interpolation: str = "bilinear"
    colour: str = "RGB"
    background: int = 255

    modality: ClassVar[str] = "image"

    def __post_init__(self) -> None:
        for name, size in (("height", self.height), ("width", self.width), ("resize", self.resize)):
            if size is not None and not 1 <= size <= _MAX_SIDE:
                raise InvalidRecipe(f"{name} is 1 to {_MAX_SIDE} pixels, got {size}")
        if self.interpolation not in INTERPOLATIONS:
            raise InvalidRecipe(
                f"interpolation is one of {', '.join(INTERPOLATIONS)}, got {self.interpolation!r}"
            )
        if self.colour not in COLOURS:
            raise InvalidRecipe(f"colour is RGB or L, got {self.colour!r}")
        if not 0 <= self.background <= 255:
            raise InvalidRecipe(f"background is 0 to 255, got {self.background}")

    @property
    def channels(self) -> int:
        """3 for RGB, 1 for grey."""
        return COLOURS[self.colour]

    @property
    def fields(self) -> tuple[TensorSpec, ...]:
        """One field: ``pixels``, uint8 [batch, height, width, channels]."""
        return (TensorSpec("pixels", "uint8", ("batch", self.height, self.width, self.channels)),)

    def to_json(self) -> dict[str, object]:
        """Return the recipe as plain JSON values."""
        return {"modality": self.modality} | {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Self:
        """Read the JSON form.

        Raises:
            InvalidRecipe: a key is missing, unknown, of another type or out of range.
        """
        match value:
            case {
                "modality": "image",
                "height": int(height),
                "width": int(width),
                "resize": int() | None as resize,
                "interpolation": str(interpolation),
                "colour": str(colour),
                "background": int(background),
                **rest,
            } if not rest:
                return cls(height, width, resize, interpolation, colour, background)
        raise InvalidRecipe(f"a picture's recipe has exactly its seven fields, got {value!r:.300}")

    def prepare(self, item: Raw) -> Prepared:
        """Decode a file's bytes: ``{"pixels": uint8 [height, width, channels]}``.

        Raises:
            WrongModality: the item is a text.
            UndecodableInput: the bytes are not a whole picture of a known format.
            InputTooLarge: the header announces more than 64 megapixels.
        """
        if not isinstance(item, bytes):
            raise WrongModality("this model takes pictures, got a text")
        return {"pixels": self.decode(item)}

    def collate(self, rows: Sequence[Prepared]) -> dict[str, np.ndarray]:
        """Stack prepared items: ``{"pixels": uint8 [batch, height, width, channels]}``."""
        return {"pixels": np.array([row["pixels"] for row in rows])}

    def blanks(self) -> tuple[Prepared, ...]:
        """One black picture."""
        return ({"pixels": np.zeros((self.height, self.width, self.channels), np.uint8)},)

    def decode(
        self,
        data: bytes,
        max_pixels: int = MAX_PIXELS,
        room: Callable[[int], AbstractContextManager[None]] | None = None,
    ) -> np.ndarray:
        """Return a picture file's pixels, uint8 [height, width, channels].

        Args:
            data: the file's bytes; of an animation the first frame counts.
            max_pixels: width times height that the header may announce.
            room: called with the announced pixels; decoding happens inside the context that it
                returns, so that a server can bound the memory of several at once.

        Raises:
            UndecodableInput: the bytes are not a whole picture of a known format.
            InputTooLarge: the picture has more pixels than allowed.
        """
        if not data:
            raise UndecodableInput("expected a picture, got no bytes")
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                if width * height > max_pixels:
                    raise InputTooLarge(
                        f"a picture may have {max_pixels:,} pixels, this one is {width} x {height} "
                        f"= {width * height:,}; scale it down"
                    )
                with nullcontext() if room is None else room(width * height):
                    return self.convert(image)
        except InputTooLarge:
            raise
        # Pillow's decoders raise a dozen kinds of exception on broken files, struct.error and
        # IndexError among them: whatever goes wrong in here, the file is to blame.
        except Exception as error:
            raise UndecodableInput(
                f"expected a whole {', '.join(FORMATS[:-1])} or {FORMATS[-1]} picture; {_reason(error)}"
            ) from error

    def convert(self, image: Image.Image) -> np.ndarray:
        """Return an opened picture's pixels, uint8 [height, width, channels]."""
        coloured = _flatten(_upright(image), self.colour, self.background)
        pixels = np.frombuffer(self._scale(coloured).tobytes(), np.uint8)
        return pixels.reshape(self.height, self.width, self.channels)

    def _scale(self, image: Image.Image) -> Image.Image:
        filter_ = INTERPOLATIONS[self.interpolation]
        if self.resize is None:
            return (
                image
                if image.size == (self.width, self.height)
                else image.resize((self.width, self.height), filter_)
            )
        width, height = image.size
        short = min(width, height)
        size = (max(1, int(self.resize * width / short)), max(1, int(self.resize * height / short)))
        return _crop_centre(image, size, (self.width, self.height), filter_)


def _crop_centre(
    image: Image.Image, size: tuple[int, int], crop: tuple[int, int], filter_: Image.Resampling
) -> Image.Image:
    """Scale to ``size`` and cut ``crop`` out of the middle, torchvision's rounding, black where it is too small.

    Very long pictures would grow huge before they are cropped (a picture of 1 x 60 000 pixels, scaled to
    224 wide, has 3 gigapixels), so only the source region that the crop shows is scaled.
    """
    width, height = size
    left = round((width - crop[0]) / 2.0)
    top = round((height - crop[1]) / 2.0)
    if width * height <= _MAX_SCALED_PIXELS or left < 0 or top < 0:
        scaled = image if image.size == size else image.resize(size, filter_)
        return scaled if scaled.size == crop else scaled.crop((left, top, left + crop[0], top + crop[1]))
    across, down = image.size[0] / width, image.size[1] / height
    box = (left * across, top * down, (left + crop[0]) * across, (top + crop[1]) * down)
    return image.resize(crop, filter_, box=box)


def _upright(image: Image.Image) -> Image.Image:
    """Turn a picture by its EXIF orientation; Pillow would copy those that need no turning."""
    image.load()  # some formats keep their EXIF behind the pixels
    if image.getexif().get(Base.Orientation, _UPRIGHT) == _UPRIGHT:
        return image
    return ImageOps.exif_transpose(image)


def _flatten(image: Image.Image, colour: str, background: int) -> Image.Image:
    """Reduce to 8 bits, lay transparency over the background and convert to a colour."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _eight_bits(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (background, background, background, 255))
        image = Image.alpha_composite(ground, image)
    return image if image.mode == colour else image.convert(colour)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit greys to 8 bits; Pillow's own conversion would clip them to white."""
    values = np.asarray(image, dtype=np.float64)
    if image.mode == "F" and np.nanmax(values, initial=0.0) <= 1.0:
        values = values * 65535.0
    values = np.nan_to_num(values)
    return Image.fromarray(np.clip(values / 257.0 + 0.5, 0, 255).astype(np.uint8), mode="L")


def _reason(error: Exception) -> str:
    """Say what Pillow found, without its own words for file objects (they hold addresses)."""
    text = str(error)
    if "cannot identify" in text or not text:
        return "these bytes are none of them"
    return f"decoding stopped: {text[:200]}"
