"""Content digests, and canonical JSON."""

import hashlib
import json
import re
from typing import BinaryIO, Self

from registry.errors import InvalidDigest, InvalidValue
from registry.quoting import quoted

PREFIX = "sha256:"
_PATTERN = re.compile(r"sha256:[0-9a-f]{64}")
_CHUNK_BYTES = 1 << 20


class Digest(str):
    """The sha256 of some bytes, as ``sha256:`` and 64 lower-case hexadecimal digits.

    A ``str``, so that it can be sorted, hashed, and used in JSON and SQL directly.

    Raises:
        InvalidDigest: the text has another form.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:  # noqa: D102 - the class says what it takes and raises
        if _PATTERN.fullmatch(text) is None:
            raise InvalidDigest(
                f"a digest is 'sha256:' and 64 lower-case hexadecimal digits, got {quoted(text)}"
            )
        return super().__new__(cls, text)

    @property
    def hex(self) -> str:
        """The 64 hexadecimal digits, without the prefix."""
        return self[len(PREFIX) :]

    @property
    def short(self) -> str:
        """The first twelve digits, for display."""
        return self.hex[:12]

    @classmethod
    def of(cls, *parts: bytes | memoryview) -> Self:
        """Return the digest of the concatenated parts."""
        state = hashlib.sha256()
        for part in parts:
            state.update(part)
        return cls(PREFIX + state.hexdigest())

    @classmethod
    def of_stream(cls, stream: BinaryIO) -> Self:
        """Return the digest of the rest of a binary stream, read in chunks of 1 MiB."""
        state = hashlib.sha256()
        while chunk := stream.read(_CHUNK_BYTES):
            state.update(chunk)
        return cls(PREFIX + state.hexdigest())

    @classmethod
    def of_json(cls, value: object) -> Self:
        """Return the digest of a value's canonical JSON."""
        return cls.of(canonical_json(value))


def canonical_json(value: object) -> bytes:
    """Return the one UTF-8 encoding of a JSON value: sorted keys, no spaces, no NaN.

    Raises:
        InvalidValue: the value contains something that JSON cannot express.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidValue(f"expected plain finite JSON values, got something else: {error}") from error
    return text.encode()
