"""Comparing confirmations with their rows: `last_confirmed_at` is a maximum.

Lower than a record says is found at the record. Later than all of them is found at
the end, in the rows that no record has marked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from .dead_letters import DEAD
from .items import ConfirmationItem, IdItem, SnapshotItem
from .verify_compare import StoredRow, fits_tables
from .verify_findings import Difference, Explained, Found
from .verify_marks import CONFIRMED, LOW
from .verify_part import KindPart

__all__ = ["ConfirmationCheck"]


@dataclass
class ConfirmationCheck:
    """The confirmations of one part."""

    part: KindPart

    def start(self, item: SnapshotItem, row: StoredRow) -> None:
        """`last_confirmed_at` starts as `captured_at`, and only grows."""
        if row.last_confirmed_at == row.key.captured_at:
            self.part.state.marks.add(self.part.kind, row.id, CONFIRMED)
        elif row.last_confirmed_at is None or row.last_confirmed_at < row.key.captured_at:
            start = ConfirmationItem(
                self.part.kind, item.key, item.key.captured_at, item.record, item.item
            )
            self._add_low(start, row)

    def _add_low(self, item: ConfirmationItem, row: StoredRow) -> None:
        """Confirmed too early: one difference a row, mended by the latest of its records."""
        self.part.state.mends.confirmations.append(item)
        if self.part.state.marks.has(self.part.kind, row.id, LOW):
            return
        self.part.state.marks.add(self.part.kind, row.id, LOW | CONFIRMED)
        what = (
            f"last_confirmed_at is {_time(row.last_confirmed_at)}, the log confirms"
            f" {_time(item.confirmed_at)}"
        )
        self.part.state.findings.add(self._difference(item, what, row))

    async def by_key(self, confirmations: Sequence[ConfirmationItem]) -> None:
        """Each by key: its row, or a pending one, says at least this."""
        if self.part.required:
            self.part.state.findings.confirmations += len(confirmations)
        open_ones = []
        for item in confirmations:
            row = self.part.rows.get(item.key)
            if row is not None and row.last_confirmed_at == item.confirmed_at:
                self.part.state.marks.add(self.part.kind, row.id, CONFIRMED)
            if not self.part.required or self.part.status(item) is not None:
                continue
            if row is None or (
                row.last_confirmed_at is None or row.last_confirmed_at < item.confirmed_at
            ):
                open_ones.append(item)
        if open_ones:
            await self._explain(open_ones)

    async def _explain(self, confirmations: Sequence[ConfirmationItem]) -> None:
        """Confirmations that their row does not show: pending, expired, or lost."""
        fitting = {c.key for c in confirmations if fits_tables(c.key)}
        pending = await self.part.tables.pending(self.part.kind, fitting)
        rest = {c.key.event_id for c in confirmations if c.key not in pending}
        expired = await self.part.tables.expired(self.part.kind, rest) if rest else {}
        for item in confirmations:
            row = self.part.rows.get(item.key)
            if item.key in pending and pending[item.key] >= item.confirmed_at:
                self.part.state.findings.explain(Explained.PENDING)
            elif item.key in expired and expired[item.key] >= item.confirmed_at:
                self.part.state.findings.explain_letter(DEAD)
            elif row is not None:
                self._add_low(item, row)
            else:
                self._add_lost(item)

    def _add_lost(self, item: ConfirmationItem) -> None:
        self.part.state.mends.confirmations.append(item)
        if self.part.state.is_missing(self.part.kind, item.key):
            return  # lost with its snapshot, which is counted
        what = (
            f"confirmed at {_time(item.confirmed_at)} by the log; there is no row, and it is not"
            " pending"
        )
        self.part.state.findings.add(self._difference(item, what))

    async def plain_ids(self, ids: Sequence[IdItem]) -> None:
        """Plain ids explain later confirmations; whether they had to be applied is rarely known."""
        if not ids:
            return
        if self.part.required:
            self.part.state.findings.explain(Explained.PLAIN_IDS, len(ids))
        rows: dict[int, list[StoredRow]] = {}
        for row in await self.part.tables.rows_by_id(self.part.kind, {i.id for i in ids}):
            rows.setdefault(row.id, []).append(row)
        for item in ids:
            for row in rows.get(item.id, ()):
                if row.last_confirmed_at == item.confirmed_at:
                    self.part.state.marks.add(self.part.kind, row.id, CONFIRMED)
                elif self.part.required and self._had_to_confirm(item, row):
                    self._add_low_id(item, row)

    def _had_to_confirm(self, item: IdItem, row: StoredRow) -> bool:
        """Whether the row surely was there, under this id, when the id was applied."""
        if row.last_confirmed_at is not None and row.last_confirmed_at >= item.confirmed_at:
            return False
        partition, offset = item.record.partition, item.record.offset
        if not self.part.state.logs.never_refilled or row.source.log_id != self.part.log.log_id:
            return False
        if row.source.partition == partition:
            return (row.source.offset or 0) < (offset or 0)
        return row.key.captured_at <= item.confirmed_at

    def _add_low_id(self, item: IdItem, row: StoredRow) -> None:
        self.part.state.mends.ids.append(item)
        if self.part.state.marks.has(self.part.kind, row.id, LOW):
            return
        self.part.state.marks.add(self.part.kind, row.id, LOW | CONFIRMED)
        named = ConfirmationItem(self.part.kind, row.key, item.confirmed_at, item.record, item.item)
        what = (
            f"last_confirmed_at is {_time(row.last_confirmed_at)}, the log confirms"
            f" {_time(item.confirmed_at)} by plain id {item.id}"
        )
        self.part.state.findings.add(self._difference(named, what, row))

    def _difference(
        self, item: ConfirmationItem, what: str, row: StoredRow | None = None
    ) -> Difference:
        return self.part.difference(Found.CONFIRMATION, item, what, row, "last_confirmed_at")


def _time(moment: datetime | None) -> str:
    return "empty" if moment is None else moment.isoformat()
