"""Opening a replay: check what it stands on, choose its spans, note it in the database."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ..schemas.errors import ConfigurationError
from ..schemas.wire import Kind
from .checks import ColumnLimits
from .errors import WrongLogError
from .items import record_crc32
from .ledger import LogIdentity, note_floors, read_rows, register_log
from .log_reader import LogReader
from .positions import Gap, LastApplied, LedgerRow, LogRange, place
from .replay_filters import ReplayFilter
from .replay_progress import ReplayState, Span
from .replay_scratch import Scratch
from .replay_spans import SpanChoice, adopted_gaps, choose_spans, wanted_partitions
from .replay_store import Unfinished, add_state, take_over, unfinished
from .replay_transaction import Adoption, ReplayTarget

__all__ = ["OpenedReplay", "ReplayRequest", "open_replay"]

# Anything that came from a log. The partial indexes of the natural keys make this quick.
_IS_FILLED = text(
    "SELECT EXISTS (SELECT FROM odds_snapshots WHERE content_hash IS NOT NULL"
    " AND log_id IS NOT NULL) OR EXISTS (SELECT FROM competitor_odds_snapshots"
    " WHERE content_hash IS NOT NULL AND log_id IS NOT NULL)"
    " OR EXISTS (SELECT FROM oddslog_ledger)"
    " OR EXISTS (SELECT FROM oddslog_pending_confirmations WHERE log_id IS NOT NULL)"
    " OR EXISTS (SELECT FROM oddslog_dead_letters WHERE log_id IS NOT NULL)"
    " OR EXISTS (SELECT FROM oddslog_run_batches WHERE log_partition >= 0)"
)
_CHECK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class ReplayRequest:
    """What was asked for; with `resume` only that, of a replay that was interrupted."""

    choice: SpanChoice = field(default_factory=SpanChoice)
    where: ReplayFilter = field(default_factory=ReplayFilter)
    dry_run: bool = False
    adopt: bool = False
    accept_gap: bool = False
    resume: str | None = None
    store_raw: bool = True

    def check(self) -> None:
        """Look whether it makes sense by itself.

        Raises:
            ConfigurationError: it does not.
        """
        self.choice.check()
        where = self.where
        first, last = where.captured_from, where.captured_to
        if first is not None and last is not None and first >= last:
            raise ConfigurationError("--captured-from must be before --captured-to")
        fresh = ReplayRequest(resume=self.resume, store_raw=self.store_raw)
        if self.resume is not None and self != fresh:
            raise ConfigurationError(
                "--resume goes on with what was asked for at first; leave the other choices out"
            )
        if self.adopt and not where.takes_all:
            raise ConfigurationError(
                "--adopt takes the whole log; leave --event, --run, --captured-from and"
                " --captured-to out"
            )
        if self.adopt and self.dry_run:
            raise ConfigurationError("--adopt changes the ledger; leave --dry-run out")
        if self.accept_gap and not self.adopt:
            raise ConfigurationError("--accept-gap: only goes with --adopt")


@dataclass(frozen=True)
class OpenedReplay:
    """A replay that is ready to run; `others` were interrupted in the same database."""

    target: ReplayTarget
    state: ReplayState
    others: tuple[Unfinished, ...]


async def open_replay(
    engine: AsyncEngine,
    limits: Mapping[Kind, ColumnLimits],
    reader: LogReader,
    identity: LogIdentity,
    request: ReplayRequest,
    scratch: Scratch,
) -> OpenedReplay:
    """A replay that is ready to run, noted in the database where it is a real one.

    Raises:
        ConfigurationError: what was asked for is not there, or cannot be.
        WrongLogError: another log filled this database.
        UnreachableError: Kafka does not answer.
        Whatever PostgreSQL raises.
    """
    opening = _Opening(engine, limits, reader, identity, request, scratch, uuid.uuid4().hex)
    return await (opening.resume(request.resume) if request.resume else opening.start())


@dataclass(frozen=True)
class _Opening:
    engine: AsyncEngine
    limits: Mapping[Kind, ColumnLimits]
    reader: LogReader
    identity: LogIdentity
    request: ReplayRequest
    scratch: Scratch
    owner: str

    async def start(self) -> OpenedReplay:
        request = self.request
        wanted = wanted_partitions(request.choice, self.identity.partition_count)
        ranges = await self.reader.ranges(wanted)
        spans = choose_spans(
            request.choice,
            ranges,
            await self._offsets_at(wanted, request.choice.from_time),
            await self._offsets_at(wanted, request.choice.to_time),
        )
        gaps: dict[int, Gap] = {}
        async with self.engine.connect() as connection, connection.begin() as transaction:
            log_id = await register_log(connection, self.identity)
            rows = await read_rows(connection, log_id)
            await self._check_log(rows, ranges)
            known = await unfinished(connection)
            state = self._new_state(log_id, spans)
            if request.adopt:
                await _refuse_filled(connection, known)
                gaps = self._adopted_gaps(spans, ranges)
            if request.dry_run:
                await transaction.rollback()
            else:
                if not rows:
                    await note_floors(connection)
                await add_state(connection, state)
        return OpenedReplay(self._target(gaps, adopt=request.adopt), state, tuple(known))

    async def resume(self, replay_id: str) -> OpenedReplay:
        async with self.engine.begin() as connection:
            state = await take_over(connection, replay_id, self.owner)
            if (state.topic, state.cluster_id) != (self.identity.topic, self.identity.cluster_id):
                raise ConfigurationError(
                    f"--resume: replay {state.replay_id} is of topic {state.topic} of cluster"
                    f" {state.cluster_id}; name its servers and --topic {state.topic}"
                )
            rows = await read_rows(connection, state.log_id)
        await self._check_log(rows, await self.reader.ranges(state.spans))
        # The start of an adopted span was the log's: what is before it was accepted as gone.
        gaps = {p: Gap(0, span.start) for p, span in state.spans.items() if span.start > 0}
        return OpenedReplay(self._target(gaps, adopt=state.adopt), state, ())

    async def _offsets_at(
        self, partitions: list[int], moment: datetime | None
    ) -> Mapping[int, int | None]:
        return {} if moment is None else await self.reader.offsets_at(partitions, moment)

    def _adopted_gaps(
        self, spans: Mapping[int, LogRange], ranges: Mapping[int, LogRange]
    ) -> dict[int, Gap]:
        return adopted_gaps(
            spans,
            ranges,
            partition_count=self.identity.partition_count,
            accept_gap=self.request.accept_gap,
        )

    def _new_state(self, log_id: int, spans: Mapping[int, LogRange]) -> ReplayState:
        return ReplayState(
            self.owner[:8],
            self.owner,
            self.identity.cluster_id,
            self.identity.topic,
            log_id,
            self.request.where,
            {p: Span(span.start, span.end, span.start) for p, span in sorted(spans.items())},
            self.request.adopt,
        )

    def _target(self, gaps: Mapping[int, Gap], *, adopt: bool) -> ReplayTarget:
        async def ends() -> Mapping[int, int]:
            ranges = await self.reader.ranges(range(self.identity.partition_count))
            return {partition: held.end for partition, held in ranges.items()}

        return ReplayTarget(
            self.engine,
            self.limits,
            self.scratch,
            self.request.dry_run,
            self.request.store_raw,
            Adoption(self.identity, gaps, ends) if adopt else None,
        )

    async def _check_log(
        self, rows: Mapping[int, LedgerRow], ranges: Mapping[int, LogRange]
    ) -> None:
        """Is it the log that filled this database, as far as the ledger remembers it?"""
        remembered: dict[int, LastApplied] = {}
        for partition, held in ranges.items():
            row = rows.get(partition)
            if row is None:
                continue
            place(row, held, committed=row.next_offset, accept_gap=True)
            if row.last is not None and held.start <= row.last.offset:
                remembered[partition] = row.last
        spans = {p: LogRange(last.offset, last.offset + 1) for p, last in remembered.items()}
        async for parts in self.reader.read(spans, max_records=1, max_bytes=_CHECK_BYTES):
            for part in parts:
                last = remembered[part.partition]
                if [record_crc32(r.key, r.value) for r in part.records] != [last.crc32]:
                    raise WrongLogError(
                        f"partition {part.partition}: the record at offset {last.offset} is not the"
                        " one that was written to this database: the topic was made anew or is"
                        " another one. If the log was moved on purpose, see: oddslog ledger adopt"
                        " --help"
                    )


async def _refuse_filled(connection: AsyncConnection, known: Sequence[Unfinished]) -> None:
    if not (await connection.execute(_IS_FILLED)).scalar_one():
        return
    begun = [one.state.replay_id for one in known if one.state.adopt]
    raise ConfigurationError(
        "--adopt is for an empty database, and this one has been written to from a log;"
        + (
            f" to go on with the one that was interrupted: oddslog replay --resume {begun[0]}"
            if begun
            else " leave the option out, or name another with --database"
        )
    )
