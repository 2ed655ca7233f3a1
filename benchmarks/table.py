"""Tables in Markdown."""

from collections.abc import Mapping, Sequence


def table(corner: str, columns: Sequence[object], rows: Mapping[str, Sequence[str]]) -> str:
    """Return a table, a line to each row, each as long as there are columns."""
    lines = [f"| {corner} | {' | '.join(map(str, columns))} |", "| --- " * (len(columns) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]
    return "\n".join(lines) + "\n"
