"""What `status` shows: log, group, ledger and dead letters side by side.

Each server is asked for itself, so that one that is away does not hide the other.
"""

from dataclasses import asdict, dataclass
from typing import Any

from ..schemas.errors import OddslogError
from ..sink.migrate import check_migrated
from .console import Out
from .database import asking, open_engine
from .kafka import LogState, read_log
from .queries import DatabaseState, KnownLog, read_database
from .settings import Settings

__all__ = ["Overview", "PartitionState", "read_overview", "show_overview"]

_MIB = 1024 * 1024


@dataclass(frozen=True)
class PartitionState:
    """One partition; what nobody could be asked for is None."""

    partition: int
    log_start: int | None
    log_end: int | None
    ledger_next: int | None
    group_offset: int | None

    @property
    def lag_records(self) -> int | None:
        """Offsets between the tables and the log's end; a log not read yet lags whole."""
        if self.log_end is None or self.log_start is None:
            return None
        return self.log_end - (self.log_start if self.ledger_next is None else self.ledger_next)


@dataclass(frozen=True)
class Overview:
    """Both sides, or the error that came instead."""

    settings: Settings
    kafka: LogState | OddslogError
    database: DatabaseState | OddslogError

    @property
    def errors(self) -> dict[str, OddslogError]:
        """What went wrong, by server."""
        sides = {"Kafka": self.kafka, "PostgreSQL": self.database}
        return {name: side for name, side in sides.items() if isinstance(side, OddslogError)}

    @property
    def exit_code(self) -> int:
        """3 where a server is away, else 2 where something is not set up, else 0."""
        return max((error.exit_code for error in self.errors.values()), default=0)

    @property
    def log(self) -> KnownLog | None:
        """The log's entry in the database."""
        if isinstance(self.database, OddslogError):
            return None
        cluster = None if isinstance(self.kafka, OddslogError) else self.kafka.topic.cluster_id
        return self.database.newest_log(self.settings.topic, cluster)

    def partitions(self) -> list[PartitionState]:
        """The partitions that either side knows."""
        rows = {} if self.log is None else self.log.rows
        kafka = None if isinstance(self.kafka, OddslogError) else self.kafka
        numbers = sorted({*rows, *(kafka.ranges if kafka else ())})
        states = []
        for number in numbers:
            held = kafka.ranges.get(number) if kafka else None
            states.append(
                PartitionState(
                    number,
                    held.start if held else None,
                    held.end if held else None,
                    rows[number].next_offset if number in rows else None,
                    kafka.committed.get(number) if kafka else None,
                )
            )
        return states

    def lag_records(self) -> int | None:
        """Of all partitions; None where a side is away."""
        if self.errors:
            return None
        return sum(state.lag_records or 0 for state in self.partitions())

    def as_json(self) -> dict[str, Any]:
        """The object of `--json`."""
        database = None if isinstance(self.database, OddslogError) else self.database
        return {
            "topic": self.settings.topic,
            "group": self.settings.group,
            "log_id": None if self.log is None else self.log.log_id,
            "lag_records": self.lag_records(),
            "partitions": [
                {**asdict(state), "lag_records": state.lag_records} for state in self.partitions()
            ],
            "dead_letters": None
            if database is None
            else [
                {"status": status, "reason": reason, "letters": letters}
                for status, reason, letters in database.dead_letters
            ],
            "pending_confirmations": None if database is None else database.pending_confirmations,
            "database_bytes": None if database is None else database.size_bytes,
            "errors": {name: str(error) for name, error in self.errors.items()},
        }


async def read_overview(settings: Settings) -> Overview:
    """Ask both servers.

    Raises:
        ConfigurationError: no database is configured.
    """
    settings.require_database_url()
    return Overview(settings, await _kafka(settings), await _database(settings))


async def _kafka(settings: Settings) -> LogState | OddslogError:
    try:
        return await read_log(settings.kafka(), settings.topic, settings.group)
    except OddslogError as error:
        return error


async def _database(settings: Settings) -> DatabaseState | OddslogError:
    try:
        async with open_engine(settings, "status") as engine:
            with asking(engine):
                async with engine.connect() as connection:
                    await check_migrated(connection)
                    return await read_database(connection)
    except OddslogError as error:
        return error


def show_overview(overview: Overview, out: Out) -> None:
    """Say it to people."""
    settings = overview.settings
    log = overview.log
    known = "not written to this database yet" if log is None else f"log {log.log_id}"
    out.say(f"Topic {settings.topic} ({known}), group {settings.group}", style="bold")
    states = overview.partitions()
    if states:
        _show_partitions(states, out)
    database = overview.database
    if not isinstance(database, OddslogError):
        _show_database(database, out)
    lag = overview.lag_records()
    if lag is not None:
        out.say(f"Lag: {lag:,} records" if lag else "The tables are level with the log")
    for error in overview.errors.values():
        out.note(f"oddslog: {error}", style="red")


def _show_partitions(states: list[PartitionState], out: Out) -> None:
    columns = ["partition", "log start", "log end", "ledger next", "group", "lag"]
    rows = [
        [
            state.partition,
            state.log_start,
            state.log_end,
            state.ledger_next,
            state.group_offset,
            state.lag_records,
        ]
        for state in states
    ]
    out.table(columns, rows, numbers=columns)


def _show_database(database: DatabaseState, out: Out) -> None:
    letters = ", ".join(
        f"{count:,} {status} ({reason})" for status, reason, count in database.dead_letters
    )
    out.facts(
        [
            ("dead letters", letters or "none"),
            ("pending confirmations", database.pending_confirmations),
            ("database", f"{database.size_bytes / _MIB:,.0f} MiB"),
        ]
    )
