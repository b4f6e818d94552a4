"""The second half of a verification: every row that no record of the log has explained.

Walks the snapshots tables in the order of ids, and looks for market rows without a
snapshot. Rows whose record lies outside of the ledger, and confirmations later than
any, are judged at the last walk, after those parts of the log were read too.
"""

from dataclasses import dataclass, field

from ..schemas.wire import Kind
from .verify_compare import StoredRow
from .verify_findings import Difference, Explained, Found, key_text
from .verify_logs import Source, Where
from .verify_marks import CONFIRMED, SEEN, SOURCED
from .verify_state import State
from .verify_tables import Tables

__all__ = ["Unexplained", "look_for_orphans", "walk_rows"]

_MOST_ORPHANS = 10_000
# Kept until it is known whether somebody else writes here too; beyond, only counted.
_MOST_LATE = 10_000

_EXPLAINS = {
    Where.NOWHERE: Explained.WITHOUT_LOG,
    Where.UNREADABLE: Explained.OTHER_GENERATIONS,
    Where.NOT_IN_LOG: Explained.NOT_IN_LOG,
}


@dataclass(slots=True)
class Unexplained:
    """Rows that a repair can mend.

    Attributes:
        rows: that should not be there.
        sources: the record that a row should name instead.
        late: confirmed later than the log says.
        orphans: by kind and snapshot id, the highest id of market rows without it.
    """

    rows: list[tuple[Kind, StoredRow]] = field(default_factory=list)
    sources: list[tuple[Kind, StoredRow, Source]] = field(default_factory=list)
    late: list[tuple[Kind, StoredRow]] = field(default_factory=list)
    orphans: list[tuple[Kind, int, int]] = field(default_factory=list)


@dataclass
class _Walk:
    """One walk over one table; `first_id` is that of the first row of the log."""

    state: State
    kind: Kind
    table: str
    floor: int
    last: bool
    again: bool
    found: Unexplained
    open: int = 0
    late: int = 0
    first_id: int | None = None
    before: StoredRow | None = None

    def row(self, row: StoredRow) -> None:
        """Judge a row; what was judged by an earlier walk is passed over."""
        if row.content_hash is None:
            if not self.again:
                self._without_hash(row)
            return
        if self.first_id is None:
            self.first_id = row.id
        if not self.again and self.before is not None and self.before.id == row.id:
            other = key_text(self.kind, self.before.key)
            self._add(row, Found.UNEXPECTED, f"its id is also that of {other}", mend=False)
        self.before = row
        where = self.state.logs.where(row.source)
        marks = self.state.marks.of(self.kind, row.id)
        if where is Where.MAY and not self.last:
            self.open += 1
        elif marks & SEEN and marks & SOURCED:
            self._confirmed(row, where, marks)
        elif not self.again or where is Where.MAY:
            self._unsourced(row) if marks & SEEN else self._unseen(row, where)

    def _without_hash(self, row: StoredRow) -> None:
        """From before the log: no row of the log has a lower id, or it was there at its start."""
        if row.source != (None, None, None):
            self._add(row, Found.UNEXPECTED, "it names a record of the log, and has no hash")
        elif self.first_id is None or row.id <= self.floor:
            self.state.findings.explain(Explained.BEFORE_LOG)
        else:
            what = "it has no hash, and is younger than the log: another program writes here"
            self._add(row, Found.UNEXPECTED, what)

    def _confirmed(self, row: StoredRow, where: Where, marks: int) -> None:
        if where is Where.MAY:
            self.state.findings.explain(Explained.OUTSIDE_LEDGER)
        elif where in _EXPLAINS and not self.again:
            self.state.findings.explain(_EXPLAINS[where])
        if marks & CONFIRMED:
            return
        if not self.last:
            self.open += 1
            return
        self.late += 1
        if len(self.found.late) < _MOST_LATE:
            self.found.late.append((self.kind, row))

    def _unsourced(self, row: StoredRow) -> None:
        """It holds what a record does, and names another one."""
        log_id, partition, offset = row.source
        right = self.state.unsourced.get((self.kind, row.id))
        what = (
            f"it names log {log_id} partition {partition} offset {offset}, which does not hold it"
        )
        if right is None:
            self._add(row, Found.DIFFERENT, what, field_name="log_offset", mend=False)
            return
        self._add(
            row,
            Found.DIFFERENT,
            f"{what}; it is in partition {right.partition} at offset {right.offset}",
            field_name="log_offset",
            mend=False,
            place=right,
        )
        if len(self.found.sources) < _MOST_LATE:
            self.found.sources.append((self.kind, row, right))

    def _unseen(self, row: StoredRow, where: Where) -> None:
        """No record that was read holds it."""
        log_id, partition, offset = row.source
        if where in _EXPLAINS:
            self.state.findings.explain(_EXPLAINS[where])
        elif where is Where.UNKNOWN_LOG:
            what = f"it is of log {log_id}, which was never registered"
            self._add(row, Found.OTHER_LOG, what)
        elif where is Where.BROKEN:
            what = f"it names only a part of a record: log {log_id}, {partition}, {offset}"
            self._add(row, Found.UNEXPECTED, what)
        else:
            place = f"log {log_id} partition {partition} offset {offset}"
            self._add(row, Found.UNEXPECTED, f"it is not in the log: {place} does not hold it")

    def _add(
        self,
        row: StoredRow,
        found: Found,
        what: str,
        *,
        field_name: str | None = None,
        mend: bool = True,
        place: Source | None = None,
    ) -> None:
        log_id, partition, offset = place or row.source
        self.state.findings.add(
            Difference(
                found,
                what,
                log_id,
                partition,
                offset,
                key=key_text(self.kind, row.key),
                table=self.table,
                row_id=row.id,
                field=field_name,
            )
        )
        if mend and len(self.found.rows) < _MOST_LATE:
            self.found.rows.append((self.kind, row))


