"""The pace of a backlog, from looks at how much of it was written. Pure."""

from itertools import pairwise

__all__ = ["Look", "rate", "rate_after_first", "thirds"]

_LEAST_SECONDS = 0.001

Look = tuple[float, int]
"""When, in seconds, and how many rows there were."""


def rate(looks: list[Look]) -> float:
    """Rows a second, from the last look that saw none."""
    began = moment(looks, 0)
    return looks[-1][1] / max(looks[-1][0] - began, _LEAST_SECONDS)


def rate_after_first(looks: list[Look]) -> float:
    """Rows a second behind the first commit that was seen, which may have taken any time.

    Whoever reads for seconds before the first row is written has no advantage by it.
    """
    first = next(look for look in looks if look[1])
    if first[1] == looks[-1][1]:
        return rate(looks)
    return (looks[-1][1] - first[1]) / max(looks[-1][0] - first[0], _LEAST_SECONDS)


def thirds(looks: list[Look]) -> list[float]:
    """The same of the first, middle and last third of the rows."""
    rows = looks[-1][1]
    times = [moment(looks, rows * n / 3) for n in range(4)]
    return [rows / 3 / max(end - start, _LEAST_SECONDS) for start, end in pairwise(times)]


def moment(looks: list[Look], rows: float) -> float:
    """When so many were written: between two looks, as if at an even pace."""
    before = max((one for one in looks if one[1] <= rows), default=(0.0, 0))
    after = next((one for one in looks if one[1] > rows), before)
    if after[1] == before[1]:
        return next(at for at, written in looks if written == before[1])
    return before[0] + (after[0] - before[0]) * (rows - before[1]) / (after[1] - before[1])
