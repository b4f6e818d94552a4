"""Placing: from a fresh assignment to a partition that is read on.

Runs outside the rebalance callbacks, because it waits for the database and for
Kafka. Everything it decides is in `positions.py`; it only asks and writes down.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ..schemas.kill_points import reached
from .ledger import (
    LogIdentity,
    add_rows,
    mark_went_back,
    move_over_gap,
    read_rows,
    register_log,
)
from .positions import Gap, LogRange, Placement, first_offset, place

__all__ = ["LogEnds", "Placed", "PlacingOptions", "place_partitions"]

log = structlog.get_logger("oddslog.sink")


class LogEnds(Protocol):
    """What placing asks of Kafka."""

    async def ranges(self, partitions: range) -> dict[int, LogRange]:
        """What the log holds of each partition now."""

    async def committed(self, partitions: range) -> dict[int, int | None]:
        """The group's offsets."""


@dataclass(frozen=True)
class PlacingOptions:
    """What the operator allows.

    `start` is where a log begins that has no row yet: `earliest` (whatever is
    gone before it) or `latest`; None is offset 0, and anything else a gap.
    """

    accept_gap: bool = False
    start: str | None = None


@dataclass(frozen=True)
class Placed:
    """Where each partition of the log is read on."""

    log_id: int
    placements: Mapping[int, Placement] = field(default_factory=dict)


async def place_partitions(
    engine: AsyncEngine,
    log_ends: LogEnds,
    identity: LogIdentity,
    options: PlacingOptions,
    seen: Mapping[int, int] | None = None,
) -> Placed:
    """Place every partition of the log, in one transaction of its own.

    All of them and not only those of this member: rows, plain-id floors and the
    mark of a restored database have to be of one moment.

    Args:
        engine: of the database.
        log_ends: what Kafka says.
        identity: which log, with its partitions as they are now.
        options: what the operator allows.
        seen: how far this process has seen the ledger of partitions that went
            back under it.

    Raises:
        ProtectionError: a gap, or not the log that filled this database.
        Whatever Kafka and PostgreSQL raise.
    """
    partitions = range(identity.partition_count)
    # The order matters while another member still writes: the group's offsets are
    # asked before the ledger and the log's ends after it, so that neither a group
    # ahead of the ledger nor a ledger ahead of the log is ever seen by mistake.
    committed = await log_ends.committed(partitions)
    known = {p: _farthest(committed[p], (seen or {}).get(p)) for p in partitions}
    async with engine.connect() as connection:
        async with connection.begin():
            placed = await _place(connection, log_ends, identity, options, known)
            reached("sink.before_placing_commit")
        reached("sink.after_placing_commit")
    _report(placed.placements, committed)
    return placed


async def _place(
    connection: AsyncConnection,
    log_ends: LogEnds,
    identity: LogIdentity,
    options: PlacingOptions,
    known: Mapping[int, int | None],
) -> Placed:
    """The transaction: rows where there are none, gaps moved over, a way back marked."""
    partitions = range(identity.partition_count)
    log_id = await register_log(connection, identity)
    rows = await read_rows(connection, log_id)
    ranges = await log_ends.ranges(partitions)
    ends = {partition: log_range.end for partition, log_range in ranges.items()}
    missing = {p: ranges[p] for p in partitions if p not in rows}
    if missing:
        # An explicit start is for the first time: partitions that are added later,
        # and a database that lost its ledger, with the option still there, are
        # read from their beginning.
        first_time = not rows and not any(known.values())
        start = options.start if first_time else None
        starts = {
            p: _start(p, log_range, start, accept_gap=options.accept_gap)
            for p, log_range in missing.items()
        }
        # A partition that was added to this log is known from its first record.
        new = {p for p in missing if rows and not known[p] and starts[p] == (0, None)}
        valid_from = {p: 0 if p in new else end for p, end in ends.items()}
        await add_rows(connection, log_id, starts, valid_from, first_time=not rows)
        rows = await read_rows(connection, log_id)
    placements = {}
    for partition in partitions:
        placements[partition] = place(
            rows[partition],
            ranges[partition],
            committed=known[partition],
            accept_gap=options.accept_gap,
        )
        await _accept_gap(connection, log_id, partition, placements[partition].gap)
    if any(placement.went_back for placement in placements.values()):
        await mark_went_back(connection, log_id, ends)
    return Placed(log_id, placements)


def _farthest(committed: int | None, seen: int | None) -> int | None:
    """How far this database is known to have been; None where nothing is known."""
    known = [offset for offset in (committed, seen) if offset is not None]
    return max(known, default=None)


def _start(
    partition: int, log_range: LogRange, named: str | None, *, accept_gap: bool
) -> tuple[int, Gap | None]:
    explicit = {"earliest": log_range.start, "latest": log_range.end}.get(named or "")
    start, gap = first_offset(partition, log_range, accept_gap=accept_gap, start=explicit)
    if gap is not None:
        _log_gap(partition, gap)
    return start, gap


async def _accept_gap(
    connection: AsyncConnection, log_id: int, partition: int, gap: Gap | None
) -> None:
    if gap is not None:
        await move_over_gap(connection, log_id, partition, gap)
        _log_gap(partition, gap)


def _log_gap(partition: int, gap: Gap) -> None:
    log.warning(
        "gap_accepted", partition=partition, from_offset=gap.from_offset, to_offset=gap.to_offset
    )


def _report(placements: Mapping[int, Placement], committed: Mapping[int, int | None]) -> None:
    for partition, placement in placements.items():
        group_offset = committed[partition]
        if group_offset is not None and placement.next_offset < group_offset:
            log.warning(
                "ledger_behind_group",
                partition=partition,
                next_offset=placement.next_offset,
                group_offset=group_offset,
                restored=placement.went_back,
            )
        if placement.unchecked:
            log.warning("position_unchecked", partition=partition, offset=placement.next_offset)
