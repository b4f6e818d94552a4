"""The tables as a verification sees them: one snapshot of the database, from first to last.

A REPEATABLE READ, READ ONLY transaction in one session. It locks nothing that a
sink needs; but as long as it is open, vacuum keeps what was deleted meanwhile.
"""

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ..schemas.codec import decode
from ..schemas.errors import DecodeError
from ..schemas.wire import Kind
from . import verify_sql as sql
from .classify import ErrorClass, classify
from .database import savepoint
from .dead_letters import REDRIVEN
from .items import Key, LogRecord, PartitionPart, items_of
from .verify_compare import StoredMarkets, StoredRow, same_document
from .verify_letters import OwnLetter
from .verify_logs import Source
from .verify_redrives import NamedLetter, Redriven

__all__ = ["Tables", "open_tables"]

_PAGE_ROWS = 5000
_HAS_TRANSACTION_TIMEOUT = 17
# Below every id: the walk begins behind it.
_FIRST = (-(2**63), datetime(1, 1, 1, tzinfo=UTC))


@asynccontextmanager
async def open_tables(engine: AsyncEngine) -> AsyncIterator["Tables"]:
    """The snapshot of this moment, kept until the block ends.

    Raises:
        Whatever PostgreSQL and its driver raise.
    """
    async with engine.connect() as connection:
        await connection.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        async with connection.begin():
            for setting in sql.SETTINGS:
                await connection.execute(text(setting))
            raw = await connection.get_raw_connection()
            version = getattr(raw.driver_connection, "get_server_version", None)
            if version is not None and version().major >= _HAS_TRANSACTION_TIMEOUT:
                await connection.execute(text(sql.SETTING_OF_TRANSACTIONS))
            tables = Tables(connection)
            await tables.look_at_columns()
            await tables.plan_for_look_ups()
            yield tables


