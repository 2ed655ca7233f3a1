"""Image preprocessing: from a file's bytes to uint8 pixels [height, width, channels].

The steps, always in this order: remove the metadata; decode the first frame; rotate it by its EXIF
orientation; reduce greys of more than 8 bits to 8; composite transparency over the background; convert to the
recipe's colour; resize; crop the centre. Normalisation is the first part of the trunk's graph, so a batch
stays uint8 until it reaches the runtime.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from math import floor
from typing import ClassVar, Self, TypeAlias

import numpy as np
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, SAMPLEFORMAT

from registry.errors import InputTooLarge, InvalidInput, InvalidRecipe, UndecodableInput, WrongModality
from registry.quoting import quoted
from registry.recipe import webp
from registry.recipe.effort import check_effort
from registry.recipe.greys import check_deep_colours, eight_bits
from registry.recipe.metadata import bare, orientation_of
from registry.recipe.recipe import Prepared, Raw, Recipe
from registry.signature import TensorSpec

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
"""File suffixes of pictures."""

MAX_PIXELS = 64_000_000
"""Most pixels of one picture, width times height, checked in its header before decoding."""

COLOURS = {"RGB": 3, "L": 1}
INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
NEAREST = "nearest"
DOWN = "down"
CROPS = (NEAREST, DOWN)
_MAX_SIDE = 4096
_MAX_SCALED_PIXELS = 1 << 22
_STRIP_PIXELS = 1 << 20
"""Pixels composited at once: Pillow holds the interpreter lock meanwhile, 10 ms for this number."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transpose operation for each EXIF orientation (EXIF 2.3, tag 0x0112)."""

_SIGNED = 2
"""The TIFF sample format of signed integers (TIFF 6.0, section 19)."""

Remark: TypeAlias = Callable[[str], None]
"""Called with a note for the user about a decoded picture."""

# The limit above is checked in every header; Pillow's own limit would only warn.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True, slots=True)
class ImageRecipe(Recipe):
    """A recipe for pictures.

    Attributes:
        height: height of the result, 1 to 4096.
        width: width of the result, 1 to 4096.
        resize: length to which the shorter side is scaled before the centre crop (as torchvision's
            ``Resize(int)`` and ``CenterCrop``); None scales directly to height and width, ignoring the aspect
            ratio.
        interpolation: Pillow's filter for scaling: nearest, box, bilinear, bicubic, lanczos. Pillow's filters
            antialias when they shrink a picture.
        colour: ``RGB`` or ``L`` (grey).
        background: grey level 0 to 255 behind transparent pixels.
        crop: rounding of the crop's offset: ``nearest``, halves to even (torchvision), or ``down``
            (transformers). The JSON form omits ``nearest``, so that older recipes keep their digests.
    """

    height: int
    width: int
    resize: int | None = None
    interpolation: str = "bilinear"
    colour: str = "RGB"
    background: int = 255
    crop: str = NEAREST

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
        if self.crop not in CROPS:
            raise InvalidRecipe(f"crop is {' or '.join(CROPS)}, got {quoted(self.crop)}")

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
        value = {"modality": self.modality} | {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: each for name, each in value.items() if (name, each) != ("crop", NEAREST)}

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
            case {"modality": "image", "crop": str(crop), **rest} if crop != NEAREST:
                return replace(cls.from_json({"modality": "image"} | rest), crop=crop)
        raise InvalidRecipe(f"an image recipe has seven fields and optionally crop, got {quoted(value, 300)}")

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
        reserve: Callable[[int], AbstractContextManager[None]] | None = None,
        remark: Remark | None = None,
    ) -> np.ndarray:
        """Return a picture file's pixels, uint8 [height, width, channels].

        Args:
            data: the file's bytes; of an animation only the first frame is used.
            max_pixels: most pixels, width times height, in the header.
            reserve: called with the number of pixels in the header; decoding happens inside the returned
                context, so that a server can bound the memory of concurrent decoding.
            remark: called with a note if the grey range was derived from the picture's values.

        Raises:
            UndecodableInput: the bytes are not a complete picture of a known format, or its values have no
                known range.
            InputTooLarge: the picture has more pixels than allowed.
        """
        if not data:
            raise UndecodableInput("expected a picture, got no bytes")
        try:
            file = bare(data)
            if (announced := webp.size_of(file.data)) is not None:
                _check_pixels(*announced, max_pixels)
            with Image.open(io.BytesIO(file.data), formats=FORMATS) as image:
                width, height = image.size
                _check_pixels(width, height, max_pixels)
                check_effort(file.data, width, height)
                with nullcontext() if reserve is None else reserve(width * height):
                    return self.convert(image, file.orientation, remark)
        except InvalidInput:
            raise
        # Pillow's decoders raise a dozen kinds of exception on broken files, including struct.error and
        # IndexError: any failure here is the file's fault.
        except Exception as error:
            raise UndecodableInput(
                f"expected a whole {', '.join(FORMATS[:-1])} or {FORMATS[-1]} picture; {_reason(error)}"
            ) from error

    def convert(
        self, image: Image.Image, orientation: int | None = None, remark: Remark | None = None
    ) -> np.ndarray:
        """Return an opened picture's pixels, uint8 [height, width, channels].

        Args:
            image: opened by Pillow, perhaps not loaded.
            orientation: EXIF's, 1 to 8; None reads it from the picture.
            remark: called with a note if the grey range was derived from the picture's values.

        Raises:
            UndecodableInput: the values have no range that is known.
        """
        stored, ink = _stored(image), _zero_is_white(image)
        image = _flatten(_shallow(_upright(image, orientation), stored, ink, remark), self.background)
        coloured = image if image.mode == self.colour else image.convert(self.colour)
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
        return _crop_centre(
            image, size, (self.width, self.height), filter_, round if self.crop == NEAREST else floor
        )


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Check a picture's announced size.

    Raises:
        InputTooLarge: it has more pixels than allowed.
    """
    if width * height > max_pixels:
        raise InputTooLarge(
            f"a picture may have {max_pixels:,} pixels, this one is {width} x {height} "
            f"= {width * height:,}; scale it down"
        )


def _crop_centre(
    image: Image.Image,
    size: tuple[int, int],
    crop: tuple[int, int],
    filter_: Image.Resampling,
    whole: Callable[[float], int],
) -> Image.Image:
    """Scale to ``size`` and crop the centre to ``crop``, rounded by ``whole``; missing pixels are black.

    Very long pictures would become huge before the crop (a picture of 1 x 60 000 pixels, scaled to a width of
    224, has 3 gigapixels), so only the cropped source region is scaled.
    """
    width, height = size
    left = whole((width - crop[0]) / 2.0)
    top = whole((height - crop[1]) / 2.0)
    if width * height <= _MAX_SCALED_PIXELS or left < 0 or top < 0:
        scaled = image if image.size == size else image.resize(size, filter_)
        return scaled if scaled.size == crop else scaled.crop((left, top, left + crop[0], top + crop[1]))
    across, down = image.size[0] / width, image.size[1] / height
    box = (left * across, top * down, (left + crop[0]) * across, (top + crop[1]) * down)
    return image.resize(crop, filter_, box=box)


def _stored(image: Image.Image) -> str:
    """Return Pillow's raw mode of a picture that is not loaded yet: ``RGB``, ``RGB;16B``, ``I;12``."""
    arguments = image.tile[0].args if isinstance(image, ImageFile.ImageFile) and image.tile else ()
    stored = arguments if isinstance(arguments, str) else next(iter(arguments or ()), "")
    return stored if isinstance(stored, str) else ""


