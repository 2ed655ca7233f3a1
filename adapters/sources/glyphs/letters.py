"""The source task's labels: the letters of the Latin alphabet, as far as a single one can be told apart.

A character is scaled to fill its picture, so nothing says how large it stood beside others. Small
letters that are their capitals made smaller (c o p s u v w x y z) share their capital's label, and so
does a small l, which most sans-serif faces draw as a capital I. Without this, one label in four would
be a toss-up, and a network that has to guess learns the typeface in place of the shape.
"""

from string import ascii_lowercase, ascii_uppercase

LETTERS = ascii_uppercase + ascii_lowercase
"""What is rendered, 52 characters."""

_SAME_SHAPE = {letter: letter.upper() for letter in "copsuvwxyz"} | {"l": "I"}


def label_of(letter: str) -> str:
    """Return the label of one of ``LETTERS``: itself, or the capital that it looks like."""
    return _SAME_SHAPE.get(letter, letter)


LABELS = tuple(dict.fromkeys(label_of(letter) for letter in LETTERS))
"""Capitals, then the small letters that look like none of them, 41 in all: the order of the logits."""
