"""Hyper-parameters: frozen dataclasses, read from TOML and options; unknown keys are rejected."""

import tomllib
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from adapters import textfile
from registry.errors import InvalidSetting
from registry.quoting import quoted
from registry.suggestion import suggestion

MAX_FILE_BYTES = 1 << 20

_T = TypeVar("_T")


def read_file(path: Path) -> dict[str, object]:
    """Return the keys of a TOML file.

    Raises:
        InvalidSetting: there is no such file, it is over 1 MiB, or it is not TOML.
    """
    text = textfile.read(path, MAX_FILE_BYTES, "a TOML file")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidSetting(f"{path}: expected TOML; {error}") from error


def settings(file: str | None, flags: Mapping[str, object]) -> dict[str, object]:
    """Return the keys of an optional TOML file, overridden by the given options.

    Args:
        file: path of the file, or None.
        flags: options by name; None if not given.

    Raises:
        InvalidSetting: the file cannot be read.
    """
    written = {} if file is None else read_file(Path(file))
    return written | {name: value for name, value in flags.items() if value is not None}


def assigned(assignments: Sequence[str]) -> dict[str, object]:
    """Parse ``KEY=VALUE`` texts, with values in TOML syntax; a bare word is a string.

    Raises:
        InvalidSetting: a text has another form, or more than one assignment.
    """
    found: dict[str, object] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise InvalidSetting(f"expected KEY=VALUE, got {quoted(text)}")
        try:
            read = tomllib.loads(f"value = {value}")
        except tomllib.TOMLDecodeError:
            read = {"value": value}
        if len(read) > 1:
            raise InvalidSetting(
                f"expected one KEY=VALUE, got several lines: {quoted(text)}; set each key by itself"
            )
        found[key] = read["value"]
    return found


def configure(cls: type[_T], values: Mapping[str, object], what: str) -> _T:
    """Build a frozen dataclass from plain values.

    Args:
        cls: a dataclass whose fields are all keyword arguments.
        values: values by key; an absent key takes the field's default.
        what: the owner's name in messages.

    Raises:
        InvalidSetting: a key is unknown (the message suggests the nearest one) or missing, or a value has
            another type or is out of range.
    """
    known = {field.name: field for field in fields(cls) if field.init}  # type: ignore[arg-type]  # no type says dataclass
    for key in values:
        if key not in known:
            raise InvalidSetting(f"{what} has no setting {quoted(key)}{_nearest(key, list(known))}")
    hints = get_type_hints(cls)
    settled: dict[str, Any] = {}
    for name, field in known.items():
        if name in values:
            settled[name] = _typed(values[name], hints[name], f"{what}: {name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise InvalidSetting(f"{what} needs a setting {name!r}")
    return cls(**settled)


def check(holds: bool, what: str, name: str, want: str, got: object) -> None:
    """Check that a setting is in its range.

    Raises:
        InvalidSetting: unless ``holds``.
    """
    if not holds:
        raise InvalidSetting(f"{what}: {name} is {want}, got {got!r}")


def _nearest(key: str, known: list[str]) -> str:
    if not known:
        return "; it takes none"
    return suggestion(key, known) or f"; it has {', '.join(sorted(known))}"


def _typed(value: object, hint: Any, what: str) -> object:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        choices = [choice for choice in arguments if choice is not type(None)]
        if value is None and len(choices) < len(arguments):
            return None
        return _typed(value, choices[0], what)
    if origin is Literal:
        if value in arguments and isinstance(value, str):
            return value
        raise InvalidSetting(f"{what} is one of {', '.join(map(str, arguments))}, got {value!r}")
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise InvalidSetting(f"{what} is a list, got {quoted(value)}")
        return tuple(_typed(each, arguments[0], f"{what}, an entry") for each in value)
    plain = origin or hint
    if plain is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, plain) or (isinstance(value, bool) and plain is not bool):
        raise InvalidSetting(f"{what} is {getattr(plain, '__name__', plain)}, got {quoted(value)}")
    return value
