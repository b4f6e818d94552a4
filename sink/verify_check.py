"""Comparing one part of a log with the rows of its keys.

What must hold of an item that no dead letter keeps: a snapshot has a row with its
content, or another record of the key has it and this one is the same; a
confirmation is not later than its row says, or waits as a pending one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..schemas.wire import Kind
from .dead_letters import WRITTEN
from .items import WHOLE_RECORD, Items, LogRecord, PartitionPart, SnapshotItem, items_of
from .verify_compare import StoredRow, differing_field, fits_tables
from .verify_confirmations import ConfirmationCheck
from .verify_contents import Content, ContentCheck
from .verify_findings import Difference, Found
from .verify_letters import PartLetters
from .verify_logs import ReadableLog
from .verify_part import KindPart
from .verify_redrives import redriven_of
from .verify_state import State
from .verify_tables import Tables

__all__ = ["check_parts"]


async def check_parts(
    tables: Tables,
    state: State,
    log: ReadableLog,
    parts: Sequence[PartitionPart],
    *,
    required: bool,
) -> None:
    """Compare a part; findings, marks and what is to be mended go into the state.

    Args:
        tables: the database's snapshot.
        state: is added to.
        log: whose records they are.
        parts: of the log, decoded.
        required: they are below the ledger. Others need not be in the tables; what
            is there of them has to be as they say.
    """
    records = [record for part in parts for record in part.records]
    letters = await _read_letters(tables, state, log, parts)
    state.findings.records += len(records)
    for record in records:
        if record.error is not None and required:
            _check_undecodable(state, log, letters, record)
    items = _wanted(state, items_of(records))
    for kind in Kind:
        named = {item.key for item in items.snapshots if item.kind is kind}
        named |= {item.key for item in items.confirmations if item.kind is kind}
        rows = await tables.rows(kind, {key for key in named if fits_tables(key)})
        await _check_kind(KindPart(tables, state, log, letters, kind, required, rows), items)


def _wanted(state: State, items: Items) -> Items:
    event = state.options.event
    if event is None:
        return items
    return Items(
        [s for s in items.snapshots if (s.kind, s.key.event_id) == event],
        [c for c in items.confirmations if (c.kind, c.key.event_id) == event],
    )


async def _read_letters(
    tables: Tables, state: State, log: ReadableLog, parts: Sequence[PartitionPart]
) -> PartLetters:
    redriven = {
        id(record): named
        for part in parts
        for record in part.records
        if record.headers and (named := redriven_of(record)) is not None
    }
    for named in redriven.values():
        state.note_redriven(log, named)
    return PartLetters(
        await tables.letters(log.log_id, parts),
        redriven,
        await tables.named_letters(log.generations, redriven.values()) if redriven else {},
    )


def _check_undecodable(
    state: State, log: ReadableLog, letters: PartLetters, record: LogRecord
) -> None:
    if state.options.event is not None:
        return
    status = letters.status(record, WHOLE_RECORD)
    if status is not None:
        state.findings.explain_letter(status)
        return
    state.findings.add(
        Difference(
            Found.MISSING,
            f"the record {record.error}, and no dead letter keeps it",
            log.log_id,
            record.partition,
            record.offset,
        )
    )
    state.mends.records.append(record)


async def _check_kind(part: KindPart, items: Items) -> None:
    """The snapshots, then what confirms them."""
    snapshots = SnapshotCheck(part)
    for snapshot in items.snapshots:
        if snapshot.kind is part.kind:
            snapshots.judge(snapshot)
    confirmations = ConfirmationCheck(part)
    await snapshots.compare_others(confirmations)
    await ContentCheck(part, confirmations).run(snapshots.contents)
    await confirmations.by_key([c for c in items.confirmations if c.kind is part.kind])
    await confirmations.plain_ids([i for i in items.ids if i.kind is part.kind])


@dataclass
class SnapshotCheck:
    """The snapshots of one part, each told apart by what its key has in the table.

    `contents` are those whose row has their hash.
    """

    part: KindPart
    contents: list[Content] = field(default_factory=list)
    _others: list[tuple[SnapshotItem, StoredRow]] = field(default_factory=list)

    def judge(self, item: SnapshotItem) -> None:
        """Find what a snapshot's row has to be compared with, or why there is none."""
        status = self.part.status(item)
        row = self.part.rows.get(item.key)
        if self.part.required:
            self.part.state.findings.snapshots += 1
            self.part.state.findings.markets += len(item.data["markets"])
        if row is not None and row.content_hash == item.data["content_hash"]:
            self.contents.append(Content(item, row, status is not None))
        elif not self.part.required:
            return
        elif row is not None:
            if status is None:
                self._others.append((item, row))
        elif status is None:
            self._add_missing(item)
        elif status == WRITTEN:
            self._note_absent(item)

    def _add_missing(self, item: SnapshotItem) -> None:
        state, kind = self.part.state, self.part.kind
        state.mends.missing.append(item)
        if not state.is_missing(kind, item.key):  # else another record of it
            what = "it is in the log, and not in the tables"
            state.findings.add(self.part.difference(Found.MISSING, item, what))
            state.note_missing(kind, item.key)

    def _note_absent(self, item: SnapshotItem) -> None:
        """Its letter was written; where it was sent again, another record stands for it."""
        log_id, partition, offset = self.part.source(item)
        what = "its dead letter says that it was written, and it is not in the tables"
        source = (log_id or 0, partition or 0, offset or 0, item.item)
        self.part.state.note_absent(source, self.part.difference(Found.MISSING, item, what))

    async def compare_others(self, confirmations: ConfirmationCheck) -> None:
        """Rows of the key with another hash, and no letter that tells of a conflict."""
        markets = await self.part.tables.markets(
            self.part.kind, {row.id for _, row in self._others}
        )
        for item, row in self._others:
            what = (
                f"content_hash is {item.data['content_hash']} in the log, {row.content_hash} in"
                " the table"
            )
            other = differing_field(item.data["markets"], markets[row.id], row.key.captured_at)
            if other is None:
                self.part.add_different(item, row, "content_hash", what)
            else:
                self.part.add_different(item, row, other.field, f"{other.what}; {what}")
            confirmations.start(item, row)
