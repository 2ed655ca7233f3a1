"""Strict reading of JSON objects."""

from typing import TypeVar

from registry.errors import InvalidManifest
from registry.quoting import quoted

_T = TypeVar("_T")


class Entry:
    """Reads one JSON object key by key, and refuses what was not asked for.

    Every method raises ``InvalidManifest`` where the object is otherwise.

    Args:
        what: the object's name in errors.
        value: the object.
    """

    def __init__(self, what: str, value: object) -> None:
        self._what = what
        self._left = dict(of_type(value, dict, f"a {what}"))

    def take(self, key: str, type_: type[_T]) -> _T:
        """Take the value of a key that has to be there, and be of a type."""
        if key not in self._left:
            raise InvalidManifest(f"a {self._what} has a key {key!r}, this one has not")
        return of_type(self._left.pop(key), type_, f"{key!r} of a {self._what}")

    def optional(self, key: str, type_: type[_T]) -> _T | None:
        """Take the value of a key that has to be there, of a type or null."""
        if key in self._left and self._left[key] is None:
            del self._left[key]
            return None
        return self.take(key, type_)

    def mapping(self, key: str, type_: type[_T], what: str) -> dict[str, _T]:
        """Take an object whose values are all of one type."""
        return {name: of_type(value, type_, what) for name, value in self.take(key, dict).items()}

    def holds(self, key: str) -> bool:
        """Whether a key is there and was not taken."""
        return key in self._left

    def close(self) -> None:
        """Refuse what was not taken."""
        if self._left:
            raise InvalidManifest(f"a {self._what} has no key {quoted(next(iter(self._left)))}")


def of_type(value: object, type_: type[_T], what: str) -> _T:
    """Return a value that has to be of a type; raises ``InvalidManifest``, which names it by ``what``."""
    if not isinstance(value, type_) or (isinstance(value, bool) and type_ is not bool):
        raise InvalidManifest(f"{what} is {type_.__name__}, got {quoted(value)}")
    return value
