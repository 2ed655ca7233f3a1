"""The name that was probably meant."""

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType

CUTOFF = 0.6
"""Least similarity, ``difflib.SequenceMatcher.ratio``, of a name that is suggested (difflib's own default)."""

_NO_ALIASES: Mapping[str, str] = MappingProxyType({})


def nearest(name: str, known: Iterable[str], aliases: Mapping[str, str] = _NO_ALIASES) -> str | None:
    """Return the known name that is nearest to one that is not known, or None.

    Names that differ in case, spaces, ``-``, ``_`` or ``.`` alone are the nearest; then aliases count;
    then the most similar name, where it is similar enough.

    Args:
        name: what was given. One of over 200 characters has no nearest.
        known: the names that exist.
        aliases: names in use elsewhere, and what each is called here.
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
    """Return ``; did you mean 'NAME'?`` of the nearest name, or nothing; see :func:`nearest`."""
    near = nearest(name, known, aliases)
    return "" if near is None else f"; did you mean {near!r}?"


def _fold(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter not in " -_.")
