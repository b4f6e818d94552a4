"""Halving: what of a poll is written in one transaction when the whole is too much. Pure.

A poll that timed out or ran out of memory twice is tried in halves; what is a half
already is split at its first such failure, down to one record, which is tried for
ever. The next poll is whole again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from .items import PartitionPart, record_crc32
from .positions import LastApplied

__all__ = ["PollHalves", "is_overload"]

_TRIES_OF_THE_WHOLE = 2
_STATES = frozenset(
    {
        "57014",  # statement time-out (or cancelled by hand)
        "25P04",  # transaction time-out
        "53200",  # out of memory
    }
)


def is_overload(sqlstate: str | None, *, timed_out: bool) -> bool:
    """Whether less work could mend a failure; `timed_out`: our own clock ended it."""
    return timed_out or sqlstate in _STATES


@dataclass(slots=True)
class PollHalves:
    """Which parts of a poll to write next; tell it what came of them.

    The groups cover the poll's offsets in order, so that the ledger moves forward
    with each.
    """

    parts: Sequence[PartitionPart]
    _groups: list[Sequence[PartitionPart]] = field(default_factory=list)
    _failures: int = 0
    _halved: bool = False

    def __post_init__(self) -> None:
        self._groups.append(self.parts)

    def next_group(self) -> Sequence[PartitionPart] | None:
        """The parts to write now, the same until they are settled; None at the end."""
        return self._groups[-1] if self._groups else None

    def settled(self) -> None:
        """Tell that the group is written, or nobody's any more."""
        self._groups.pop()

    def overloaded(self) -> bool:
        """Tell that the group was too much; whether it is tried in halves now."""
        self._failures += 1
        if not self._halved and self._failures < _TRIES_OF_THE_WHOLE:
            return False
        group = self._groups[-1]
        count = sum(len(part.records) for part in group)
        if count < 2:
            return False
        self._halved = True
        self._groups[-1:] = reversed(_split(group, count // 2))
        return True


def _split(
    parts: Sequence[PartitionPart], count: int
) -> tuple[list[PartitionPart], list[PartitionPart]]:
    """The parts with the first `count` records, and those with the others."""
    first: list[PartitionPart] = []
    second: list[PartitionPart] = []
    for part in parts:
        taken = min(count, len(part.records))
        count -= taken
        if taken == len(part.records):
            first.append(part)
        elif taken == 0:
            second.append(part)
        else:
            head, tail = _split_part(part, taken)
            first.append(head)
            second.append(tail)
    return first, second


def _split_part(part: PartitionPart, count: int) -> tuple[PartitionPart, PartitionPart]:
    last, following = part.records[count - 1], part.records[count]
    if last.offset is None or following.offset is None:
        raise ValueError("a part's records are of the log")
    # The hole between the two, if there is one, goes with the first half.
    border = following.offset
    applied = LastApplied(last.offset, record_crc32(last.key, last.value))
    return (
        PartitionPart(part.partition, part.start, border, part.records[:count], applied),
        PartitionPart(part.partition, border, part.end, part.records[count:], part.last),
    )
