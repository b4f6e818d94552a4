"""Verification: the log against the tables, and each difference named.

In this order:

1. one snapshot of the database, kept to the end; then what the log holds
2. the log is the one that filled this database: its last applied records
3. everything below the ledger, part by part, with the rows of its keys
4. every row that no record explained, and market rows without a snapshot
5. where rows of records outside of the ledger are: those parts of the log too

Repairs are made as the parts go by, in transactions of their own. Only one part of
the log and its rows are in memory, the next one is read meanwhile; see
`verify_state` for what is kept of each snapshot.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from ..schemas.connection import KafkaConnection
from ..schemas.errors import ConfigurationError
from ..schemas.wire import Kind
from .items import Key, PartitionPart, items_of
from .log_reader import LogReader
from .opening import check_database
from .positions import LogRange
from .verify_check import check_parts
from .verify_compare import StoredRow
from .verify_findings import Explained, Findings
from .verify_logs import ReadableLog
from .verify_open import check_last_applied, open_logs
from .verify_repair import Repairer
from .verify_state import Mends, State, VerifyOptions
from .verify_tables import Tables, open_tables
from .verify_walk import Unexplained, look_for_orphans, walk_rows

__all__ = ["Verified", "VerifyProgress", "verify"]


class VerifyProgress(Protocol):
    """Is told how far the log was compared, in offsets."""

    def begin(self, total: int) -> None:
        """So many there are."""

    def move_to(self, done: int) -> None:
        """So many are done."""


@dataclass
class Verified:
    """What a verification came to.

    Attributes:
        findings: the differences, and what is explained.
        spans: what was read of each log id and partition.
        repaired: what was changed, by what was done.
    """

    findings: Findings
    spans: Mapping[int, Mapping[int, LogRange]]
    repaired: Counter[str] = field(default_factory=Counter)


async def verify(
    engine: AsyncEngine,
    connection: KafkaConnection,
    topic: str,
    options: VerifyOptions,
    progress: VerifyProgress,
) -> Verified:
    """Compare the log with the tables as they are now. The sink may run meanwhile.

    Args:
        engine: of the database; it is only read, unless repairs are asked for.
        connection: to Kafka.
        topic: the log. Other topics of this cluster that filled the database are read too.
        options: what is compared.
        progress: is told how far it is.

    Raises:
        UnreachableError: Kafka does not answer.
        ConfigurationError: no such topic, or nothing of it was written to this database.
        WrongLogError: it is not the log that filled this database.
        GapError: retention took what was to be read meanwhile.
        Whatever PostgreSQL and its driver raise.
    """
    limits = await check_database(engine)
    repairer = Repairer(engine, limits, store_raw=options.store_raw)
    async with AsyncExitStack() as stack:
        tables = await stack.enter_async_context(open_tables(engine))
        opened = await open_logs(stack, tables, connection, topic)
        state = State(options, opened.logs, Findings(options.keep))
        run = _Run(tables, state, opened.readers, repairer, progress)
        return await run.all()


@dataclass
class _Run:
    tables: Tables
    state: State
    readers: Mapping[int, LogReader]
    repairer: Repairer
    progress: VerifyProgress
    done: int = 0

    async def all(self) -> Verified:
        """Every step; returns what was found."""
        logs = self.state.logs.readable.values()
        for log in logs:
            await check_last_applied(self.readers[log.log_id], log)
            gaps = sum(g.to_offset - g.from_offset for s in log.spans.values() for g in s.gaps)
            if gaps:
                self.state.findings.explain(Explained.ACCEPTED_GAPS, gaps)
        spans = {log.log_id: await self._wanted(log) for log in logs}
        self.progress.begin(
            sum(span.end - span.start for one in spans.values() for span in one.values())
        )
        for log in logs:
            await self._read(log, spans[log.log_id], required=True)
        found = Unexplained()
        if not self.state.options.filtered:
            await self._look_at_the_rest(logs, found)
        if self.state.options.repair:
            await self._mend_rows(found)
        return Verified(self.state.findings, spans, self.repairer.done)

    async def _wanted(self, log: ReadableLog) -> dict[int, LogRange]:
        """What must be in the tables of each partition, as far as the filters ask for it."""
        options = self.state.options
        unknown = (options.partitions or frozenset()) - log.spans.keys()
        if unknown:
            raise ConfigurationError(
                f"topic {log.topic} has no partition {min(unknown)}: they are 0 to"
                f" {len(log.spans) - 1}"
            )
        chosen = {
            p: span.must
            for p, span in log.spans.items()
            if options.partitions is None or p in options.partitions
        }
        reader = self.readers[log.log_id]
        if options.from_time is not None:
            at = await reader.offsets_at(chosen, options.from_time)
            for p, span in chosen.items():
                offset = at[p]
                first = span.end if offset is None else max(span.start, offset)
                chosen[p] = LogRange(min(first, span.end), span.end)
        if options.to_time is not None:
            at = await reader.offsets_at(chosen, options.to_time)
            for p, span in chosen.items():
                offset = at[p]
                end = span.end if offset is None else min(span.end, offset)
                chosen[p] = LogRange(span.start, max(span.start, end))
        return chosen

    async def _read(
        self, log: ReadableLog, spans: Mapping[int, LogRange], *, required: bool
    ) -> None:
        """Compare spans of a log, and mend what was found."""
        options = self.state.options
        reading = self.readers[log.log_id].read(
            spans, max_records=options.poll_records, max_bytes=options.poll_bytes
        )
        async with aclosing(_ahead(reading)) as found:
            async for parts in found:
                await check_parts(self.tables, self.state, log, parts, required=required)
                await self._mend(log.log_id)
                if required:
                    self.done += sum(part.end - part.start for part in parts)
                    self.progress.move_to(self.done)

    async def _mend(self, log_id: int) -> None:
        mends, self.state.mends = self.state.mends, Mends()
        if self.state.options.repair and mends:
            await self.repairer.mend(log_id, mends)

    async def _look_at_the_rest(self, logs: Any, found: Unexplained) -> None:
        for source, difference in self.state.unexplained_absent():
            self.state.findings.add(difference)
            if self.state.options.repair:
                await self._write_again(source)
        outside = any(
            span.start < span.end for log in logs for s in log.spans.values() for span in s.may
        )
        if await walk_rows(self.tables, self.state, found, last=not outside, again=False):
            for log in logs:
                for number in (0, 1):
                    spans = {p: span.may[number] for p, span in log.spans.items()}
                    await self._read(log, spans, required=False)
            await walk_rows(self.tables, self.state, found, last=True, again=True)
        await look_for_orphans(self.tables, self.state, found)

    async def _write_again(self, source: tuple[int, int, int, int]) -> None:
        """Write a snapshot whose letter says that it was; its record is read again."""
        log_id, partition, offset, item = source
        span = {partition: LogRange(offset, offset + 1)}
        async for parts in self.readers[log_id].read(span, max_records=1, max_bytes=1):
            for part in parts:
                snapshots = [s for s in items_of(part.records).snapshots if s.item == item]
                await self.repairer.mend(log_id, Mends(missing=snapshots))

    async def _mend_rows(self, found: Unexplained) -> None:
        for kind, row, source in found.sources:
            await self.repairer.name_record(kind, row, source)
        if not self.state.options.delete_unexpected:
            return
        for kind, row in found.rows:
            await self.repairer.delete_row(kind, row)
        for kind, snapshot_id, last_id in found.orphans:
            await self.repairer.delete_orphans(kind, snapshot_id, last_id)
        latest = await self._latest(found.late)
        for kind, row in found.late:
            await self.repairer.lower(kind, row, max(latest[kind, row.id], row.key.captured_at))

    async def _latest(
        self, late: Sequence[tuple[Kind, StoredRow]]
    ) -> dict[tuple[Kind, int], datetime]:
        """What the whole log, as it is now, confirms of these rows, by key or by plain id."""
        latest = {(kind, row.id): row.key.captured_at for kind, row in late}
        ids = {(kind, row.key): row.id for kind, row in late}
        if not late:
            return latest
        options = self.state.options
        for log in self.state.logs.readable.values():
            reader = self.readers[log.log_id]
            spans = await reader.ranges(log.spans)
            wanted = {p: LogRange(log.spans[p].must.start, span.end) for p, span in spans.items()}
            async for parts in reader.read(
                wanted, max_records=options.poll_records, max_bytes=options.poll_bytes
            ):
                for name, confirmed_at in _confirmed(log, parts, ids):
                    if name in latest:
                        latest[name] = max(latest[name], confirmed_at)
        return latest


def _confirmed(
    log: ReadableLog, parts: Sequence[PartitionPart], ids: Mapping[tuple[Kind, Key], int]
) -> Iterator[tuple[tuple[Kind, int], datetime]]:
    """Kind and id of the rows that are confirmed; plain ids as far as they can be trusted."""
    for part in parts:
        items = items_of(part.records)
        for item in items.confirmations:
            if (item.kind, item.key) in ids:
                yield (item.kind, ids[item.kind, item.key]), item.confirmed_at
        valid_from = log.spans[part.partition].ids_valid_from
        for named in items.ids:
            if (named.record.offset or 0) >= valid_from:
                yield (named.kind, named.id), named.confirmed_at


async def _ahead(
    reading: AsyncIterator[list[PartitionPart]],
) -> AsyncGenerator[list[PartitionPart], None]:
    """The same, one further than it is asked for: the log is read while the tables are."""

    async def read() -> list[PartitionPart] | None:
        return await anext(reading, None)

    task = asyncio.create_task(read(), name="oddslog-verify-read")
    try:
        while (parts := await task) is not None:
            task = asyncio.create_task(read(), name="oddslog-verify-read")
            yield parts
    finally:
        # Also where nobody waits for it any more: its own error came too late to matter.
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
