"""Steps 2 to 4 of the data transaction: fold, snapshots, confirmations.

The same path for a poll of the log and for `handle_write_batch`: it runs inside
the caller's transaction, and afterwards each item is in the tables, pending, or
among the letters that the caller inserts in the same transaction.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from ..schemas.kill_points import reached
from ..schemas.wire import Kind
from . import sql
from .checks import ColumnLimits, Problem, check_confirmation, check_snapshot
from .classify import ErrorClass, classify, column_of, constraint_of, sqlstate_of
from .database import savepoint
from .dead_letters import (
    CONFLICT,
    DEAD,
    MISSING_PARENT,
    POISON,
    WAITING,
    DeadLetter,
    letter_for_item,
)
from .errors import VanishedRowError
from .explain import explain_snapshot, is_overflow
from .fold import FoldedSnapshots, fold_confirmations, fold_ids, fold_snapshots, settle
from .isolation import IsolationPlan
from .items import ConfirmationItem, IdItem, Items, Key, SnapshotItem
from .rows import copy_markets, insert_snapshots, key_parameters

__all__ = ["KindCounts", "Written", "write_items"]


@dataclass(slots=True)
class KindCounts:
    """What came of one kind's writes."""

    inserted: int = 0
    matched: int = 0
    pending: int = 0


@dataclass(slots=True)
class Written:
    """What came of a run of items.

    `inserted` and `duplicates` hold the items themselves, for the ledger's
    totals by partition; `letters` still have to be inserted. `pending` has one
    confirmation of each key without a row, `unfound` one of each id without a row.
    """

    kinds: dict[Kind, KindCounts] = field(default_factory=lambda: {k: KindCounts() for k in Kind})
    inserted: list[SnapshotItem] = field(default_factory=list)
    duplicates: list[SnapshotItem] = field(default_factory=list)
    conflicts: int = 0
    letters: list[DeadLetter] = field(default_factory=list)
    pending: list[ConfirmationItem] = field(default_factory=list)
    unfound: list[IdItem] = field(default_factory=list)
    missing_ids: int = 0
    trials: int = 0
    copy_seconds: float = 0.0


async def write_items(
    connection: AsyncConnection,
    log_id: int | None,
    items: Items,
    limits: Mapping[Kind, ColumnLimits],
    *,
    store_raw: bool = True,
) -> Written:
    """Write the items inside the running transaction.

    Plain ids are taken as trusted: the caller has left out those that are not.

    Raises:
        Whatever PostgreSQL or the driver raises that is neither poison nor a
        missing parent: the transaction is then to be rolled back.
    """
    written = Written()
    for kind in Kind:
        writer = _KindWriter(connection, log_id, kind, limits[kind], written, store_raw)
        await writer.snapshots([s for s in items.snapshots if s.kind is kind])
        await writer.confirmations([c for c in items.confirmations if c.kind is kind])
        await writer.plain_ids([i for i in items.ids if i.kind is kind])
    return written


def _add_conflict(written: Written, snapshot: SnapshotItem) -> None:
    written.conflicts += 1
    written.letters.append(
        letter_for_item(
            snapshot, CONFLICT, "another snapshot with this natural key was written before it"
        )
    )


