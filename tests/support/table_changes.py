"""Random changes of the tables, by seed, each of which a verification has to find."""

import random
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

__all__ = ["COLUMNS", "Change", "change_one"]

_SNAPSHOT_COLUMNS = {
    "id": "{0} + 1000000",
    "captured_at": "{0} + interval '1 microsecond' * {n}",
    "scrape_run_id": "CASE WHEN {0} = 1 THEN 2 WHEN {0} = 2 THEN NULL ELSE 1 END",
    "raw_response": "CASE WHEN {0} IS NULL THEN '{{\"x\": {n}}}' END",
    "last_confirmed_at": "CASE WHEN {n} % 3 = 0 THEN NULL"
    " ELSE {0} + interval '1 microsecond' * (CASE WHEN {n} % 3 = 1 THEN {n} ELSE -{n} END) END",
    "content_hash": "CASE WHEN {n} % 2 = 0 THEN NULL ELSE {0} + {n} END",
    "log_id": "CASE WHEN {n} % 2 = 0 THEN NULL ELSE 99 END",
    "log_partition": "CASE WHEN {n} % 2 = 0 THEN NULL ELSE {0} + 2 END",
    "log_offset": "CASE WHEN {n} % 2 = 0 THEN NULL ELSE {0} + 3 END",
}
# Not `id`: the log does not know it, and as long as the order stays it says nothing.
_MARKET_COLUMNS = {
    "snapshot_id": "CASE WHEN {n} % 2 = 0 THEN {0} + 1 ELSE -{0} END",
    "betpawa_market_id": "{0} || 'x'",
    "betpawa_market_name": "CASE WHEN {n} % 2 = 0 THEN '' ELSE {0} || ' ' END",
    "line": "CASE WHEN {0} IS NULL THEN 0 WHEN {n} % 2 = 0 THEN NULL ELSE {0} + 1e-12 END",
    "handicap_type": "CASE WHEN {0} IS NULL THEN '' END",
    "handicap_home": "CASE WHEN {0} IS NULL THEN 0 ELSE -{0} END",
    "handicap_away": "CASE WHEN {0} IS NULL THEN 'NaN' ELSE {0} + 1 END",
    "outcomes": "CASE WHEN {n} % 2 = 0 THEN replace({0}::text, '1.9', '1.{n}')::json"
    " ELSE '[{n}]'::json END",
    "market_groups": "CASE WHEN {0} IS NULL THEN '[]'::json END",
    "captured_at": "CASE WHEN {n} % 2 = 0 THEN NULL ELSE {0} + interval '1 microsecond' END",
}
_TABLES = {
    "odds_snapshots": {
        **_SNAPSHOT_COLUMNS,
        "event_id": "26 + {n} % 4",
        "bookmaker_id": "3",
    },
    "competitor_odds_snapshots": {
        **_SNAPSHOT_COLUMNS,
        "competitor_event_id": "26 + {n} % 4",
    },
    "market_odds": _MARKET_COLUMNS,
    "competitor_market_odds": _MARKET_COLUMNS,
}
COLUMNS = [(table, column) for table, columns in _TABLES.items() for column in columns]


@dataclass(frozen=True)
class Change:
    """What was done to which row."""

    table: str
    what: str
    row: Any


async def change_one(engine: AsyncEngine, chance: random.Random, turn: int) -> Change:
    """Change one row that the log knows: each column in turn, or delete or copy a row."""
    number = chance.randrange(1, 1000)
    async with engine.begin() as connection:
        how = turn % (len(COLUMNS) + 8)
        if how < len(COLUMNS):
            table, column = COLUMNS[how]
            return await _update(connection, chance, table, column, number)
        table = list(_TABLES)[how % 4]
        row = await _any_row(connection, chance, table, _KEPT_IDS.get(table, "true"))
        if how < len(COLUMNS) + 4:
            await connection.execute(
                text(f"DELETE FROM {table} WHERE id = :id AND {_LOGGED[table]}"),  # noqa: S608
                {"id": row.id},
            )
            return Change(table, "delete", row)
        return await _copy(connection, table, row, number)


_LOGGED = {
    "odds_snapshots": "log_offset IS NOT NULL",
    "competitor_odds_snapshots": "log_offset IS NOT NULL",
    # Market rows from before the log have no time of their own.
    "market_odds": "captured_at IS NOT NULL",
    "competitor_market_odds": "captured_at IS NOT NULL",
}
# It was confirmed by plain id: what comes back under another id is not known to be that;
# and the log is not known to have named this row, so what it says is not taken for lost.
_KEPT_IDS = {"odds_snapshots": "event_id <> 22"}
# The row keeps its id where these are mended.
_IN_PLACE = ("scrape_run_id", "raw_response")


async def _any_row(
    connection: AsyncConnection, chance: random.Random, table: str, condition: str
) -> Any:
    rows = (
        await connection.execute(
            text(f"SELECT * FROM {table} WHERE {_LOGGED[table]} AND {condition} ORDER BY id")  # noqa: S608
        )
    ).all()
    return chance.choice(rows)


async def _update(
    connection: AsyncConnection, chance: random.Random, table: str, column: str, number: int
) -> Change:
    condition = "true"
    if column == "id":  # a snapshot without markets has nothing that hangs on its id
        markets = "market_odds" if table == "odds_snapshots" else "competitor_market_odds"
        condition = f"EXISTS (SELECT FROM {markets} WHERE snapshot_id = {table}.id)"
    if column not in _IN_PLACE:
        condition += f" AND {_KEPT_IDS.get(table, 'true')}"
    row = await _any_row(connection, chance, table, condition)
    value = _TABLES[table][column].format(column, n=number)
    if column == "raw_response":
        value = f"({value})::{'jsonb' if table == 'odds_snapshots' else 'json'}"
    changed = await connection.execute(
        text(f"UPDATE {table} SET {column} = {value} WHERE id = :id RETURNING {column}"),  # noqa: S608
        {"id": row.id},
    )
    return Change(table, f"{column} = {changed.scalar_one()!r}", row)


async def _copy(connection: AsyncConnection, table: str, row: Any, number: int) -> Change:
    """A second row like one that is there, at another time where the key has to differ."""
    columns = [name for name in row._fields if name != "id"]
    values = [
        f"captured_at + interval '{number} s'"
        if name == "captured_at" and "snapshots" in table
        else name
        for name in columns
    ]
    await connection.execute(
        text(
            f"INSERT INTO {table} ({', '.join(columns)})"  # noqa: S608
            f" SELECT {', '.join(values)} FROM {table} WHERE id = :id"
        ),
        {"id": row.id},
    )
    return Change(table, "copy", row)
