"""Strict parsing of JSON objects."""

from typing import TypeVar

from registry.errors import InvalidManifest
from registry.quoting import quoted

_T = TypeVar("_T")


class Entry:
    """Parses one JSON object key by key, and rejects unknown keys.

    Every method raises ``InvalidManifest`` if the object is not as expected.

    Args:
        what: the object's name in errors.
        value: the object.
    """

    def __init__(self, what: str, value: object) -> None:
        self._what = what
        self._left = dict(of_type(value, dict, f"a {what}"))

    def take(self, key: str, type_: type[_T]) -> _T:
        """Take the value of a required key with a type."""
        if key not in self._left:
            raise InvalidManifest(f"a {self._what} has a key {key!r}, this one has not")
        return of_type(self._left.pop(key), type_, f"{key!r} of a {self._what}")

    def optional(self, key: str, type_: type[_T]) -> _T | None:
        """Take the value of a required key with a type, or null."""
        if key in self._left and self._left[key] is None:
            del self._left[key]
            return None
        return self.take(key, type_)

    def mapping(self, key: str, type_: type[_T], what: str) -> dict[str, _T]:
        """Take an object whose values all have one type."""
        return {name: of_type(value, type_, what) for name, value in self.take(key, dict).items()}

    def holds(self, key: str) -> bool:
        """Tell whether a key exists and was not taken."""
        return key in self._left

    def close(self) -> None:
        """Reject the keys that were not taken."""
        if self._left:
            raise InvalidManifest(f"a {self._what} has no key {quoted(next(iter(self._left)))}")


def of_type(value: object, type_: type[_T], what: str) -> _T:
    """Check a value's type and return the value; raises ``InvalidManifest``, which names it by ``what``."""
    if not isinstance(value, type_) or (isinstance(value, bool) and type_ is not bool):
        raise InvalidManifest(f"{what} is {type_.__name__}, got {quoted(value)}")
    return value