def _zero_is_white(image: Image.Image) -> bool:
    """Tell whether in an unloaded TIFF with deep greys zero is white; Pillow inverts those of up to 8 bits itself.

    Raises:
        UndecodableInput: its values are signed 8-bit integers, whose sign Pillow drops.
    """
    tags = getattr(image, "tag_v2", {})
    if tags.get(SAMPLEFORMAT) == (_SIGNED,) and tags.get(BITSPERSAMPLE) == (8,):
        raise UndecodableInput(
            "expected greys of 8 bits from 0 to 255, this picture's have a sign; save them without"
        )
    return _deep(image) and tags.get(PHOTOMETRIC_INTERPRETATION) == 0


def _deep(image: Image.Image) -> bool:
    """Tell whether a picture has one grey channel of more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _upright(image: Image.Image, orientation: int | None) -> Image.Image:
    """Rotate or mirror a picture by its EXIF orientation."""
    if orientation is None:
        orientation = orientation_of(image)
    image.load()
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _shallow(image: Image.Image, stored: str, ink: bool, remark: Remark | None) -> Image.Image:
    """Reduce a picture to 8 bits per channel; reject one whose precision Pillow has lost."""
    if _deep(image):
        bits = next((bits for bits in (12, 16) if f";{bits}" in stored), 32)
        if image.mode.startswith("I;16"):
            bits = min(bits, 16)
        signed = bits == 16 and stored.endswith("S")
        grey = eight_bits(np.asarray(image), bits, signed=signed, zero_is_white=ink)
        if remark is not None and grey.remark is not None:
            remark(grey.remark)
        return Image.fromarray(grey.pixels, mode="L")
    if ";16" in stored:
        colours = [name for name in image.getbands() if name != "A"]
        check_deep_colours(np.asarray(image.getchannel(name)) for name in colours)
    return image


def _flatten(image: Image.Image, background: int) -> Image.Image:
    """Composite transparency over the background."""
    if image.mode not in ("RGBA", "LA", "PA", "La", "RGBa") and "transparency" not in image.info:
        return image
    width, height = image.size
    flat = Image.new("RGB", image.size)
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(height, top + rows))).convert("RGBA")
        ground = Image.new("RGBA", strip.size, (background, background, background, 255))
        flat.paste(Image.alpha_composite(ground, strip).convert("RGB"), (0, top))
    return flat


def _reason(error: Exception) -> str:
    """Return Pillow's reason without its text for file objects, which contains addresses."""
    text = str(error)
    if "cannot identify" in text or not text:
        return "these bytes have none of these formats"
    return f"decoding stopped: {text[:200]}"
