"""Repairs: what a verification found, mended in transactions of their own.

Beside the running sink: each looks at its rows again, locked, before it changes
anything; what is right by then stays. Rows are written by the sink's own write path,
and keep their ids, which the scraper may know.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ..schemas.codec import MarketRecord, SnapshotRecord, decoded_hash
from ..schemas.wire import Kind
from . import sql
from .checks import ColumnLimits
from .classify import ErrorClass, classify
from .dead_letters import insert_dead_letters, letter_for_record
from .items import ConfirmationItem, IdItem, Items, LogRecord, SnapshotItem
from .verify_compare import StoredMarkets, StoredRow, differing_field, fits_tables
from .verify_logs import Source
from .verify_state import Mends
from .verify_tables import Tables
from .write import Written, write_items

__all__ = ["Repairer"]

_TRIES = 5
_SAME_ROW = (
    "id = :id AND captured_at = :captured_at"
    " AND content_hash IS NOT DISTINCT FROM CAST(:content_hash AS bigint)"
    " AND log_id IS NOT DISTINCT FROM CAST(:log_id AS int)"
    " AND log_partition IS NOT DISTINCT FROM CAST(:log_partition AS int)"
    " AND log_offset IS NOT DISTINCT FROM CAST(:log_offset AS bigint)"
)


class _NotMendedError(Exception):
    """The write path did not take the snapshot: its row stays as it is."""


class Repairer:
    """Mends differences; `done` counts what was changed, by what was done."""

    def __init__(
        self, engine: AsyncEngine, limits: Mapping[Kind, ColumnLimits], *, store_raw: bool
    ) -> None:
        self._engine = engine
        self._limits = limits
        self._store_raw = store_raw
        self.done: Counter[str] = Counter()

    async def mend(self, log_id: int, mends: Mends) -> None:
        """Mend what was found in a part of a log.

        Raises:
            Whatever PostgreSQL raises that does not pass by itself.
        """
        if mends.records:
            await self._transaction(lambda c: self._keep_records(c, log_id, mends.records))
        for item in mends.different:
            await self._rewrite(log_id, item)
        if mends.missing:
            await self._transaction(lambda c: self._write_missing(c, log_id, mends.missing))
        if mends.confirmations or mends.ids:
            await self._transaction(
                lambda c: self._confirm(c, log_id, mends.confirmations, mends.ids)
            )

    async def name_record(self, kind: Kind, row: StoredRow, source: Source) -> None:
        """Let a row name the record that holds it."""
        table = sql.snapshot_statements(kind).snapshots_table
        statement = text(
            f"UPDATE {table} SET log_id = :right_log_id, log_partition = :right_partition,"  # noqa: S608
            f" log_offset = :right_offset WHERE {_SAME_ROW}"
        )
        right = {
            "right_log_id": source.log_id,
            "right_partition": source.partition,
            "right_offset": source.offset,
        }
        await self._transaction(
            lambda c: self._execute(c, "named", statement, {**_same(row), **right})
        )

    async def lower(self, kind: Kind, row: StoredRow, latest: datetime) -> None:
        """Take back a confirmation that no record says, unless it changed meanwhile."""
        table = sql.snapshot_statements(kind).snapshots_table
        statement = text(
            f"UPDATE {table} SET last_confirmed_at = :latest WHERE {_SAME_ROW}"  # noqa: S608
            " AND last_confirmed_at = :wrong"
        )
        values = {**_same(row), "latest": latest, "wrong": row.last_confirmed_at}
        await self._transaction(lambda c: self._execute(c, "lowered", statement, values))

    async def delete_row(self, kind: Kind, row: StoredRow) -> None:
        """Delete a row that should not be there, with its market rows, if it is still the same."""
        await self._transaction(lambda c: self._delete_row(c, kind, row))

    async def delete_orphans(self, kind: Kind, snapshot_id: int, last_id: int) -> None:
        """Delete the market rows of a snapshot that is not there, up to the last that was seen."""
        names = sql.snapshot_statements(kind)
        statement = text(
            f"DELETE FROM {names.markets_table} AS m"  # noqa: S608
            " WHERE m.snapshot_id = :snapshot_id AND m.id <= :last_id AND NOT EXISTS"
            f" (SELECT FROM {names.snapshots_table} AS s WHERE s.id = m.snapshot_id)"
        )
        values = {"snapshot_id": snapshot_id, "last_id": last_id}
        await self._transaction(
            lambda c: self._execute(c, "market_rows_deleted", statement, values)
        )

    async def _transaction(self, work: Callable[[AsyncConnection], Awaitable[None]]) -> None:
        """One transaction; again a few times where it lost to another one."""
        before = Counter(self.done)
        for attempt in range(_TRIES):
            try:
                async with self._engine.begin() as connection:
                    await connection.execute(sql.SET_CONSTRAINTS_IMMEDIATE)
                    await work(connection)
            except Exception as error:
                self.done = Counter(before)
                if attempt == _TRIES - 1 or classify(error) is not ErrorClass.TRANSIENT:
                    raise
            else:
                return

    async def _execute(
        self, connection: AsyncConnection, name: str, statement: Any, values: Mapping[str, Any]
    ) -> None:
        self.done[name] += (await connection.execute(statement, values)).rowcount

    async def _keep_records(
        self, connection: AsyncConnection, log_id: int, records: Sequence[LogRecord]
    ) -> None:
        await insert_dead_letters(connection, log_id, [letter_for_record(r) for r in records])
        self.done["dead_letters"] += len(records)

    async def _write(self, connection: AsyncConnection, log_id: int, items: Items) -> Written:
        written = await write_items(
            connection, log_id, items, self._limits, store_raw=self._store_raw
        )
        await insert_dead_letters(connection, log_id, written.letters)
        self.done["dead_letters"] += len(written.letters)
        return written

    async def _write_missing(
        self, connection: AsyncConnection, log_id: int, items: Sequence[SnapshotItem]
    ) -> None:
        written = await self._write(connection, log_id, Items(snapshots=list(items)))
        self.done["written"] += len(written.inserted)

    async def _confirm(
        self,
        connection: AsyncConnection,
        log_id: int,
        confirmations: Sequence[ConfirmationItem],
        ids: Sequence[IdItem],
    ) -> None:
        written = await self._write(
            connection, log_id, Items(confirmations=list(confirmations), ids=list(ids))
        )
        self.done["confirmed"] += sum(c.matched + c.pending for c in written.kinds.values())

    async def _rewrite(self, log_id: int, item: SnapshotItem) -> None:
        try:
            await self._transaction(lambda c: self._rewrite_locked(c, log_id, item))
        except _NotMendedError:
            self.done["not_mended"] += 1

    async def _rewrite_locked(
        self, connection: AsyncConnection, log_id: int, item: SnapshotItem
    ) -> None:
        tables = Tables(connection)
        await tables.look_at_columns()
        if not fits_tables(item.key) or not await self._lock(connection, item):
            await self._write_missing(connection, log_id, [item])
            return
        row = (await tables.rows(item.kind, [item.key]))[item.key]
        markets = (await tables.markets(item.kind, [row.id]))[row.id]
        if await self._is_right(tables, log_id, item, row, markets):
            return
        if _is_another(log_id, item, row, markets):
            # What the row holds is whole: this record is the conflict, and becomes a letter.
            await self._write_missing(connection, log_id, [item])
            return
        await self._replace(connection, tables, log_id, item, row)

    async def _lock(self, connection: AsyncConnection, item: SnapshotItem) -> bool:
        names = sql.snapshot_statements(item.kind)
        bookmaker = " AND bookmaker_id = :bookmaker_id" if item.kind is Kind.BETPAWA else ""
        found = await connection.execute(
            text(
                f"SELECT id FROM {names.snapshots_table} WHERE {names.event_column} = :event_id"  # noqa: S608
                f"{bookmaker} AND captured_at = :captured_at AND content_hash IS NOT NULL"
                " FOR UPDATE"
            ),
            item.key._asdict(),
        )
        return found.first() is not None

    async def _is_right(
        self,
        tables: Tables,
        log_id: int,
        item: SnapshotItem,
        row: StoredRow,
        markets: StoredMarkets,
    ) -> bool:
        """Whether the row is by now what this record says."""
        raw = item.data["raw_response"] if self._store_raw else None
        return (
            row.content_hash == item.data["content_hash"]
            and row.source == (log_id, item.record.partition, item.record.offset)
            and row.scrape_run_id == item.data["scrape_run_id"]
            and differing_field(item.data["markets"], markets, row.key.captured_at) is None
            and (await tables.equal_raws(item.kind, [(row, raw)])) == [True]
        )

    async def _replace(
        self,
        connection: AsyncConnection,
        tables: Tables,
        log_id: int,
        item: SnapshotItem,
        row: StoredRow,
    ) -> None:
        """Delete the row and write it again, with its id and the latest confirmation."""
        if len(await tables.rows_by_id(item.kind, [row.id])) > 1:
            raise _NotMendedError  # two rows of one id: whose are the market rows?
        names = sql.snapshot_statements(item.kind)
        await self._delete(connection, item.kind, row)
        written = await self._write(connection, log_id, Items(snapshots=[item]))
        if not written.inserted:
            raise _NotMendedError
        made = (await tables.rows(item.kind, [item.key]))[item.key]
        await connection.execute(
            text(
                f"UPDATE {names.snapshots_table} SET id = :id,"  # noqa: S608
                " last_confirmed_at = GREATEST(last_confirmed_at, CAST(:confirmed AS timestamptz))"
                " WHERE id = :made AND captured_at = :captured_at"
            ),
            {
                "id": row.id,
                "made": made.id,
                "captured_at": item.key.captured_at,
                "confirmed": row.last_confirmed_at,
            },
        )
        await connection.execute(
            text(
                f"UPDATE {names.markets_table} SET snapshot_id = :id WHERE snapshot_id = :made"  # noqa: S608
            ),
            {"id": row.id, "made": made.id},
        )
        self.done["rewritten"] += 1

    async def _delete_row(self, connection: AsyncConnection, kind: Kind, row: StoredRow) -> None:
        table = sql.snapshot_statements(kind).snapshots_table
        found = await connection.execute(
            text(f"SELECT id FROM {table} WHERE {_SAME_ROW} FOR UPDATE"),  # noqa: S608
            _same(row),
        )
        if found.first() is not None:
            await self._delete(connection, kind, row)
            self.done["deleted"] += 1

    async def _delete(self, connection: AsyncConnection, kind: Kind, row: StoredRow) -> None:
        names = sql.snapshot_statements(kind)
        await connection.execute(
            text(f"DELETE FROM {names.snapshots_table} WHERE {_SAME_ROW}"),  # noqa: S608
            _same(row),
        )
        await connection.execute(
            text(
                f"DELETE FROM {names.markets_table} AS m WHERE m.snapshot_id = :id"  # noqa: S608
                f" AND NOT EXISTS (SELECT FROM {names.snapshots_table} AS s WHERE s.id = :id)"
            ),
            {"id": row.id},
        )


def _same(row: StoredRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "captured_at": row.key.captured_at,
        "content_hash": row.content_hash,
        "log_id": row.source.log_id,
        "log_partition": row.source.partition,
        "log_offset": row.source.offset,
    }


def _is_another(log_id: int, item: SnapshotItem, row: StoredRow, markets: StoredMarkets) -> bool:
    """Whether a row with another hash is whole, and of another record: the first of its key."""
    if row.content_hash == item.data["content_hash"]:
        return False
    if row.source == (log_id, item.record.partition, item.record.offset):
        return False
    records = [
        MarketRecord(**dict(zip(StoredMarkets._fields, values, strict=False)))  # type: ignore[typeddict-item]
        for values in zip(*markets[:8], strict=True)
    ]
    held = SnapshotRecord(**{**item.data, "markets": records})
    return decoded_hash(item.kind, item.key.event_id, held) == row.content_hash
