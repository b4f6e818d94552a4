"""The rows of a group of snapshots of one kind: theirs, and those of their markets."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from .database import copy_packed, copy_rows, takes_packed
from .items import ConfirmationItem, Key, SnapshotItem
from .packed import PACKED_FIELDS, pack, row_start
from .sql import MARKET_COLUMNS, SnapshotStatements
from .turn import long_statement

__all__ = ["copy_markets", "insert_pieces", "insert_snapshots", "key_parameters"]

# Raw responses of one INSERT, in characters: below `work_mem`, whose default is 4 MB, as
# the server holds them twice before it inserts (unnest, sort), and beyond it in files.
_PIECE_CHARACTERS = 1024 * 1024


async def insert_snapshots(
    connection: AsyncConnection,
    statements: SnapshotStatements,
    log_id: int | None,
    snapshots: Sequence[SnapshotItem],
    *,
    store_raw: bool,
) -> dict[Key, int]:
    """Insert those whose key is new; returns their ids, in the keys' order.

    Raises:
        Whatever PostgreSQL or the driver raises (see `classify`).
    """
    ids: dict[Key, int] = {}
    for piece in insert_pieces(snapshots, store_raw=store_raw):
        parameters = {
            **key_parameters(piece),
            "log_id": log_id,
            "scrape_run_ids": [s.data["scrape_run_id"] for s in piece],
            "raw_responses": [s.data["raw_response"] if store_raw else None for s in piece],
            "content_hashes": [s.data["content_hash"] for s in piece],
            "log_partitions": [s.record.partition for s in piece],
            "log_offsets": [s.record.offset for s in piece],
        }
        with long_statement():
            rows = await connection.execute(statements.insert, parameters)
        ids |= {Key(row.event_id, row.bookmaker_id, row.captured_at): row.id for row in rows}
    return ids


def insert_pieces(
    snapshots: Sequence[SnapshotItem], *, store_raw: bool
) -> Iterator[list[SnapshotItem]]:
    """What is inserted by one statement each: in the keys' order, also from piece to piece.

    Two writers of the same keys then wait for each other, and do not deadlock.
    """
    piece: list[SnapshotItem] = []
    characters = 0
    for snapshot in sorted(snapshots, key=_key):
        raw = len(snapshot.data["raw_response"] or "") if store_raw else 0
        if piece and characters + raw > _PIECE_CHARACTERS:
            yield piece
            piece, characters = [], 0
        piece.append(snapshot)
        characters += raw
    if piece:
        yield piece


async def copy_markets(
    connection: AsyncConnection,
    statements: SnapshotStatements,
    snapshots: Sequence[SnapshotItem],
    ids: Mapping[Key, int],
) -> None:
    """COPY the markets of inserted snapshots, inside the running transaction.

    Raises:
        CopyEncodeError: a value could not be encoded.
        Whatever PostgreSQL or the driver raises (see `classify`).
    """
    table = statements.markets_table
    if await takes_packed(connection, table, MARKET_COLUMNS):
        with long_statement():
            await copy_packed(connection, table, MARKET_COLUMNS, _packed_rows(snapshots, ids))
    else:  # someone has changed a column's type: the driver knows more of them
        with long_statement():
            await copy_rows(connection, table, MARKET_COLUMNS, _market_rows(snapshots, ids))


def key_parameters(items: Sequence[SnapshotItem | ConfirmationItem]) -> dict[str, Any]:
    """The natural keys as arrays, one a column."""
    return {
        "event_ids": [item.key.event_id for item in items],
        "bookmaker_ids": [item.key.bookmaker_id for item in items],
        "captured_ats": [item.key.captured_at for item in items],
    }


def _key(snapshot: SnapshotItem) -> Key:
    return snapshot.key


def _packed_rows(snapshots: Sequence[SnapshotItem], ids: Mapping[Key, int]) -> Iterator[bytes]:
    """The rows of `MARKET_COLUMNS` in binary COPY's form, in the snapshots' order."""
    for snapshot in snapshots:
        rows = pack(snapshot.data["markets"]).rows
        if rows:
            start = row_start(ids[snapshot.key], snapshot.key.captured_at)
            yield start + start.join(rows)


def _market_rows(snapshots: Sequence[SnapshotItem], ids: Mapping[Key, int]) -> Iterator[Any]:
    """The rows of `MARKET_COLUMNS`, in the snapshots' order."""
    for snapshot in snapshots:
        start = (ids[snapshot.key], snapshot.key.captured_at)
        for market in snapshot.data["markets"]:
            yield start + tuple(map(market.__getitem__, PACKED_FIELDS))
