"""The dead letters of one part of a log, by its records. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .items import WHOLE_RECORD, LogRecord
from .verify_redrives import NamedLetter, Redriven, status_by_redrive

__all__ = ["PartLetters"]


@dataclass(frozen=True)
class PartLetters:
    """What keeps the items that are not in the tables.

    Attributes:
        own: the status by partition, offset and item.
        redriven: by `id` of a record that was sent again, the letter that it names.
        named: the letters that such records name.
    """

    own: Mapping[tuple[int, int, int], str]
    redriven: Mapping[int, Redriven] = field(default_factory=dict)
    named: Mapping[tuple[int, int, int], list[NamedLetter]] = field(default_factory=dict)

    def status(self, record: LogRecord, item: int) -> str | None:
        """Of the letter that keeps an item: its own, its whole record's, or the one it names."""
        partition, offset = record.partition or 0, record.offset or 0
        status = self.own.get((partition, offset, item))
        if status is None:
            status = self.own.get((partition, offset, WHOLE_RECORD))
        redriven = self.redriven.get(id(record))
        if status is None and redriven is not None:
            status = status_by_redrive(record, item, redriven, self.named)
        return status
