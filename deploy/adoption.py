"""The planned move of a database to another log: what it would do, and doing it."""

from collections.abc import Iterator
from dataclasses import dataclass

from ..schemas.errors import ConfigurationError
from ..sink.adopt import adopt_log
from ..sink.ledger import LogIdentity
from ..sink.opening import check_database
from .database import asking, open_engine
from .kafka import LogState, group_members, read_log, usable_topic
from .queries import KnownLog, known_logs
from .settings import Settings

__all__ = ["Adoption", "adopt", "prepare"]


@dataclass(frozen=True)
class Adoption:
    """A move that is planned.

    Attributes:
        log: the log as it is now.
        state: what it holds.
        before: the logs that this database knows under this topic's name.
        from_end: begin at the log's end instead of its start.
    """

    log: LogIdentity
    state: LogState
    before: tuple[KnownLog, ...]
    from_end: bool

    def lines(self) -> Iterator[str]:
        """What it would do, for the operator."""
        records = sum(held.end - held.start for held in self.state.ranges.values())
        yield (
            f"Topic {self.log.topic} of cluster {self.log.cluster_id}:"
            f" {self.log.partition_count} partitions, {records:,} records"
        )
        for known in self.before:
            written = sum(row.records_total for row in known.rows.values())
            yield (
                f"Until now: log {known.log_id}, generation {known.generation}, cluster"
                f" {known.cluster_id}, {written:,} records written"
            )
        yield "Every row in the tables stays."
        if self.from_end:
            yield f"The {records:,} records that the log holds now will NOT be written."
            return
        yield "Everything that the log holds will be written; what is in the tables already counts"
        yield "as a duplicate."
        cut = [str(p) for p, held in sorted(self.state.ranges.items()) if held.start > 0]
        if cut:
            yield (
                f"Partition {', '.join(cut)} does not begin at offset 0: the sink will stop at that"
                " gap unless it is started with --start-from earliest."
            )


async def prepare(settings: Settings, *, from_end: bool) -> Adoption:
    """Look at the log and the database; nothing is changed.

    Raises:
        ConfigurationError: a sink runs, or either side is not ready.
        UnreachableError: a server does not answer.
    """
    connection = settings.kafka()
    described = await usable_topic(connection, settings.topic)
    members = await group_members(connection, settings.group)
    if members:
        raise ConfigurationError(
            f"group {settings.group} has {members} member(s): stop every sink first"
        )
    state = await read_log(connection, settings.topic, settings.group)
    async with open_engine(settings, "ledger adopt") as engine:
        await check_database(engine)
        with asking(engine):
            async with engine.connect() as database:
                logs = await known_logs(database)
    return Adoption(
        LogIdentity(described.cluster_id, described.topic, described.partitions),
        state,
        tuple(log for log in logs if log.topic == settings.topic),
        from_end,
    )


async def adopt(settings: Settings, plan: Adoption) -> tuple[int, int]:
    """Carry a plan out; returns the new log id and its generation."""
    ends = {partition: held.end for partition, held in plan.state.ranges.items()}
    async with open_engine(settings, "ledger adopt") as engine:
        with asking(engine):
            return await adopt_log(engine, plan.log, ends=ends if plan.from_end else None)
