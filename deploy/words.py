"""Numbers in words for people: durations, sizes, partitions. Pure."""

from collections.abc import Iterable

__all__ = ["bytes_words", "duration_words", "number_words", "numbers_words"]

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def duration_words(seconds: float | None) -> str:
    """`0.4 s`, `12 s`, `3 m 20 s`, `2 h 05 m`, `3 d 4 h`; `-` where it is not known."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} m {whole % _MINUTE:02} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02} m"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def number_words(value: float | None) -> str:
    """With commas, one digit behind the point below 10; `-` where it is not known."""
    if value is None:
        return "-"
    if isinstance(value, int) or abs(value) >= 9.95 or value == 0:
        return f"{value:,.0f}"
    return f"{value:,.1f}"


def bytes_words(size: float) -> str:
    """`512 B`, `3.4 MiB`, `120 GiB`."""
    unit = _UNITS[0]
    for larger in _UNITS[1:]:
        if size < 1000:
            break
        size, unit = size / 1024, larger
    return f"{size:,.0f} {unit}" if unit == "B" or size >= 9.95 else f"{size:,.1f} {unit}"


def numbers_words(numbers: Iterable[int]) -> str:
    """Sorted numbers as ranges: `0-3, 7`; `none`."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in ranges) or "none"