async def walk_rows(
    tables: Tables, state: State, found: Unexplained, *, last: bool, again: bool
) -> bool:
    """Judge every row of the snapshots tables.

    Args:
        tables: the database's snapshot.
        state: with the marks of all parts of the log that were read.
        found: what can be mended; is added to.
        last: nothing more will be read: also judge what lies outside of the ledger.
        again: an earlier walk has judged the rest.

    Returns:
        Whether rows are left that need the rest of the log.
    """
    floors = await tables.id_floors()
    is_open = False
    late = 0
    for kind in Kind:
        table = tables.statements(kind).snapshots_table
        walk = _Walk(state, kind, table, floors[kind], last, again, found)
        async for page in tables.walk(kind):
            for row in page:
                walk.row(row)
        is_open = is_open or walk.open > 0
        late += walk.late
    if late:
        _judge_late(tables, state, found, late)
    return is_open


def _judge_late(tables: Tables, state: State, found: Unexplained, late: int) -> None:
    """Confirmed later than the log says: by another writer, if there is one."""
    others = state.findings.explained[Explained.WITHOUT_LOG] or not state.logs.whole
    if others:
        state.findings.explain(Explained.CONFIRMED_ELSEWHERE, late)
        found.late.clear()
        return
    for kind, row in found.late:
        when = "empty" if row.last_confirmed_at is None else row.last_confirmed_at.isoformat()
        log_id, partition, offset = row.source
        state.findings.add(
            Difference(
                Found.CONFIRMATION,
                f"last_confirmed_at is {when}, which no record of the log says",
                log_id,
                partition,
                offset,
                key=key_text(kind, row.key),
                table=tables.statements(kind).snapshots_table,
                row_id=row.id,
                field="last_confirmed_at",
            )
        )
    beyond = late - len(found.late)
    state.findings.counts[Found.CONFIRMATION] += beyond
    state.findings.not_kept += beyond


async def look_for_orphans(tables: Tables, state: State, found: Unexplained) -> None:
    """Market rows that name a snapshot that is not there; each row counts."""
    floors = await tables.id_floors()
    for kind in Kind:
        groups = await tables.orphans(kind, floors[kind], _MOST_ORPHANS)
        statements = tables.statements(kind)
        for group in groups:
            what = (
                f"{group.rows} market rows name snapshot {group.snapshot_id}, which is not in"
                f" {statements.snapshots_table}"
            )
            state.findings.add(
                Difference(
                    Found.ORPHANED, what, table=statements.markets_table, row_id=group.last_id
                ),
                group.rows,
            )
            found.orphans.append((kind, group.snapshot_id, group.last_id))
        if groups:
            shown = sum(group.rows for group in groups)
            state.findings.counts[Found.ORPHANED] += int(groups[0].total) - shown
