"""A JSON reader for request bodies that enforces limits while it reads.

A general parser builds the whole document before it can be counted: 31 MiB of ``[[],[],…]`` held the interpreter's
lock, and so every other request, for seconds. This reader accepts only what requests may hold: an object of scalars,
and of lists of texts or of pairs of texts. It stops at the first violation. The standard library's scanner in C
reads the strings.
"""

import re
from functools import cached_property
from json import JSONDecodeError
from typing import TypeAlias

from registry.errors import InputTooLarge, UndecodableInput
from services.api.pieces import PIECE, decoded, find, string
from services.errors import MalformedRequest

Scalar: TypeAlias = str | int | float | bool | None
Item: TypeAlias = "Scalar | list[Scalar]"
Value: TypeAlias = "Scalar | list[Item]"

MAX_KEYS = 8
_MAX_KEY_CHARACTERS = 100
_MAX_IN_PAIR = 8
"""Texts of one item. The caller refuses items that are not pairs."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})(?P<real>(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,3})?)")
_WORD = re.compile(r"true|false|null")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}


def read(body: bytes, max_items: int) -> dict[str, Value]:
    """Read a JSON object whose values are scalars, lists of scalars, and lists of lists of scalars.

    Args:
        body: in UTF-8.
        max_items: of each list.

    Raises:
        MalformedRequest: it is not such an object; the message gives the position.
        UndecodableInput: an item of a list nests deeper, or holds an object.
        InputTooLarge: a list has too many items.
    """
    try:
        text = decoded(body)
    except UnicodeDecodeError as error:
        raise MalformedRequest(f"expected a JSON document in UTF-8: byte {error.start} is not") from error
    return _JsonReader(text, max_items).document()


class _JsonReader:
    """A reader with its position in the text."""

    def __init__(self, text: str, max_items: int) -> None:
        self._text = text
        self._max_items = max_items
        self._at = 0

    def document(self) -> dict[str, Value]:
        self._expect("{", "a JSON object")
        found: dict[str, Value] = {}
        if self._next() == "}":
            self._at += 1
        else:
            self._members(found)
        if self._next():
            raise self._expected("nothing after the document")
        return found

    def _members(self, found: dict[str, Value]) -> None:
        while True:
            if self._next() != '"':
                raise self._expected("a key in quotes")
            key = self._string()
            if len(found) == MAX_KEYS or len(key) > _MAX_KEY_CHARACTERS:
                raise self._expected(f"at most {MAX_KEYS} keys of at most {_MAX_KEY_CHARACTERS} characters")
            if key in found:
                raise self._expected(f"each key once, got {key!r} again")
            self._expect(":", "a colon")
            found[key] = self._value()
            if self._ends("}"):
                return

    def _value(self) -> Value:
        match self._next():
            case "[":
                return self._list()
            case '"':
                return self._string()
            case "{":
                raise self._expected("a value or a list of texts, got an object")
        return self._scalar()

    def _list(self) -> list[Item]:
        self._at += 1
        items: list[Item] = []
        if self._next() == "]":
            self._at += 1
            return items
        while True:
            if len(items) == self._max_items:
                raise InputTooLarge(f"a request holds at most {self._max_items} inputs, got more")
            items.append(self._element(len(items)))
            if self._ends("]"):
                return items

    def _element(self, index: int) -> Item:
        if self._next() != "[":
            return self._inner(index)
        self._at += 1
        inner: list[Scalar] = []
        if self._next() == "]":
            self._at += 1
            return inner
        while True:
            if len(inner) == _MAX_IN_PAIR:
                raise UndecodableInput("a pair is a list of two texts, got more", index)
            inner.append(self._inner(index))
            if self._ends("]"):
                return inner

    def _inner(self, index: int) -> Scalar:
        match self._next():
            case '"':
                return self._string()
            case "[":
                raise UndecodableInput(
                    "an input is a text, a pair of texts or a picture in base64, got a list of lists", index
                )
            case "{":
                raise UndecodableInput(
                    "an input is a text, a pair of texts or a picture in base64, got an object", index
                )
        return self._scalar()

    def _string(self) -> str:
        try:
            value, self._at = string(self._text, self._at + 1)
        except JSONDecodeError as error:
            self._at = error.pos
            raise self._expected(f"a well-formed string ({error.msg})") from error
        if not value.isascii() and self._has_escapes and _has_surrogates(value):
            raise self._expected("whole Unicode characters, got half of a pair")
        return value

    @cached_property
    def _has_escapes(self) -> bool:
        return find(self._text, "\\u") >= 0

    def _scalar(self) -> Scalar:
        if word := _WORD.match(self._text, self._at):
            self._at = word.end()
            return _WORDS[word[0]]
        if number := _NUMBER.match(self._text, self._at):
            self._at = number.end()
            return float(number[0]) if number["real"] else int(number[0])
        raise self._expected("a JSON value")

    def _next(self) -> str:
        """Skip white space and return the next character, or an empty string at the end."""
        text = self._text
        space = _SPACE.match(text, self._at)
        self._at = self._at if space is None else space.end()
        return text[self._at : self._at + 1]

    def _expect(self, character: str, what: str) -> None:
        if self._next() != character:
            raise self._expected(what)
        self._at += 1

    def _ends(self, closing: str) -> bool:
        """Consume a comma or the closing character; return whether it was the closing character."""
        found = self._next()
        if found not in (",", closing):
            raise self._expected(f"a comma or {closing!r}")
        self._at += 1
        return found == closing

    def _expected(self, what: str) -> MalformedRequest:
        return MalformedRequest(f"expected a JSON document: expected {what} at character {self._at}")


def _has_surrogates(text: str) -> bool:
    return any(_SURROGATE.search(text, at, at + PIECE) for at in range(0, len(text), PIECE))
