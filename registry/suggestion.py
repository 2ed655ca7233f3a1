"""Suggestions for misspelled names."""

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType

CUTOFF = 0.6
"""Least similarity (``difflib.SequenceMatcher.ratio``) of a suggestion; difflib's default."""

_NO_ALIASES: Mapping[str, str] = MappingProxyType({})


def nearest(name: str, known: Iterable[str], aliases: Mapping[str, str] = _NO_ALIASES) -> str | None:
    """Return the known name nearest to an unknown one, or None.

    A name that differs only in case, spaces, ``-``, ``_`` or ``.`` is preferred; then an alias; then the most
    similar name, if it is similar enough.

    Args:
        name: the unknown name; over 200 characters there is no suggestion.
        known: the known names.
        aliases: names used elsewhere, and the known name of each.
    """
    if len(name) > 200:
        return None
    folded: dict[str, str] = {}
    for each in known:
        folded.setdefault(_fold(each), each)
    meant = _fold(name)
    if meant in folded:
        return folded[meant]
    elsewhere = {_fold(alias): ours for alias, ours in aliases.items()}
    if meant in elsewhere:
        return elsewhere[meant]
    near = difflib.get_close_matches(meant, folded, n=1, cutoff=CUTOFF)
    return folded[near[0]] if near else None


def suggestion(name: str, known: Iterable[str], aliases: Mapping[str, str] = _NO_ALIASES) -> str:
    """Return ``; did you mean 'NAME'?`` with the nearest name, or an empty string; see :func:`nearest`."""
    near = nearest(name, known, aliases)
    return "" if near is None else f"; did you mean {near!r}?"


def _fold(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter not in " -_.")
