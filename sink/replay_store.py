"""A replay's state in the database, so that an interrupted one can go on.

A row of `oddslog_meta` each, locked and written in the transaction of the rows that
it counts. The last process that took a replay over owns it; another finds out at its
next transaction, before it has written anything.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from ..schemas.errors import ConfigurationError, ProtectionError
from .replay_progress import ReplayState

__all__ = [
    "Unfinished",
    "add_state",
    "lock_state",
    "remove_state",
    "save_state",
    "take_over",
    "unfinished",
]

_PREFIX = "replay:"
# Of replays that nobody went on with for so long, the log's records are gone by default.
_KEEP_DAYS = 30

_ADD = text("INSERT INTO oddslog_meta (name, value) VALUES (:name, CAST(:value AS jsonb))")
_LOCK = text("SELECT value FROM oddslog_meta WHERE name = :name FOR UPDATE")
_SAVE = text(
    "UPDATE oddslog_meta SET value = CAST(:value AS jsonb), updated_at = now() WHERE name = :name"
)
_REMOVE = text("DELETE FROM oddslog_meta WHERE name = :name")
_PRUNE = text(
    "DELETE FROM oddslog_meta WHERE name LIKE 'replay:%'"
    " AND updated_at < now() - make_interval(days => :days)"
)
_LIST = text(
    "SELECT value, updated_at FROM oddslog_meta WHERE name LIKE 'replay:%' ORDER BY updated_at DESC"
)


@dataclass(frozen=True)
class Unfinished:
    """A replay that was interrupted, or goes on elsewhere; when it last wrote."""

    state: ReplayState
    updated_at: datetime


async def unfinished(connection: AsyncConnection) -> Sequence[Unfinished]:
    """Every replay in this database that is not done, the newest first."""
    rows = await connection.execute(_LIST)
    found = [Unfinished(ReplayState.from_json(row.value), row.updated_at) for row in rows]
    return [one for one in found if not one.state.finished]


async def add_state(connection: AsyncConnection, state: ReplayState) -> None:
    """Note a new replay; forget such as were left a month ago."""
    await connection.execute(_PRUNE, {"days": _KEEP_DAYS})
    await connection.execute(_ADD, _row(state))


async def take_over(connection: AsyncConnection, replay_id: str, owner: str) -> ReplayState:
    """Go on with a replay as its new owner.

    Args:
        connection: in a transaction.
        replay_id: which; `latest` is the one that wrote last.
        owner: this process.

    Raises:
        ConfigurationError: there is no such replay.
    """
    known = [one.state for one in await unfinished(connection)]
    named = known[0].replay_id if replay_id == "latest" and known else replay_id
    value = (await connection.execute(_LOCK, {"name": _PREFIX + named})).scalar_one_or_none()
    if value is None or value["finished"]:
        there = ", ".join(one.replay_id for one in known)
        raise ConfigurationError(
            f"--resume: no replay {replay_id} was interrupted in this database"
            + (f"; there is {there}" if there else ": it is done, or was into another one")
        )
    state = ReplayState.from_json(value)
    state.owner = owner
    await connection.execute(_SAVE, _row(state))
    return state


async def lock_state(connection: AsyncConnection, expected: ReplayState) -> ReplayState:
    """The state as it is stored, locked; a step further after our own lost COMMIT.

    Raises:
        ProtectionError: another process does this replay, or the database went back.
    """
    name = _PREFIX + expected.replay_id
    value = (await connection.execute(_LOCK, {"name": name})).scalar_one_or_none()
    if value is None:
        raise ProtectionError(
            f"replay {expected.replay_id} is not in the database any more: another process has"
            " ended it, or the database was restored; start it anew"
        )
    stored = ReplayState.from_json(value)
    if stored.owner != expected.owner or stored.step not in (expected.step, expected.step + 1):
        raise ProtectionError(f"another process does replay {expected.replay_id} now")
    return stored


async def save_state(connection: AsyncConnection, state: ReplayState) -> None:
    """Store the state, which is locked."""
    await connection.execute(_SAVE, _row(state))


async def remove_state(connection: AsyncConnection, state: ReplayState) -> None:
    """Forget a replay that is finished."""
    await connection.execute(_REMOVE, {"name": _PREFIX + state.replay_id})


def _row(state: ReplayState) -> dict[str, str]:
    return {"name": _PREFIX + state.replay_id, "value": json.dumps(state.to_json())}
