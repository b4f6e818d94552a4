"""The data transaction of one poll: all of its steps, or none.

READ COMMITTED, always in this order:

1. lock the ledger's rows of the poll; drop what lies below them, leave out the
   partitions whose row is behind or gone
2. fold by natural key
3. snapshots and their markets
4. confirmations
5. dead letters, what becomes of those that were sent again, and what has arrived of scrape runs
6. the ledger, forward, from the value locked in step 1
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ..schemas.errors import ProtectionError
from ..schemas.kill_points import reached
from ..schemas.redrive import is_redriven
from ..schemas.wire import Kind
from . import sql
from .arrivals import arrivals_of
from .checks import ColumnLimits
from .database import LockWaits
from .dead_letters import (
    POISON,
    UNDECODABLE,
    DeadLetter,
    insert_dead_letters,
    letter_for_record,
)
from .items import Items, PartitionPart, items_of
from .poison import PoisonTally, cause_of
from .redriven import settle_redriven, split_redriven
from .runs import write_arrivals
from .turn import commit_follows
from .write import Written, write_items

__all__ = [
    "PartTotals",
    "PartitionPart",
    "PollResult",
    "drop_unstable_ids",
    "part_totals",
    "poison_tally",
    "write_poll",
]


@dataclass(slots=True)
class PollResult:
    """What a committed transaction has done.

    `next_offsets` has where each written partition's ledger stands now;
    `went_back` the partitions whose ledger was behind or gone: nothing of them
    was written. `letters` has the dead letters by reason and cause.
    """

    next_offsets: dict[int, int] = field(default_factory=dict)
    went_back: list[int] = field(default_factory=list)
    fenced: int = 0
    records: int = 0
    snapshots: int = 0
    markets: int = 0
    confirmations: int = 0
    pending: int = 0
    duplicates: int = 0
    conflicts: int = 0
    dead_letters: int = 0
    unstable_ids: int = 0
    missing_ids: int = 0
    trials: int = 0
    copy_seconds: float = 0.0
    letters: Counter[tuple[str, str]] = field(default_factory=Counter)
    redriven: int = 0
    tally: PoisonTally = field(default_factory=PoisonTally)


async def write_poll(
    engine: AsyncEngine,
    log_id: int,
    parts: Sequence[PartitionPart],
    limits: Mapping[Kind, ColumnLimits],
    *,
    store_raw: bool = True,
    waits: LockWaits | None = None,
    judge: Callable[[PoisonTally], None] | None = None,
) -> PollResult:
    """Write a poll in one transaction; when this returns, it is committed.

    May be called again with the same poll after any error: what was committed
    is then below the ledger and dropped.

    Args:
        engine: of the database.
        log_id: the log.
        parts: what is to be written of each partition.
        limits: what the tables can hold.
        store_raw: whether raw responses go into their rows.
        waits: is told which session may wait for another's locks.
        judge: asked before the commit; what it raises rolls everything back.

    Raises:
        Whatever PostgreSQL, the driver or the network raises (see `classify`).
    """
    async with engine.connect() as connection:
        async with connection.begin():
            await connection.execute(sql.SET_CONSTRAINTS_IMMEDIATE)
            # A zombie may hold the ledger's rows, and natural keys that it swept.
            async with (waits or LockWaits()).around(connection):
                result = await _write_locked(connection, log_id, parts, limits, store_raw)
            if judge is not None:
                judge(result.tally)
            reached("sink.before_commit")
            commit_follows()
        reached("sink.after_commit")
    return result


async def _write_locked(
    connection: AsyncConnection,
    log_id: int,
    parts: Sequence[PartitionPart],
    limits: Mapping[Kind, ColumnLimits],
    store_raw: bool,
) -> PollResult:
    result = PollResult()
    locked, valid_from = await _lock(connection, log_id, parts)
    live = _drop_applied(parts, locked, result)
    if not live:
        return result
    records = [record for part in live for record in part.records]
    result.records = len(records)
    items = items_of(records)
    result.unstable_ids = await drop_unstable_ids(connection, items, valid_from)
    written = await write_items(connection, log_id, items, limits, store_raw=store_raw)
    reached("sink.rows_written")
    letters = [letter_for_record(r) for r in records if r.error is not None] + written.letters
    letters, redrives = split_redriven(records, letters)
    await insert_dead_letters(connection, log_id, letters)
    # After the letters of this poll: the one that was sent again may be among them.
    own = await settle_redriven(connection, log_id, redrives, {p.partition: p.end for p in live})
    result.redriven = len(redrives)
    await write_arrivals(connection, arrivals_of(records))
    _count(result, written, letters, own)
    await _advance(connection, log_id, live, locked, written, letters + own)
    result.next_offsets |= {part.partition: part.end for part in live}
    return result


async def _lock(
    connection: AsyncConnection, log_id: int, parts: Sequence[PartitionPart]
) -> tuple[dict[int, int], dict[int, int]]:
    """Step 1. The locked next offsets, and from where plain ids are valid."""
    rows = await connection.execute(
        sql.LOCK_LEDGER, {"log_id": log_id, "partitions": [part.partition for part in parts]}
    )
    locked = rows.all()
    return (
        {row.partition: row.next_offset for row in locked},
        {row.partition: row.ids_valid_from for row in locked},
    )


def _drop_applied(
    parts: Sequence[PartitionPart], locked: Mapping[int, int], result: PollResult
) -> list[PartitionPart]:
    """Step 1. What is still to be written of each partition."""
    live = []
    for part in parts:
        next_offset = locked.get(part.partition)
        if next_offset is None or next_offset < part.start:
            result.went_back.append(part.partition)
            continue
        if next_offset >= part.end:
            result.fenced += len(part.records)
            result.next_offsets[part.partition] = next_offset
            continue
        kept = [r for r in part.records if r.offset is not None and r.offset >= next_offset]
        result.fenced += len(part.records) - len(kept)
        live.append(
            PartitionPart(part.partition, next_offset, part.end, kept, part.last if kept else None)
        )
    return live


async def drop_unstable_ids(
    connection: AsyncConnection, items: Items, valid_from: Mapping[int, int]
) -> int:
    """Leave out plain ids that may name another row of this database by now; how many."""
    old = [
        item
        for item in items.ids
        if item.record.partition is not None
        and (
            (item.record.offset or 0) < valid_from.get(item.record.partition, 0)
            # The ids are older than the record: it was sent again.
            or is_redriven(item.record.headers)
        )
    ]
    if not old:
        return 0
    floors = (await connection.execute(sql.READ_ID_FLOORS)).scalar_one_or_none() or {}
    unstable = {id(item) for item in old if item.id > floors.get(item.kind.value, 0)}
    items.ids = [item for item in items.ids if id(item) not in unstable]
    return len(unstable)


def _count(
    result: PollResult,
    written: Written,
    letters: Sequence[DeadLetter],
    redriven: Sequence[DeadLetter],
) -> None:
    result.snapshots = len(written.inserted)
    result.markets = sum(len(snapshot.data["markets"]) for snapshot in written.inserted)
    result.confirmations = sum(counts.matched for counts in written.kinds.values())
    result.pending = sum(counts.pending for counts in written.kinds.values())
    result.duplicates = len(written.duplicates)
    result.conflicts = written.conflicts
    result.dead_letters = len(letters) + len(redriven)
    result.missing_ids = written.missing_ids
    result.trials = written.trials
    result.copy_seconds = written.copy_seconds
    everything = (*letters, *redriven)
    result.letters = Counter((letter.reason, _cause(letter)) for letter in everything)
    result.tally = poison_tally(written, letters)


def poison_tally(written: Written, letters: Sequence[DeadLetter]) -> PoisonTally:
    """For the sliding window: waiting ones, conflicts and what was sent again are no poison."""
    poisoned = Counter(
        _cause(letter) for letter in letters if letter.reason in (POISON, UNDECODABLE)
    )
    return PoisonTally(len(written.inserted) + len(written.duplicates) + len(letters), poisoned)


def _cause(letter: DeadLetter) -> str:
    return cause_of(letter.reason, letter.sqlstate, letter.constraint_name, letter.field)


async def _advance(
    connection: AsyncConnection,
    log_id: int,
    live: Sequence[PartitionPart],
    locked: Mapping[int, int],
    written: Written,
    letters: Sequence[DeadLetter],
) -> None:
    """Step 6. Each partition's row goes from the locked value to the part's end."""
    totals = part_totals(live, written, letters)
    partitions = [part.partition for part in live]
    moved = await connection.execute(
        sql.UPDATE_LEDGER,
        {
            "log_id": log_id,
            "partitions": partitions,
            "locked_offsets": [locked[p] for p in partitions],
            "next_offsets": [part.end for part in live],
            "last_offsets": [part.last.offset if part.last else None for part in live],
            "last_crc32s": [part.last.crc32 if part.last else None for part in live],
            **{
                name: [getattr(totals[p], name) for p in partitions]
                for name in PartTotals.__dataclass_fields__
            },
        },
    )
    if moved.rowcount != len(live):
        # The rows are locked: only someone who edits the ledger by hand comes here.
        raise ProtectionError("the ledger changed while its rows were locked")


def part_totals(
    parts: Sequence[PartitionPart], written: Written, letters: Sequence[DeadLetter]
) -> dict[int, "PartTotals"]:
    """What a poll adds to the totals of each of its partitions."""
    totals = {part.partition: PartTotals(records=len(part.records)) for part in parts}
    for snapshot in written.inserted:
        if snapshot.record.partition is not None:
            totals[snapshot.record.partition].snapshots += 1
            totals[snapshot.record.partition].markets += len(snapshot.data["markets"])
    for duplicate in written.duplicates:
        if duplicate.record.partition is not None:
            totals[duplicate.record.partition].duplicates += 1
    for letter in letters:
        if letter.record.partition is not None:
            totals[letter.record.partition].dead_letters += 1
    for part in parts:
        totals[part.partition].confirmations = sum(
            len(record.fragment.confirmations) + len(record.fragment.unchanged_ids)
            for record in part.records
            if record.fragment is not None
        )
    return totals


@dataclass(slots=True)
class PartTotals:
    """What is added to a partition's totals."""

    records: int = 0
    snapshots: int = 0
    markets: int = 0
    confirmations: int = 0
    duplicates: int = 0
    dead_letters: int = 0
