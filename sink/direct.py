"""Without Kafka: the same write path from a `WriteBatch`, in one transaction.

Rows written this way are not in the log: nothing can refill them, and `verify`
does not know them.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from weakref import WeakKeyDictionary

import structlog
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from ..schemas.codec import AnySnapshot, EventWrites, SnapshotRecord, snapshot_part
from ..schemas.errors import InvalidRecordError
from ..schemas.kill_points import reached
from ..schemas.records import SnapshotWriteData, WriteBatch
from ..schemas.stamp import process_stamper
from ..schemas.wire import Kind
from . import sql
from .arrivals import arrival_of_batch
from .checks import ColumnLimits
from .classify import ErrorClass, classify
from .database import read_limits
from .dead_letters import DEAD, DeadLetter, insert_dead_letters
from .items import (
    WHOLE_RECORD,
    ConfirmationItem,
    IdItem,
    Items,
    Key,
    LogRecord,
    SnapshotItem,
    natural_key,
)
from .migrate import check_migrated
from .packed_fragment import pack_encoded
from .runs import write_arrivals
from .write import write_items

__all__ = ["DatabaseDestination", "handle_write_batch"]

log = structlog.get_logger("oddslog.sink")

SessionFactory = Callable[[], AsyncSession]

_limits: "WeakKeyDictionary[AsyncEngine, Mapping[Kind, ColumnLimits]]" = WeakKeyDictionary()


async def handle_write_batch(
    session_factory: SessionFactory, batch: WriteBatch, *, store_raw: bool = True
) -> dict[str, float]:
    """Write a batch into PostgreSQL; when this returns, it is committed.

    The times that the caller left out are stamped here: to try a batch again,
    hand over the stamped one (as `AsyncWriteQueue` does), or its snapshots get
    new keys.

    Returns:
        `inserted_bp`, `inserted_comp` (new snapshots), `updated_bp`,
        `updated_comp` (snapshots confirmed), `write_ms`, and `skipped`: records
        that cannot be written as they are, logged and kept as dead letters.

    Raises:
        sqlalchemy.exc.OperationalError: the connection was lost, or the server cannot
            write now; call again with the stamped batch.
        ConfigurationError: the database is not migrated.
    """
    started = time.perf_counter()
    stamped = process_stamper.stamp(batch, datetime.now(UTC))
    items, unencodable = await _items(stamped)
    try:
        async with session_factory() as session:
            async with session.begin():
                connection = await session.connection()
                await connection.execute(sql.SET_CONSTRAINTS_IMMEDIATE)
                limits = await _limits_of(connection)
                written = await write_items(connection, None, items, limits, store_raw=store_raw)
                letters = unencodable + written.letters
                await insert_dead_letters(connection, None, letters)
                arrival = arrival_of_batch(stamped)
                await write_arrivals(connection, [] if arrival is None else [arrival])
                reached("sink.before_direct_commit")
            reached("sink.after_direct_commit")
    except Exception as error:
        # One class to retry on: SQLAlchemy has several for a lost connection, and
        # COPY, which goes past it, raises the driver's.
        if isinstance(error, OperationalError) or classify(error) is not ErrorClass.TRANSIENT:
            raise
        raise OperationalError("handle_write_batch", None, error) from error
    for letter in letters:
        log.error(
            "record_skipped",
            reason=letter.reason,
            kind=letter.kind,
            event_id=letter.event_id,
            field=letter.field,
            problem=letter.message,
            batch_index=stamped.batch_index,
            scrape_run_id=stamped.scrape_run_id,
        )
    betpawa, competitor = written.kinds[Kind.BETPAWA], written.kinds[Kind.COMPETITOR]
    return {
        "inserted_bp": betpawa.inserted,
        "inserted_comp": competitor.inserted,
        "updated_bp": betpawa.matched,
        "updated_comp": competitor.matched,
        "write_ms": round((time.perf_counter() - started) * 1000, 3),
        "skipped": len(letters),
    }


class DatabaseDestination:
    """A destination of `AsyncWriteQueue` that writes straight into PostgreSQL."""

    def __init__(self, session_factory: SessionFactory, *, store_raw: bool = True) -> None:
        self._session_factory = session_factory
        self._store_raw = store_raw

    async def start(self) -> None:
        """Nothing to open: each batch takes its own session."""

    async def stop(self) -> None:
        """Nothing to close."""

    async def prepare(self, batch: WriteBatch) -> "_DatabaseDelivery":
        """One stamped batch on its way."""
        return _DatabaseDelivery(self._session_factory, batch, self._store_raw)


class _DatabaseDelivery:
    def __init__(self, session_factory: SessionFactory, batch: WriteBatch, store_raw: bool) -> None:
        self._session_factory = session_factory
        self._batch = batch
        self._store_raw = store_raw

    async def attempt(self, deadline_seconds: float) -> None:
        """Write the batch; any error means that it may be tried again."""
        async with asyncio.timeout(deadline_seconds):
            await handle_write_batch(self._session_factory, self._batch, store_raw=self._store_raw)

    def describe(self) -> dict[str, object]:
        """What is on its way, for logs."""
        batch = self._batch
        return {
            "event_ids": sorted({s.event_id for s in batch.changed_betpawa}),
            "competitor_event_ids": sorted(
                {s.competitor_event_id for s in batch.changed_competitor}
            ),
        }


async def _limits_of(connection: AsyncConnection) -> Mapping[Kind, ColumnLimits]:
    """The tables' limits, read once an engine."""
    engine = connection.engine
    if engine not in _limits:
        await check_migrated(connection)
        _limits[engine] = await read_limits(connection)
    return _limits[engine]


