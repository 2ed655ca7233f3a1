"""Probes: seeded inputs of many kinds for comparing two ways of preprocessing and inference."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from PIL.ExifTags import Base
from tokenizers import Tokenizer

from adapters.sources.reference import Given
from registry.errors import InvalidValue
from registry.recipe import ImageRecipe, Raw, Recipe, TextRecipe

COUNT = 16


@dataclass(frozen=True, slots=True)
class Probe:
    """One input, in the two forms in which the two sides take it.

    Attributes:
        name: what it is, for messages.
        raw: what a recipe prepares: a picture file's bytes, a text or a pair.
        given: what a provider's code takes; see :data:`adapters.sources.reference.Given`.
    """

    name: str
    raw: Raw = field(repr=False)
    given: Given = field(repr=False)


def probes_for(recipe: Recipe) -> tuple[Probe, ...]:
    """Return the 16 probes of a recipe, always the same ones; those that tell the most come first.

    Raises:
        InvalidValue: the recipe is of neither pictures nor texts.
    """
    if isinstance(recipe, ImageRecipe):
        return tuple(_pictures(recipe))
    if isinstance(recipe, TextRecipe):
        return tuple(_texts(recipe))
    raise InvalidValue(f"expected a recipe of pictures or texts, got {type(recipe).__name__}")


def _pictures(recipe: ImageRecipe) -> Iterator[Probe]:
    """Yield pictures of several sizes, proportions, formats and modes."""
    random = np.random.default_rng(0)
    short = recipe.resize or min(recipe.height, recipe.width)
    sizes = (
        (500, 375),
        (375, 500),
        (recipe.width, recipe.height),
        (short, short),
        (640, 480),
        (61, 47),
        (333, 97),
        (3, 5),
    )
    for number, (width, height) in enumerate(sizes):
        yield _saved(f"PNG of {width} x {height}", _photograph(random, width, height, rough=number % 2 == 1))
    whole = _photograph(random, 300, 200)
    for name, made in _MODES.items():
        yield made(name, whole)


def _photograph(random: np.random.Generator, width: int, height: int, *, rough: bool = False) -> Image.Image:
    """Draw smooth shades with sharp edges and some grain, as a photograph has; or plain noise."""
    if rough:
        return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
    shades = Image.fromarray(random.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    values = np.asarray(shades.resize((width, height), Image.Resampling.BICUBIC), np.int16).copy()
    values[height // 3 : height // 2, width // 4 : width // 2] = random.integers(0, 256, 3)
    values += random.integers(-12, 13, values.shape, dtype=np.int16)
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def _saved(
    name: str, picture: Image.Image, given: Image.Image | None = None, kind: str = "PNG", **options: object
) -> Probe:
    """Write a picture to a file; ``given`` is what the file shows, where that is not the picture itself."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    data = buffer.getvalue()
    if kind == "JPEG" and given is None:
        given = Image.open(io.BytesIO(data)).convert("RGB")
    return Probe(name, data, given or picture)


def _jpeg(name: str, picture: Image.Image) -> Probe:
    return _saved(name, picture, kind="JPEG", quality=90)


def _turned(name: str, picture: Image.Image) -> Probe:
    """Write a JPEG whose EXIF orientation (6) says to turn it by 90 degrees clockwise."""
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    probe = _saved(name, picture, kind="JPEG", exif=exif, quality=95)
    assert isinstance(probe.given, Image.Image), "a picture's probe"
    return Probe(name, probe.raw, probe.given.transpose(Image.Transpose.ROTATE_270))


def _grey(name: str, picture: Image.Image) -> Probe:
    grey = picture.convert("L")
    return _saved(name, grey, Image.merge("RGB", [grey] * 3))


def _grey_16(name: str, picture: Image.Image) -> Probe:
    """Write 16-bit greys that are 257 times 8-bit ones, so that both say the same."""
    grey = np.asarray(picture.convert("L"))
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    return _saved(name, deep, Image.fromarray(np.stack([grey] * 3, axis=2)))


def _bilevel(name: str, picture: Image.Image) -> Probe:
    two = picture.convert("1")
    return _saved(name, two, two.convert("RGB"))


def _palette(name: str, picture: Image.Image) -> Probe:
    few = picture.quantize(32)
    colours = np.asarray(few.getpalette("RGB"), np.uint8).reshape(-1, 3)
    return _saved(name, few, Image.fromarray(colours[np.asarray(few)]))


