"""A picture in a JSON string: base64 (RFC 4648), bare or in a ``data:`` URL (RFC 2397)."""

from registry.errors import UndecodableInput
from registry.quoting import quoted
from services.api.pieces import from_base64, unquoted
from services.errors import UnsupportedMedia

MAX_DATA_HEADER = 256
"""Characters of a ``data:`` URL before its comma."""

_DATA = "data:"
_WHITE = b" \t\r\n"
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")


def read(item: object, index: int) -> bytes:
    """Return the bytes of a picture.

    Spaces, tabs and line breaks in the base64 are skipped. The alphabet is the standard or the URL-safe one, not
    both. Padding is required. Anything else is refused; URLs are never fetched.

    Args:
        item: the value in the JSON document.
        index: its position there, for errors.

    Raises:
        UndecodableInput: it is not base64.
        UnsupportedMedia: it is a ``data:`` URL of something other than a picture.
    """
    if not isinstance(item, str):
        raise UndecodableInput(f"expected a picture in base64, got {type(item).__name__}", index)
    try:
        return from_base64(item)
    except ValueError:
        return _decoded(_payload(item, index), index)


def _payload(item: str, index: int) -> bytes:
    """Return the base64 of a string or of a ``data:`` URL."""
    if item[: len(_DATA)].lower() == _DATA:
        head, comma, _ = item[: MAX_DATA_HEADER + 1].partition(",")
        if not comma:
            raise UndecodableInput(
                f"a data: URL has a comma within its first {MAX_DATA_HEADER} characters, this one has none",
                index,
            )
        media, *parameters = (field.strip().lower() for field in head[len(_DATA) :].split(";"))
        if not media.startswith("image/"):
            raise UnsupportedMedia(
                f"expected a data: URL of type image/*, got {quoted(media or 'text/plain')} in input {index}"
            )
        if not parameters or parameters[-1] != "base64":
            raise UndecodableInput(
                "expected a data: URL in base64 (data:image/…;base64,…), got one without ';base64'",
                index,
            )
        return unquoted(item[len(head) + 1 :])
    if item[:8].lower().startswith(("http://", "https://")):
        raise UndecodableInput(
            "expected a picture in base64, got a URL; none is fetched: send its bytes", index
        )
    try:
        return item.encode("ascii")
    except UnicodeEncodeError as error:
        raise UndecodableInput(
            f"expected a picture in base64: character {error.start + 1} is not ASCII", index
        ) from error


def _decoded(payload: bytes, index: int) -> bytes:
    compact = payload.translate(None, _WHITE)
    if b"-" in compact or b"_" in compact:
        if b"+" in compact or b"/" in compact:
            raise UndecodableInput(
                "expected a picture in base64: it mixes the standard alphabet ('+', '/') and the URL-safe one "
                "('-', '_')",
                index,
            )
        compact = compact.translate(_TO_STANDARD)
    try:
        return from_base64(compact)
    except ValueError as error:
        raise UndecodableInput(f"expected a picture in base64: {error}", index) from error
