"""Quoting of values in messages: on one line, of limited length, with an ellipsis where it is cut."""

from collections.abc import Collection, Iterable

ELLIPSIS = "…"
QUOTE = 100
"""Most characters of a value that a message quotes."""
SENTENCE = 300
"""Most characters of another library's message within one of ours."""


def shortened(text: object, limit: int = SENTENCE) -> str:
    """Return a text on one line, cut at the end of a word if it is too long.

    Args:
        text: anything; its ``str`` is used, with white space collapsed and unprintable characters as U+FFFD.
        limit: most characters, the ellipsis that marks a cut included. A text without a space in its second
            half is cut at the limit.
    """
    # Do not read the rest: a client may have sent megabytes.
    whole = str(text)
    line = " ".join(whole[: 4 * limit].split())
    if not line.isprintable():
        line = "".join(letter if letter.isprintable() else "\ufffd" for letter in line)
    if len(line) <= limit and len(whole) <= 4 * limit:
        return line
    kept = line[: limit - len(ELLIPSIS)]
    end = kept.rfind(" ")
    return (kept[:end] if end > limit // 2 else kept) + ELLIPSIS


def quoted(value: object, limit: int = QUOTE) -> str:
    """Return ``repr`` of a value; a long text is cut, with an ellipsis inside the quotes.

    Args:
        value: the value.
        limit: most characters of it.
    """
    if isinstance(value, str | bytes):
        if len(value) <= limit:
            return repr(value)
        cut = repr(value[: limit - len(ELLIPSIS)])
        return cut[:-1] + ELLIPSIS + cut[-1]
    return shortened(repr(value), limit)


def several(names: Iterable[object], limit: int = 3) -> str:
    """Return the first few names, and the number of the rest: ``a, b, c and 4 more``.

    Args:
        names: in display order; each is shortened.
        limit: how many are shown.
    """
    known = names if isinstance(names, Collection) else list(names)
    shown = [shortened(name, QUOTE) for name, _ in zip(known, range(limit), strict=False)]
    more = len(known) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")