def _holed(name: str, picture: Image.Image) -> Probe:
    """Write RGBA, opaque but for a hole; what shows through it is white."""
    values = np.asarray(picture).copy()
    alpha = np.full(values.shape[:2], 255, np.uint8)
    alpha[20:90, 30:200] = 0
    holed = Image.fromarray(np.dstack([values, alpha]))
    values[alpha == 0] = 255
    return _saved(name, holed, Image.fromarray(values))


def _cmyk(name: str, picture: Image.Image) -> Probe:
    return _saved(name, picture.convert("CMYK"), kind="JPEG", quality=95)


_MODES: dict[str, Callable[[str, Image.Image], Probe]] = {
    "JPEG": _jpeg,
    "JPEG that is turned by its EXIF orientation": _turned,
    "grey PNG": _grey,
    "PNG with a palette": _palette,
    "PNG with a transparent hole": _holed,
    "grey PNG of 16 bits": _grey_16,
    "PNG of 1 bit": _bilevel,
    "CMYK JPEG": _cmyk,
}

_USUAL_SPECIALS = "[CLS] [SEP] [PAD] [MASK] [UNK] <s> </s> <pad> <mask> <unk> <|endoftext|>"
_ENGLISH = (
    "The quick brown fox jumps over the lazy dog; it isn't amused, though it never said why. "
    "Prices rose 3.5% to $1,204.99 (see https://example.org/a?b=c&d=e#f), wrote jane.doe@example.org."
)


def _texts(recipe: TextRecipe) -> Iterator[Probe]:
    """Yield texts of several scripts, cases and lengths, pairs, and words of the vocabulary."""
    random = np.random.default_rng(0)
    words = _words(recipe)

    def drawn(count: int) -> str:
        return " ".join(words[index] for index in random.integers(0, len(words), count))

    specials = " ".join(_special_tokens(recipe))
    texts: dict[str, str | tuple[str, str]] = {
        "English": _ENGLISH,
        "words of the vocabulary": drawn(min(40, recipe.max_length)),
        "text over the longest length": drawn(2 * recipe.max_length + 40),
        "pair": (
            "How many people live in Berlin?",
            "Berlin had 3,520,031 registered inhabitants. " + drawn(5),
        ),
        "pair over the longest length": (drawn(recipe.max_length), drawn(recipe.max_length + 7)),
        "capitals": "NASA SAID: İSTANBUL, STRASSE, ÉCOLE, CamelCase iPhone McDonald ǅ",
        "accents": "Voilà: naïve café, Ångström, smörgåsbord, ﬁnal cafe\u0301 A\u030a ñ n\u0303 Việt Nam",
        "Cyrillic and Greek": "Съешь же ещё этих мягких французских булок; Ο Σίσυφος ΣΊΣΥΦΟΣ",
        "Chinese, Japanese, Korean": "我爱北京天安门。吾輩は猫である。ｱｲｳ 안녕하세요 세계 𠮷野家",
        "Arabic, Persian, Hebrew": "مرحبا بالعالم، می\u200cخواهم כתב עִבְרִית",
        "Devanagari, Thai, Tamil": "नमस्ते दुनिया ภาษาไทยไม่มีช่องว่าง தமிழ்",
        "emoji": "👍🏽 👩\u200d👩\u200d👧 🇩🇪 ☺️ ok :-) ❤",
        "special tokens as text": f"a {_USUAL_SPECIALS} b{specials}c {specials}",
        "white space and controls": "  two  spaces\tand\ttabs\r\nlines\u00a0hard\u200bzero\u3000wide\x07bell\ufeff ",
        "a long word": f"{'pneumono' * 40} {'7' * 120} {'-' * 60} {'.' * 30} o'clock don't ____ a_b_c",
        "one letter": "a",
    }
    for name, text in texts.items():
        yield Probe(name, text, text)


def _words(recipe: TextRecipe) -> list[str]:
    """Return words of the vocabulary as a text would write them, without marks of their place in a word."""
    vocabulary = Tokenizer.from_str(recipe.tokenizer).get_vocab(with_added_tokens=False)
    marks = str.maketrans("", "", "▁Ġ#")
    words = {word.translate(marks) for word in vocabulary}
    return sorted(word for word in words if word.isalnum()) or ["a"]


def _special_tokens(recipe: TextRecipe) -> list[str]:
    """Return the tokens that the tokenizer finds in a text before anything else."""
    added = Tokenizer.from_str(recipe.tokenizer).get_added_tokens_decoder()
    return [added[number].content for number in sorted(added)][:16]