async def _items(batch: WriteBatch) -> tuple[Items, list[DeadLetter]]:
    """The batch as the write path takes it, and what could not be encoded."""
    items = Items()
    unencodable: list[DeadLetter] = []
    number = 0
    snapshots: list[AnySnapshot] = [*batch.changed_betpawa, *batch.changed_competitor]
    for snapshot in snapshots:
        await asyncio.sleep(0)  # each takes about 3 ms: the caller's loop goes on
        try:
            part = snapshot_part(snapshot)
        except InvalidRecordError as error:
            unencodable.append(_unencodable(batch, snapshot, error))
            continue
        record = _record(_fragment(batch, part.kind, part.event_id))
        key = natural_key(part.kind, part.event_id, part.record)
        data = SnapshotRecord(**{**part.record, "markets": pack_encoded(part.record["markets"])})
        items.snapshots.append(SnapshotItem(part.kind, key, data, record, number))
        number += 1
    _add_confirmations(items, batch)
    return items, unencodable


def _add_confirmations(items: Items, batch: WriteBatch) -> None:
    confirmed_at = batch.confirmed_at
    if confirmed_at is None:
        raise InvalidRecordError("confirmed_at", "is not stamped")
    for named in batch.unchanged_betpawa:
        key = Key(named.event_id, named.bookmaker_id, named.captured_at)
        record = _record(_fragment(batch, Kind.BETPAWA, named.event_id))
        items.confirmations.append(ConfirmationItem(Kind.BETPAWA, key, confirmed_at, record, 0))
    for other in batch.unchanged_competitor:
        key = Key(other.competitor_event_id, 0, other.captured_at)
        record = _record(_fragment(batch, Kind.COMPETITOR, other.competitor_event_id))
        items.confirmations.append(ConfirmationItem(Kind.COMPETITOR, key, confirmed_at, record, 0))
    for kind, ids in (
        (Kind.BETPAWA, batch.unchanged_betpawa_ids),
        (Kind.COMPETITOR, batch.unchanged_competitor_ids),
    ):
        items.ids.extend(
            IdItem(kind, plain_id, confirmed_at, _record(None), 0)
            for plain_id in ids
            if plain_id >= 1  # 0 is the scraper's "not read back yet"
        )


def _record(fragment: EventWrites | None) -> LogRecord:
    return LogRecord(None, None, None, None, (), None, fragment)


def _fragment(batch: WriteBatch, kind: Kind, event_id: int) -> EventWrites:
    return EventWrites(
        uuid.UUID(int=0),
        batch.batch_index,
        batch.batch_count,
        0,
        1,
        batch.scrape_run_id,
        kind,
        event_id,
        (),
        batch.confirmed_at,
        (),
        (),
    )


def _unencodable(batch: WriteBatch, snapshot: AnySnapshot, error: InvalidRecordError) -> DeadLetter:
    """A snapshot that has no bytes: kept as Python shows it."""
    value = repr(snapshot).encode("utf-8", "backslashreplace")
    if isinstance(snapshot, SnapshotWriteData):
        kind, event_id = Kind.BETPAWA, snapshot.event_id
    else:
        kind, event_id = Kind.COMPETITOR, snapshot.competitor_event_id
    return DeadLetter(
        _record(_fragment(batch, kind, event_id)),
        WHOLE_RECORD,
        DEAD,
        "poison",
        str(error),
        value,
        kind,
        event_id,
        field=error.field,
    )
