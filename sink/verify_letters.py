"""The dead letters of one part of a log, by its records. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from .items import WHOLE_RECORD, LogRecord
from .verify_redrives import NamedLetter, Redriven, status_by_redrive

__all__ = ["OwnLetter", "PartLetters"]


class OwnLetter(NamedTuple):
    """A letter of the log's own records; `resent`: a record that it was sent again as was read."""

    status: str
    resent: bool


@dataclass(frozen=True)
class PartLetters:
    """What keeps the items that are not in the tables.

    Attributes:
        own: by partition, offset and item.
        redriven: by `id` of a record that was sent again, the letter that it names.
        named: the letters that such records name.
    """

    own: Mapping[tuple[int, int, int], OwnLetter]
    redriven: Mapping[int, Redriven] = field(default_factory=dict)
    named: Mapping[tuple[int, int, int], list[NamedLetter]] = field(default_factory=dict)

    def status(self, record: LogRecord, item: int) -> str | None:
        """Of the letter that keeps an item: its own, its whole record's, or the one it names."""
        own = self._own(record, item)
        if own is not None:
            return own.status
        redriven = self.redriven.get(id(record))
        return None if redriven is None else status_by_redrive(record, item, redriven, self.named)

    def is_resent(self, record: LogRecord, item: int) -> bool:
        """Whether a row of the item may be of another record, which the item was sent again as."""
        own = self._own(record, item)
        return id(record) in self.redriven or (own is not None and own.resent)

    def _own(self, record: LogRecord, item: int) -> OwnLetter | None:
        partition, offset = record.partition or 0, record.offset or 0
        return self.own.get((partition, offset, item)) or self.own.get(
            (partition, offset, WHOLE_RECORD)
        )
