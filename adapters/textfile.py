"""Small text files named by a user."""

from pathlib import Path

from registry.errors import InvalidSetting


def read(path: Path, most: int, what: str) -> str:
    """Read a whole file in UTF-8, with or without a byte order mark.

    Args:
        path: path of the file.
        most: largest size in bytes.
        what: what the file is, with an article, for messages.

    Raises:
        InvalidSetting: there is no such file, it is larger, or not in UTF-8.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(most + 1)
    except OSError as error:
        raise InvalidSetting(f"expected {what} at {path}: {error.strerror}") from error
    if len(data) > most:
        raise InvalidSetting(f"{path} is too large: {what} has at most {most:,} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidSetting(f"{path}: expected {what} in UTF-8; byte {error.start} is not") from error
