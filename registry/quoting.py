"""How a message quotes what it was given: on one line, bounded, and never cut without a mark."""

from collections.abc import Collection, Iterable

ELLIPSIS = "…"
QUOTE = 100
"""Most characters of a value that a message quotes."""
SENTENCE = 300
"""Most characters of another library's message within one of ours."""


def shortened(text: object, limit: int = SENTENCE) -> str:
    """Return a text on one line, cut at a word's end where it is longer than allowed.

    Args:
        text: anything; its ``str`` is taken, with runs of white space as one space and characters that
            cannot be printed as U+FFFD.
        limit: most characters, the ellipsis that marks a cut included. A text without a space in its
            second half is cut at the limit.
    """
    # Only so much is read: what is quoted may be a client's megabytes.
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
    """Return ``repr`` of a value; of a longer text its beginning, with an ellipsis inside the quotes.

    Args:
        value: what was given.
        limit: most characters of it.
    """
    if isinstance(value, str | bytes):
        if len(value) <= limit:
            return repr(value)
        cut = repr(value[: limit - len(ELLIPSIS)])
        return cut[:-1] + ELLIPSIS + cut[-1]
    return shortened(repr(value), limit)


def several(names: Iterable[object], limit: int = 3) -> str:
    """Return the first few of some names, and how many more there are: ``a, b, c and 4 more``.

    Args:
        names: in the order in which they are shown; each is shortened.
        limit: how many are shown.
    """
    known = names if isinstance(names, Collection) else list(names)
    shown = [shortened(name, QUOTE) for name, _ in zip(known, range(limit), strict=False)]
    more = len(known) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")
