"""Figures in words, and tables of Markdown. Pure."""

from collections.abc import Iterable, Sequence

__all__ = ["number", "table"]


def number(value: object) -> str:
    """A figure as a person reads it; `-` for none."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer() and abs(value) >= 1000:
        value = int(value)
    if isinstance(value, int | float):
        return f"{value:,}"
    if isinstance(value, list):
        return " / ".join(map(number, value))
    return "-" if value is None else str(value)


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, left: int = 1) -> list[str]:
    """A table, its first columns to the left, and an empty line before it."""
    marks = ["---"] * left + ["---:"] * (len(head) - left)
    lines = [head, marks, *([number(cell) for cell in row] for row in rows)]
    return ["", *(f"| {' | '.join(line)} |" for line in lines)]