class Tables:
    """What one snapshot of the database holds."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._jsonb: dict[Kind, bool] = {}

    async def look_at_columns(self) -> None:
        """Note what type the raw responses have."""
        for kind in Kind:
            table = sql.verify_statements(kind, raw_is_jsonb=True).snapshots_table
            found = await self._connection.execute(sql.RAW_TYPE, {"table": table})
            self._jsonb[kind] = found.scalar_one() == "jsonb"

    def statements(self, kind: Kind) -> sql.VerifyStatements:
        """The statements of a kind."""
        return sql.verify_statements(kind, raw_is_jsonb=self._jsonb[kind])

    async def plan_for_look_ups(self, *, by_index: bool = True) -> None:
        """Look keys up by index, also in tables whose statistics are not there yet."""
        value = "off" if by_index else "on"
        for setting in ("enable_hashjoin", "enable_mergejoin", "enable_seqscan"):
            await self._connection.execute(text(f"SET LOCAL {setting} = {value}"))

    async def logs(self) -> tuple[Sequence[Any], dict[int, dict[int, Any]]]:
        """The registered logs, and their ledger rows by log and partition."""
        ledger: dict[int, dict[int, Any]] = {}
        for row in await self._connection.execute(sql.LEDGER):
            ledger.setdefault(row.log_id, {})[row.partition] = row
        return (await self._connection.execute(sql.LOGS)).all(), ledger

    async def id_floors(self) -> dict[Kind, int]:
        """The highest id that each table had when the log began, or a restore was found."""
        value = (await self._connection.execute(sql.READ_ID_FLOORS)).scalar_one_or_none() or {}
        return {kind: value.get(kind.value, 0) for kind in Kind}

    async def letters(
        self, log_id: int, parts: Sequence[PartitionPart]
    ) -> dict[tuple[int, int, int], OwnLetter]:
        """The dead letters of a part of the log, by partition, offset and item."""
        rows = await self._connection.execute(
            sql.LETTERS,
            {
                "log_id": log_id,
                "partitions": [part.partition for part in parts],
                "starts": [part.start for part in parts],
                "ends": [part.end for part in parts],
            },
        )
        return {
            (row.log_partition, row.log_offset, row.item): OwnLetter(row.status, row.resent)
            for row in rows
        }

    async def named_letters(
        self, log_ids: Sequence[int], named: Collection[Redriven]
    ) -> dict[tuple[int, int, int], list[NamedLetter]]:
        """The letters at the sources that records sent again name."""
        places = sorted({(one.partition, one.offset) for one in named})
        rows = await self._connection.execute(
            sql.NAMED_LETTERS,
            {
                "log_ids": list(log_ids),
                "partitions": [partition for partition, _ in places],
                "offsets": [offset for _, offset in places],
            },
        )
        found: dict[tuple[int, int, int], list[NamedLetter]] = {}
        for row in rows:
            by = (row.redrive_partition, row.redrive_offset) if row.status == REDRIVEN else None
            place = (row.log_partition, row.log_offset, row.item)
            found.setdefault(place, []).append(NamedLetter(row.status, by))
        return found

    async def rows(self, kind: Kind, keys: Collection[Key]) -> dict[Key, StoredRow]:
        """The rows of natural keys, each of which a table can hold."""
        if not keys:
            return {}
        rows = await self._connection.execute(self.statements(kind).rows, _parameters(keys))
        return {row.key: row for row in map(_row, rows)}

    async def rows_by_id(self, kind: Kind, ids: Collection[int]) -> list[StoredRow]:
        """The rows of ids, also those from before the log."""
        rows = await self._connection.execute(
            self.statements(kind).rows_by_id, {"ids": sorted(ids)}
        )
        return [_row(row) for row in rows]

    async def markets(self, kind: Kind, ids: Collection[int]) -> dict[int, StoredMarkets]:
        """The market rows of snapshots, every column."""
        if not ids:
            return {}
        rows = await self._connection.execute(self.statements(kind).markets, {"ids": sorted(ids)})
        return {row[0]: StoredMarkets(*(column or () for column in row[1:])) for row in rows}

    async def market_counts(self, kind: Kind, ids: Collection[int]) -> dict[int, int]:
        """How many market rows each snapshot has."""
        if not ids:
            return {}
        rows = await self._connection.execute(
            self.statements(kind).market_counts, {"ids": sorted(ids)}
        )
        return {row.id: row.markets for row in rows}

    async def equal_raws(
        self, kind: Kind, pairs: Sequence[tuple[StoredRow, str | None]]
    ) -> list[bool]:
        """Of each row and raw response, whether the row holds it, by value."""
        if not pairs:
            return []
        parameters = {
            "numbers": [*range(len(pairs))],
            "ids": [row.id for row, _ in pairs],
            "captured_ats": [row.key.captured_at for row, _ in pairs],
            "raws": [raw for _, raw in pairs],
        }
        try:
            async with savepoint(self._connection):
                found = await self._connection.execute(self.statements(kind).equal_raws, parameters)
                numbers = {row.n for row in found}
        except DBAPIError as error:
            if classify(error) is not ErrorClass.POISON:
                raise
            numbers = set()  # one of them is no JSON to PostgreSQL: they are compared one by one
        return [
            n in numbers or await self._equal_raw(kind, row, raw)
            for n, (row, raw) in enumerate(pairs)
        ]

    async def _equal_raw(self, kind: Kind, row: StoredRow, raw: str | None) -> bool:
        found = await self._connection.execute(
            self.statements(kind).raw_texts, {"id": row.id, "captured_at": row.key.captured_at}
        )
        return same_document(raw, found.scalar_one_or_none())

    async def pending(self, kind: Kind, keys: Collection[Key]) -> dict[Key, datetime]:
        """What waits for these snapshots, with the latest time."""
        rows = await self._connection.execute(
            sql.PENDING, {"kind": kind.value, **_parameters(keys)}
        )
        return {
            Key(row.event_id, row.bookmaker_id, row.captured_at): row.confirmed_at for row in rows
        }

    async def expired(self, kind: Kind, events: Collection[int]) -> dict[Key, datetime]:
        """The confirmations that became letters because their snapshot never came."""
        rows = await self._connection.execute(
            sql.UNKNOWN_LETTERS, {"kind": kind.value, "event_ids": sorted(events)}
        )
        latest: dict[Key, datetime] = {}
        for row in rows:
            record = LogRecord(None, None, None, row.value, (), None)
            try:
                record.fragment = decode(row.value or b"")
            except DecodeError:
                continue
            for item in items_of([record]).confirmations:
                held = latest.get(item.key, item.confirmed_at)
                latest[item.key] = max(held, item.confirmed_at)
        return latest

    async def walk(self, kind: Kind) -> AsyncIterator[list[StoredRow]]:
        """Every row of a snapshots table in the order of ids, page by page."""
        last = _FIRST
        while True:
            found = await self._connection.execute(
                self.statements(kind).page,
                {"id": last[0], "captured_at": last[1], "rows": _PAGE_ROWS},
            )
            page = [_row(row) for row in found]
            if not page:
                return
            yield page
            last = (page[-1].id, page[-1].key.captured_at)

    async def orphans(self, kind: Kind, floor: int, groups: int) -> Sequence[Any]:
        """Market rows without a snapshot, by the id that they name; each with the `total`.

        Those from before the log (no time of their own, an id up to the floor) are left out.
        """
        await self.plan_for_look_ups(by_index=False)
        found = await self._connection.execute(
            self.statements(kind).orphans, {"floor": floor, "groups": groups}
        )
        await self.plan_for_look_ups()
        return found.all()


def _row(row: Any) -> StoredRow:
    return StoredRow(
        row.id,
        Key(row.event_id, row.bookmaker_id, row.captured_at),
        row.scrape_run_id,
        row.last_confirmed_at,
        row.content_hash,
        Source(row.log_id, row.log_partition, row.log_offset),
    )


def _parameters(keys: Iterable[Key]) -> dict[str, Any]:
    ordered = sorted(keys)
    return {
        "event_ids": [key.event_id for key in ordered],
        "bookmaker_ids": [key.bookmaker_id for key in ordered],
        "captured_ats": [key.captured_at for key in ordered],
    }
