"""One transaction of a replay: the sink's write path, without the ledger.

READ COMMITTED, in the sink's order, so that the two do not deadlock:

1. lock the replay's own state; nobody but another owner of it waits for that
2. (dry run) put in the keys that earlier polls would have inserted by now
3. fold, snapshots and their markets, confirmations: `write_items`
4. dead letters, what becomes of those that were sent again or can be written now, and what
   has arrived of scrape runs
5. with the last rows of a replay that adopts: the ledger
6. the state; commit, or (dry run) roll everything back
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ..schemas.kill_points import reached
from ..schemas.wire import Kind
from . import sql
from .arrivals import arrivals_of
from .checks import ColumnLimits
from .dead_letters import CONFLICT, DeadLetter, insert_dead_letters, letter_for_record
from .items import Items, PartitionPart, SnapshotItem, items_of
from .ledger import LogIdentity, add_rows, lock_log, read_rows
from .poison import PoisonTally
from .positions import Gap
from .redrive_rules import Attempt
from .redriven import settle_redriven, split_redriven
from .replay_filters import count
from .replay_letters import known_sources, settle_written, written_sources
from .replay_progress import ReplayCounts, ReplayState
from .replay_scratch import Scratch
from .replay_store import lock_state, save_state
from .runs import write_arrivals
from .transaction import drop_unstable_ids, part_totals, poison_tally
from .write import Written, write_items

__all__ = ["Adoption", "ReplayTarget", "write_replayed"]

_NEVER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Adoption:
    """What a replay needs that sets the ledger at its end.

    `ends` asks Kafka where the log's partitions end, in the last transaction: from
    there on a plain id was read from this database.
    """

    identity: LogIdentity
    gaps: Mapping[int, Gap]
    ends: Callable[[], Awaitable[Mapping[int, int]]]


@dataclass(frozen=True, slots=True)
class ReplayTarget:
    """Where and how a replay writes."""

    engine: AsyncEngine
    limits: Mapping[Kind, ColumnLimits]
    scratch: Scratch
    dry_run: bool = False
    store_raw: bool = True
    adoption: Adoption | None = None


async def write_replayed(
    target: ReplayTarget,
    state: ReplayState,
    parts: Sequence[PartitionPart],
    judge: Callable[[PoisonTally], None],
) -> tuple[ReplayState, PoisonTally]:
    """Write parts in one transaction; when this returns, it is committed (or rolled back).

    May be called again with the same parts after any error.

    Returns:
        The state behind these parts, and what the window of poison should know.

    Raises:
        ProtectionError: another process does this replay.
        Whatever PostgreSQL, the driver or the network raises (see `classify`).
    """
    async with target.engine.connect() as connection:
        async with connection.begin() as transaction:
            await connection.execute(sql.SET_CONSTRAINTS_IMMEDIATE)
            if not target.dry_run:
                stored = await lock_state(connection, state)
                if stored.step > state.step:  # our own COMMIT, whose reply was lost
                    return stored, PoisonTally()
            written, tally, following = await _write(connection, target, state, parts)
            judge(tally)
            if target.dry_run:
                await transaction.rollback()
            else:
                if following.finished and target.adoption is not None:
                    await _adopt(connection, target.adoption, following)
                following.counts.waiting_keys = _note(target.scratch, written)
                await save_state(connection, following)
                reached("replay.before_commit")
        if not target.dry_run:
            reached("replay.after_commit")
    if target.dry_run:
        # Only now: had the roll-back failed, the same parts would come again.
        _note_inserted(target.scratch, written)
        following.counts.waiting_keys = _note(target.scratch, written)
    return following, tally


async def _write(
    connection: AsyncConnection,
    target: ReplayTarget,
    state: ReplayState,
    parts: Sequence[PartitionPart],
) -> tuple[Written, PoisonTally, ReplayState]:
    records = [record for part in parts for record in part.records]
    found = items_of(records)
    items = state.where.select(found)
    undecodable = [r for r in records if r.error is not None]
    kept = [r for r in undecodable if state.where.takes_record(r)]
    whole = state.where.whole(records, found, items)
    counts = ReplayCounts(records=len(records))
    counts.filtered = count(found) - count(items) + len(undecodable) - len(kept)
    counts.unstable_ids = await _drop_untrusted_ids(connection, state.log_id, items)
    if target.dry_run:
        await _put_in_earlier(connection, target.scratch, state.log_id, items)
    written = await write_items(
        connection, state.log_id, items, target.limits, store_raw=target.store_raw
    )
    letters = [letter_for_record(record) for record in kept] + written.letters
    _count(counts, items, written, letters)
    # Before the redrives, of all that failed: what a later record of this poll came to
    # is the last word on its letter, as it is in polls of one.
    done = written_sources(whole, items, written, letters)
    counts.settled_letters = await settle_written(connection, state.log_id, done)
    letters, redrives = split_redriven(whole, letters)
    known = await known_sources(connection, state.log_id, letters)
    counts.known_letters = len(known)
    await insert_dead_letters(connection, state.log_id, letters)
    own: list[DeadLetter] = []
    if redrives:
        ends = await _applied(connection, state, parts, redrives)
        own = await settle_redriven(connection, state.log_id, redrives, ends)
    await write_arrivals(connection, arrivals_of(whole))
    totals = part_totals(parts, written, letters + own)
    following = state.after(parts, counts, {p: asdict(added) for p, added in totals.items()})
    # What is a dead letter already was judged when it became one.
    new = [
        letter
        for letter in letters
        if (letter.record.partition, letter.record.offset, letter.item) not in known
    ]
    return written, poison_tally(written, new), following


async def _applied(
    connection: AsyncConnection,
    state: ReplayState,
    parts: Sequence[PartitionPart],
    redrives: Sequence[Attempt],
) -> dict[int, int]:
    """Up to where records are written: whose letter is not there needs none.

    Of a partition that is not replayed no record will follow that could.
    """
    rows = await read_rows(connection, state.log_id)
    written = {p: span.next_offset for p, span in state.spans.items()}
    written |= {part.partition: part.end for part in parts}
    known = {p: row.next_offset for p, row in rows.items()}
    ends = {one.redrive.partition: _NEVER for one in redrives}
    return ends | {p: max(offset, known.get(p, 0)) for p, offset in written.items()}


async def _drop_untrusted_ids(connection: AsyncConnection, log_id: int, items: Items) -> int:
    """Leave out plain ids that may name another row; how many."""
    if not items.ids:
        return 0
    rows = await read_rows(connection, log_id)
    # Without a row of the ledger this database never was where the ids were read.
    known = [item for item in items.ids if item.record.partition in rows]
    unknown = len(items.ids) - len(known)
    items.ids = known
    valid_from = {partition: row.ids_valid_from for partition, row in rows.items()}
    return unknown + await drop_unstable_ids(connection, items, valid_from)


async def _put_in_earlier(
    connection: AsyncConnection, scratch: Scratch, log_id: int, items: Items
) -> None:
    """Bare rows of the keys that earlier polls inserted and rolled back.

    What these items come to is then found by the real write path.
    """
    for kind in Kind:
        keys = {item.key for item in items.snapshots if item.kind is kind}
        keys |= {item.key for item in items.confirmations if item.kind is kind}
        earlier = scratch.inserted_among(kind, keys)
        if not earlier:
            continue
        nothing = [None] * len(earlier)
        await connection.execute(
            sql.snapshot_statements(kind).insert,
            {
                "event_ids": [key.event_id for key, _ in earlier],
                "bookmaker_ids": [key.bookmaker_id for key, _ in earlier],
                "captured_ats": [key.captured_at for key, _ in earlier],
                "content_hashes": [content_hash for _, content_hash in earlier],
                "log_id": log_id,
                "scrape_run_ids": nothing,
                "raw_responses": nothing,
                "log_partitions": nothing,
                "log_offsets": nothing,
            },
        )


def _count(
    counts: ReplayCounts, items: Items, written: Written, letters: Sequence[DeadLetter]
) -> None:
    """Each write by itself: how polls fell must not show."""
    for snapshot in written.inserted:
        counts.kinds[snapshot.kind].inserted += 1
        counts.kinds[snapshot.kind].markets_inserted += _markets(snapshot)
    for snapshot in written.duplicates:
        counts.kinds[snapshot.kind].already_there += 1
        counts.kinds[snapshot.kind].markets_already_there += _markets(snapshot)
    for letter in letters:
        if letter.reason == CONFLICT and letter.kind is not None:
            counts.kinds[letter.kind].conflicts += 1
    counts.dead_letters = Counter(letter.reason for letter in letters)
    refused = {(id(letter.record), letter.item) for letter in letters}
    counts.confirmations = sum(
        1 for item in items.confirmations if (id(item.record), item.item) not in refused
    )
    unfound = {(item.kind, item.id) for item in written.unfound}
    counts.missing_ids = sum(1 for item in items.ids if (item.kind, item.id) in unfound)
    counts.confirmed_ids = len(items.ids) - counts.missing_ids


def _markets(snapshot: SnapshotItem) -> int:
    return len(snapshot.data["markets"])


def _note_inserted(scratch: Scratch, written: Written) -> None:
    for kind in Kind:
        scratch.note_inserted(
            kind, ((s.key, s.data["content_hash"]) for s in written.inserted if s.kind is kind)
        )


def _note(scratch: Scratch, written: Written) -> int:
    """Remember whose confirmation waits; how many keys that are now."""
    for kind in Kind:
        there = [s.key for s in (*written.inserted, *written.duplicates) if s.kind is kind]
        scratch.note_waiting(kind, [c.key for c in written.pending if c.kind is kind], there)
    return scratch.waiting_keys()


async def _adopt(connection: AsyncConnection, adoption: Adoption, state: ReplayState) -> None:
    """Step 5. The ledger as if the sink had written all of this.

    All rows at once, as the sink makes them: of some alone it would take the other
    partitions for new ones. Where a sink has made rows meanwhile, they stay.
    """
    await lock_log(connection, state.log_id, adoption.identity)
    if await read_rows(connection, state.log_id):
        state.adopt = False
        return
    starts = {p: (span.start, adoption.gaps.get(p)) for p, span in state.spans.items()}
    ends = await adoption.ends()
    await add_rows(connection, state.log_id, starts, ends, first_time=True)
    spans = [*state.spans.items()]
    await connection.execute(
        sql.UPDATE_LEDGER,
        {
            "log_id": state.log_id,
            "partitions": [p for p, _ in spans],
            "locked_offsets": [span.start for _, span in spans],
            "next_offsets": [span.next_offset for _, span in spans],
            "last_offsets": [span.last and span.last.offset for _, span in spans],
            "last_crc32s": [span.last and span.last.crc32 for _, span in spans],
            **{
                name: [span.totals[name] for _, span in spans]
                for name in (
                    "records",
                    "snapshots",
                    "markets",
                    "confirmations",
                    "duplicates",
                    "dead_letters",
                )
            },
        },
    )
