"""What a verification carries from part to part, and how it is asked for. Pure.

Memory a snapshot: 1.5 bytes of marks (`verify_marks`). Everything else is bounded:
the differences that are kept, the missing keys and the rows whose record is still
looked for up to a number each, and one part of the log with its rows.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from ..schemas.wire import Kind
from .items import WHOLE_RECORD, ConfirmationItem, IdItem, Key, LogRecord, SnapshotItem
from .verify_compare import StoredRow
from .verify_findings import Difference, Findings, Found, key_text
from .verify_logs import Logs, ReadableLog, Source
from .verify_marks import Marks
from .verify_redrives import Redriven

__all__ = ["Event", "Mends", "State", "VerifyOptions"]

# 10 MB each at most; what is beyond them is still found, and named less well.
_MOST_REMEMBERED = 100_000


class Event(NamedTuple):
    """An event of a kind, as `--event` names it."""

    kind: Kind
    event_id: int


@dataclass(frozen=True)
class VerifyOptions:
    """What is compared.

    Attributes:
        quick: keys, counts, hashes and confirmations only; not the content of market rows.
        raw_response: compare raw responses too (where rows are to hold them).
        partitions: only these; None: all.
        event: only this event's writes.
        from_time, to_time: only records appended from and before these (aware) times.
        keep: how many differences are kept as they are; the others are counted.
        repair: mend what is found.
        delete_unexpected: also delete rows that should not be there; with `repair`.
        store_raw: whether repaired rows hold their raw responses.
        poll_records, poll_bytes: what is read and compared in one go.
    """

    quick: bool = False
    raw_response: bool = True
    partitions: frozenset[int] | None = None
    event: Event | None = None
    from_time: datetime | None = None
    to_time: datetime | None = None
    keep: int = 10
    repair: bool = False
    delete_unexpected: bool = False
    store_raw: bool = True
    poll_records: int = 500
    poll_bytes: int = 8 * 1024 * 1024

    @property
    def filtered(self) -> bool:
        """Whether only a part of the log is read: rows of the rest would look unexpected."""
        return not (
            self.partitions is None
            and self.event is None
            and self.from_time is None
            and self.to_time is None
        )


@dataclass(slots=True)
class Mends:
    """What is to be mended of one part, if that was asked for."""

    records: list[LogRecord] = field(default_factory=list)
    missing: list[SnapshotItem] = field(default_factory=list)
    different: list[SnapshotItem] = field(default_factory=list)
    confirmations: list[ConfirmationItem] = field(default_factory=list)
    ids: list[IdItem] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(
            self.records or self.missing or self.different or self.confirmations or self.ids
        )


@dataclass(slots=True)
class State:
    """The findings so far, and what is needed to judge the rest."""

    options: VerifyOptions
    logs: Logs
    findings: Findings
    marks: Marks = field(default_factory=Marks)
    mends: Mends = field(default_factory=Mends)
    # Rows that hold what a record says, and name another record: until that one comes.
    unsourced: dict[tuple[Kind, int], Source] = field(default_factory=dict)
    # Letters that say `written`, without their row: until a record sent again explains it.
    absent: dict[tuple[int, int, int, int], Difference] = field(default_factory=dict)
    redriven: set[tuple[int, int, int, int]] = field(default_factory=set)
    _missing: set[int] = field(default_factory=set)

    def note_redriven(self, log: ReadableLog, named: Redriven) -> None:
        """A record was sent again for this letter: it stands for it."""
        for log_id in log.generations:
            self.redriven.add((log_id, *named))

    def note_absent(self, source: tuple[int, int, int, int], difference: Difference) -> None:
        """A letter that says `written`, without its row; judged when all was read."""
        if len(self.absent) < _MOST_REMEMBERED:
            self.absent[source] = difference
        else:
            self.findings.add(difference)

    def unexplained_absent(self) -> list[tuple[tuple[int, int, int, int], Difference]]:
        """The letters that say `written`, and no record was sent again for them."""
        return [
            (source, difference)
            for source, difference in self.absent.items()
            if source not in self.redriven and (*source[:3], WHOLE_RECORD) not in self.redriven
        ]

    def note_missing(self, kind: Kind, key: Key) -> None:
        """Remember that a snapshot is missing, so that its confirmations are not counted too."""
        if len(self._missing) < _MOST_REMEMBERED:
            self._missing.add(hash((kind, key)))

    def is_missing(self, kind: Kind, key: Key) -> bool:
        """Whether a snapshot was found to be missing."""
        return hash((kind, key)) in self._missing

    def note_unsourced(self, kind: Kind, row_id: int, source: Source) -> None:
        """Remember a record that holds what the row does."""
        if len(self.unsourced) < _MOST_REMEMBERED:
            self.unsourced.setdefault((kind, row_id), source)

    def settle(self, kind: Kind, row_id: int, marks: int) -> None:
        """A row whose record is found."""
        self.marks.add(kind, row_id, marks)
        self.unsourced.pop((kind, row_id), None)

    def item_difference(
        self,
        found: Found,
        log_id: int,
        item: SnapshotItem | ConfirmationItem,
        what: str,
        *,
        row: StoredRow | None = None,
        table: str | None = None,
        field_name: str | None = None,
    ) -> Difference:
        """A difference at an item of the log."""
        return Difference(
            found,
            what,
            log_id,
            item.record.partition,
            item.record.offset,
            item.item,
            key_text(item.kind, item.key),
            table,
            None if row is None else row.id,
            field_name,
        )