class _KindWriter:
    """The writes of one kind of snapshot into its two tables."""

    def __init__(
        self,
        connection: AsyncConnection,
        log_id: int | None,
        kind: Kind,
        limits: ColumnLimits,
        written: Written,
        store_raw: bool,
    ) -> None:
        self._connection = connection
        self._log_id = log_id
        self._kind = kind
        self._limits = limits
        self._written = written
        self._store_raw = store_raw
        self._counts = written.kinds[kind]
        self._sql = sql.snapshot_statements(kind)

    async def snapshots(self, snapshots: Sequence[SnapshotItem]) -> None:
        """Insert what is new with its markets; letters for what cannot be.

        What comes of a snapshot does not depend on the others of its poll: it is
        compared with the row of its key, and where the one before it became a
        letter, it takes its turn.
        """
        fitting = [s for s in snapshots if not self._refused(s, check_snapshot(s, self._limits))]
        folded = fold_snapshots(fitting)
        hashes = await self._write_firsts(folded)
        while folded.followers:
            settled = settle(folded.followers, hashes)
            self._written.duplicates += settled.duplicates
            for conflict in settled.conflicts:
                _add_conflict(self._written, conflict)
            folded = fold_snapshots(settled.left)
            hashes = await self._write_firsts(folded)

    async def _write_firsts(self, folded: FoldedSnapshots) -> dict[Key, int]:
        """Write one snapshot a key; returns the hashes of those that have a row now."""
        hashes: dict[Key, int] = {}
        with_parents = await self._split_off_orphans(folded.firsts)
        plan = IsolationPlan(with_parents)
        while (group := plan.next_group()) is not None:
            try:
                async with savepoint(self._connection):
                    outcome = await self._insert(group)
            except Exception as error:
                self._isolate(plan, group, error)
            else:
                self._account(outcome)
                hashes |= outcome.hashes
        self._written.trials += plan.trials
        return hashes

    async def confirmations(self, confirmations: Sequence[ConfirmationItem]) -> None:
        """Raise `last_confirmed_at`; what has no row yet is kept as pending."""
        left = [c for c in confirmations if not self._refused(c, check_confirmation(c))]
        while left:
            # Where the latest of a key became a letter, the next one takes its turn.
            refused = {id(c): c.key for c in await self._confirm_latest(left)}
            left = [c for c in left if c.key in refused.values() and id(c) not in refused]

    async def _confirm_latest(
        self, confirmations: Sequence[ConfirmationItem]
    ) -> list[ConfirmationItem]:
        """Write the latest of each key; returns those that became letters."""
        refused: list[ConfirmationItem] = []
        plan = IsolationPlan(fold_confirmations(confirmations))
        while (group := plan.next_group()) is not None:
            try:
                async with savepoint(self._connection):
                    pending = await self._confirm(group)
            except Exception as error:
                culprit = self._isolate(plan, group, error)
                if culprit is not None:
                    refused.append(culprit)
            else:
                self._counts.matched += len(group) - len(pending)
                self._counts.pending += len(pending)
                self._written.pending += pending
        self._written.trials += plan.trials
        return refused

    async def plain_ids(self, ids: Sequence[IdItem]) -> None:
        """Raise `last_confirmed_at` by plain id; an id without a row is counted."""
        if not ids:
            return
        ids = fold_ids(ids)
        rows = await self._connection.execute(
            self._sql.confirm_ids,
            {"ids": [i.id for i in ids], "confirmed_ats": [i.confirmed_at for i in ids]},
        )
        # An id may name several rows only if the sequence was set back by hand.
        found = {row.id for row in rows}
        self._counts.matched += len(found)
        self._written.missing_ids += len(ids) - len(found)
        self._written.unfound += [i for i in ids if i.id not in found]

    def _refused(self, item: SnapshotItem | ConfirmationItem, problem: Problem | None) -> bool:
        if problem is None:
            return False
        self._written.letters.append(
            letter_for_item(item, POISON, problem.message, field=problem.field)
        )
        return True

    async def _split_off_orphans(self, snapshots: list[SnapshotItem]) -> list[SnapshotItem]:
        """Leave out the snapshots whose parent is not there yet: they wait."""
        left = snapshots
        for column, parent in self._limits.parents.items():
            wanted = {_parent_id(s, column) for s in left} - {None}
            if not wanted:
                continue
            rows = await self._connection.execute(
                sql.parent_lookup(parent), {"ids": sorted(i for i in wanted if i is not None)}
            )
            missing = wanted - {row.id for row in rows}
            if missing:
                for orphan in (s for s in left if _parent_id(s, column) in missing):
                    self._add_waiting(orphan, column, parent)
                left = [s for s in left if _parent_id(s, column) not in missing]
        return left

    def _add_waiting(self, orphan: SnapshotItem, column: str, parent: str) -> None:
        parent_id = _parent_id(orphan, column)
        self._written.letters.append(
            letter_for_item(
                orphan,
                MISSING_PARENT,
                f"{parent} has no row with id {parent_id}",
                status=WAITING,
                field=column,
                parent_id=parent_id,
            )
        )

    def _isolate(self, plan: IsolationPlan[Any], group: Sequence[Any], error: Exception) -> Any:
        """Split the group, or return its one member, a letter now; re-raise what is neither."""
        error_class = classify(error)
        sqlstate = sqlstate_of(error)
        if is_overflow(sqlstate) and any(_explain(member) for member in group):
            error_class = ErrorClass.POISON
        if error_class not in (ErrorClass.POISON, ErrorClass.WAITING):
            raise error
        if (culprit := plan.failed(group)) is None:
            return None
        waiting = error_class is ErrorClass.WAITING
        problem = None if waiting else _explain(culprit)
        self._written.letters.append(
            letter_for_item(
                culprit,
                MISSING_PARENT if waiting else POISON,
                _first_line(error),
                status=WAITING if waiting else DEAD,
                sqlstate=sqlstate,
                constraint_name=constraint_of(error),
                field=problem.field if problem else column_of(error),
            )
        )
        return culprit

    async def _insert(self, group: Sequence[SnapshotItem]) -> "_Outcome":
        by_key = {snapshot.key: snapshot for snapshot in group}
        ids = await insert_snapshots(
            self._connection, self._sql, self._log_id, group, store_raw=self._store_raw
        )
        outcome = _Outcome([by_key[key] for key in ids])
        outcome.hashes |= {s.key: s.data["content_hash"] for s in outcome.inserted}
        if len(ids) < len(group):
            there = [snapshot for snapshot in group if snapshot.key not in ids]
            await self._compare(there, outcome)
        if ids:
            reached("sink.before_copy")
            started = time.perf_counter()
            await copy_markets(self._connection, self._sql, outcome.inserted, ids)
            self._written.copy_seconds += time.perf_counter() - started
            await self._connection.execute(
                self._sql.take_pending,
                {"kind": self._kind.value, **key_parameters(outcome.inserted)},
            )
        return outcome

    async def _compare(self, there: Sequence[SnapshotItem], outcome: "_Outcome") -> None:
        """Tell duplicates from conflicts by the hash of the row that is there."""
        rows = await self._connection.execute(self._sql.look_up, key_parameters(there))
        hashes = {
            Key(row.event_id, row.bookmaker_id, row.captured_at): row.content_hash for row in rows
        }
        for snapshot in there:
            if snapshot.key not in hashes:
                raise VanishedRowError(f"{self._sql.snapshots_table}: {snapshot.key}")
            held = outcome.hashes[snapshot.key] = hashes[snapshot.key]
            same = held == snapshot.data["content_hash"]
            (outcome.duplicates if same else outcome.conflicts).append(snapshot)

    def _account(self, outcome: "_Outcome") -> None:
        self._counts.inserted += len(outcome.inserted)
        self._written.inserted += outcome.inserted
        self._written.duplicates += outcome.duplicates
        for conflict in outcome.conflicts:
            _add_conflict(self._written, conflict)

    async def _confirm(self, group: Sequence[ConfirmationItem]) -> list[ConfirmationItem]:
        """Confirm the group; returns those that had no row and are pending now."""
        rows = await self._connection.execute(
            self._sql.confirm,
            {**key_parameters(group), "confirmed_ats": [c.confirmed_at for c in group]},
        )
        found = {Key(row.event_id, row.bookmaker_id, row.captured_at) for row in rows}
        pending = [c for c in group if c.key not in found]
        if pending:
            await self._connection.execute(
                sql.UPSERT_PENDING,
                {
                    **key_parameters(pending),
                    "kind": self._kind.value,
                    "log_id": self._log_id,
                    "confirmed_ats": [c.confirmed_at for c in pending],
                    "log_partitions": [c.record.partition for c in pending],
                    "log_offsets": [c.record.offset for c in pending],
                    "items": [c.item for c in pending],
                },
            )
        return pending


@dataclass(slots=True)
class _Outcome:
    """What came of one group of snapshots; `hashes` are those of the rows there now."""

    inserted: list[SnapshotItem]
    hashes: dict[Key, int] = field(default_factory=dict)
    duplicates: list[SnapshotItem] = field(default_factory=list)
    conflicts: list[SnapshotItem] = field(default_factory=list)


def _explain(member: SnapshotItem | ConfirmationItem) -> Problem | None:
    return explain_snapshot(member) if isinstance(member, SnapshotItem) else None


def _parent_id(snapshot: SnapshotItem, column: str) -> int | None:
    if column == "scrape_run_id":
        return snapshot.data["scrape_run_id"]
    return snapshot.key.bookmaker_id if column == "bookmaker_id" else snapshot.key.event_id


def _first_line(error: Exception) -> str:
    original = getattr(error, "orig", None) or error
    lines = str(original).splitlines()
    return lines[0] if lines else type(original).__name__
