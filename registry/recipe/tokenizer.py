"""Checks of a tokenizer's JSON before the ``tokenizers`` library loads it.

The library trusts its files. It aborts the process if a table is shorter than its declared size. It runs
normalisers that expand a word to gigabytes, and regular expressions of exponential time.
"""

import base64
import binascii
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from registry.errors import InvalidRecipe
from registry.quoting import quoted

MAX_VOCABULARY = 1 << 21
"""Tokens, and merges: the largest vocabularies of models have a quarter of a million, those of word vectors two
million."""

MAX_ADDED_TOKENS = 100_000

MAX_GROWTH = 64
"""Largest growth factor of a text through replacements."""

MAX_WORD_CHARACTERS = 256
"""WordPiece's time grows with the cube of a word's length; models use 100."""

_MAX_DEPTH = 32
_MAX_PATTERN = 10_000
_LISTS = {"Sequence": ("normalizers", "pretokenizers", "processors", "decoders")}


def check_tokenizer(value: Mapping[str, Any]) -> None:
    """Check a tokenizer's JSON.

    Raises:
        InvalidRecipe: a list is too long, a replacement makes a text too long, a table's size is wrong, or a
            regular expression may take exponential time in the length of a text.
    """
    model = value.get("model")
    if isinstance(model, dict):
        for name in ("vocab", "merges"):
            _bounded(f"the tokenizer's {name}", model.get(name), MAX_VOCABULARY)
        longest = model.get("max_input_chars_per_word")
        if isinstance(longest, int) and longest > MAX_WORD_CHARACTERS:
            raise InvalidRecipe(
                f"max_input_chars_per_word of the tokenizer is at most {MAX_WORD_CHARACTERS}, got {longest:,}"
            )
    _bounded("the tokenizer's added tokens", value.get("added_tokens"), MAX_ADDED_TOKENS)
    growth = 1
    for step in (*_steps(value.get("normalizer")), *_steps(value.get("pre_tokenizer"))):
        growth *= _growth(step)
        if growth > MAX_GROWTH:
            raise InvalidRecipe(
                f"a tokenizer's replacements make a text at most {MAX_GROWTH} times as long, these make it longer"
            )
        if step.get("type") == "Precompiled":
            _check_table(step.get("precompiled_charsmap"))
        pattern = step.get("pattern")
        if isinstance(pattern, dict) and isinstance(regex := pattern.get("Regex"), str):
            _check_regex(regex)


def _bounded(what: str, found: object, most: int) -> None:
    if isinstance(found, dict | list) and len(found) > most:
        raise InvalidRecipe(f"{what} are at most {most:,}, got {len(found):,}")


def _steps(value: object, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Yield a step, or each step of a sequence in order."""
    if depth > _MAX_DEPTH:
        raise InvalidRecipe(f"a tokenizer's sequences are nested at most {_MAX_DEPTH} deep")
    if not isinstance(value, dict):
        return
    yield value
    for name in _LISTS.get(str(value.get("type")), ()):
        if isinstance(inner := value.get(name), list):
            for each in inner:
                yield from _steps(each, depth + 1)


def _growth(step: Mapping[str, Any]) -> int:
    """Return the largest growth factor of a text through a step, as far as its JSON determines it."""
    content = step.get("content") if step.get("type") == "Replace" else None
    if isinstance(content, str):
        pattern = step.get("pattern")
        string = pattern.get("String") if isinstance(pattern, dict) else None
        # A regular expression may match one letter or an empty string.
        matched = len(string) if isinstance(string, str) else 1
        return max(1, -(-len(content) // max(1, matched)))
    if step.get("type") == "Prepend" and len(str(step.get("prepend"))) > MAX_GROWTH:
        return MAX_GROWTH + 1
    return 1


def _check_table(text: object) -> None:
    """Check a table of SentencePiece: the size of its trie in bytes, the trie, and texts."""
    try:
        data = base64.b64decode(str(text), validate=True)
        (size,) = struct.unpack_from("<I", data)
    except (binascii.Error, struct.error) as error:
        raise InvalidRecipe(f"expected a table of SentencePiece in the tokenizer; {error}") from error
    if size == 0 or size % 4 or size > len(data) - 4:
        raise InvalidRecipe(
            f"expected a table of SentencePiece in the tokenizer, with a trie of whole words; it declares {size:,} "
            f"bytes of {len(data) - 4:,}"
        )


def _check_regex(pattern: str) -> None:
    """Reject a repeated group with a repetition inside: matching may take exponential time.

    No tokenizer of a published model needs one.
    """
    if len(pattern) > _MAX_PATTERN:
        raise InvalidRecipe(
            f"a regular expression of a tokenizer has at most {_MAX_PATTERN:,} characters, got {len(pattern):,}"
        )
    open_groups, place = [False], 0
    while place < len(pattern):
        letter = pattern[place]
        if letter == "\\":
            place += 2
            # The braces of \p{L} repeat nothing.
            if pattern[place - 1 : place] in ("p", "P", "x") and pattern[place : place + 1] == "{":
                place = _behind(pattern, place, "}")
            continue
        if letter == "[":
            place = _behind_class(pattern, place)
            continue
        if letter == "(":
            open_groups.append(False)
        elif letter == ")" and len(open_groups) > 1:
            repeats = open_groups.pop()
            if repeats and _repeats(pattern, place + 1):
                raise InvalidRecipe(
                    "expected regular expressions without repetitions of repetitions in the tokenizer, got "
                    f"{quoted(pattern, 100)}"
                )
            open_groups[-1] |= repeats
        elif _repeats(pattern, place) and pattern[place - 1 : place] != "(":
            open_groups[-1] = True
        place += 1


def _repeats(pattern: str, place: int) -> bool:
    """Tell whether something is repeated without limit here: ``*``, ``+`` or ``{2,}``."""
    if pattern[place : place + 1] in ("*", "+"):
        return True
    low, comma, rest = pattern[place : place + 8].removeprefix("{").partition(",")
    return pattern[place : place + 1] == "{" and bool(comma) and low.isdigit() and rest.startswith("}")


def _behind(pattern: str, place: int, end: str) -> int:
    found = pattern.find(end, place)
    return len(pattern) if found < 0 else found + 1


def _behind_class(pattern: str, place: int) -> int:
    """Return the position after a character class, which may contain others: ``[a-z&&[^b]]``."""
    depth, place = 1, place + 1
    place += pattern[place : place + 1] == "^"
    place += pattern[place : place + 1] == "]"
    while place < len(pattern) and depth:
        letter = pattern[place]
        place += 2 if letter == "\\" else 1
        depth += (letter == "[") - (letter == "]")
    return place
