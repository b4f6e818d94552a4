"""One kind's items of one part of a log, with what the checks of a part share."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..schemas.wire import Kind
from .items import ConfirmationItem, Key, SnapshotItem
from .verify_compare import StoredRow
from .verify_findings import Difference, Found
from .verify_letters import PartLetters
from .verify_logs import ReadableLog, Source
from .verify_marks import SEEN, SOURCED
from .verify_state import State
from .verify_tables import Tables

__all__ = ["KindPart"]


@dataclass(frozen=True)
class KindPart:
    """What the checks of one kind look at.

    Attributes:
        tables: the database's snapshot.
        state: is added to.
        log: whose part it is.
        letters: the dead letters of the part.
        kind: of the items.
        required: they must be in the tables; others may be.
        rows: of all keys that the items name.
    """

    tables: Tables
    state: State
    log: ReadableLog
    letters: PartLetters
    kind: Kind
    required: bool
    rows: Mapping[Key, StoredRow]

    def status(self, item: SnapshotItem | ConfirmationItem) -> str | None:
        """Of the dead letter that keeps an item; counted, where the item is required."""
        status = self.letters.status(item.record, item.item)
        if status is not None and self.required:
            self.state.findings.explain_letter(status)
        return status

    def source(self, item: SnapshotItem) -> Source:
        """What a row that was written from an item names."""
        return Source(self.log.log_id, item.record.partition, item.record.offset)

    def is_own(self, item: SnapshotItem, row: StoredRow) -> bool:
        """Whether the row names this record, or the letter that it was sent again for."""
        log_id, partition, offset = row.source
        redriven = self.letters.redriven.get(id(item.record))
        return row.source == self.source(item) or (
            redriven is not None
            and log_id in self.log.generations
            and (partition, offset) == redriven[:2]
        )

    def difference(
        self,
        found: Found,
        item: SnapshotItem | ConfirmationItem,
        what: str,
        row: StoredRow | None = None,
        field: str | None = None,
    ) -> Difference:
        """A difference at an item."""
        table = None if row is None else self.tables.statements(self.kind).snapshots_table
        return self.state.item_difference(
            found, self.log.log_id, item, what, row=row, table=table, field_name=field
        )

    def add_different(self, item: SnapshotItem, row: StoredRow, field: str, what: str) -> None:
        """A row that is not what its record says: one difference, and one mend."""
        self.state.settle(self.kind, row.id, SEEN | SOURCED)
        self.state.findings.add(self.difference(Found.DIFFERENT, item, what, row, field))
        self.state.mends.different.append(item)
