"""Records of the log that are dead letters sent again, as a verification reads them. Pure.

What fails again has no letter of its own: the new failure goes into the letter that
its header names. What waited and was written by the sweep names the letter's record.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..schemas.redrive import read_redrive
from .items import WHOLE_RECORD, LogRecord

__all__ = ["NamedLetter", "Redriven", "redriven_of", "status_by_redrive"]


class Redriven(NamedTuple):
    """The letter that a record names; its log is one of this topic's."""

    partition: int
    offset: int
    item: int


@dataclass(frozen=True, slots=True)
class NamedLetter:
    """A letter; `written_by` is the record that was sent again and written for it."""

    status: str
    written_by: tuple[int, int] | None = None


def redriven_of(record: LogRecord) -> Redriven | None:
    """The letter that a record was sent again for, if its headers name one."""
    named = read_redrive(record.headers)
    return None if named is None else Redriven(named.partition, named.offset, named.item)


def status_by_redrive(
    record: LogRecord,
    item: int,
    redriven: Redriven,
    letters: Mapping[tuple[int, int, int], Sequence[NamedLetter]],
) -> str | None:
    """The status of the letter that keeps an item of a record that was sent again.

    None where there is none, or where it says that this very record was written.
    """
    partition, offset, named = redriven
    numbers = (item, WHOLE_RECORD) if named == WHOLE_RECORD else (named,)
    for number in numbers:
        for letter in letters.get((partition, offset, number), ()):
            if letter.written_by != (record.partition, record.offset):
                return letter.status
    return None
