"""Overviews made by hand, for what shows them: level, lagging, with a side away."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from oddslog.deploy.database_look import DatabaseView
from oddslog.deploy.kafka import LogState
from oddslog.deploy.log_look import GroupState, LogView, Member
from oddslog.deploy.overview import Overview, Places
from oddslog.deploy.pace import Pace
from oddslog.deploy.queries import Cause, DatabaseState, KnownLog
from oddslog.ingest.spool_look import SpoolStatus
from oddslog.schemas import UnreachableError
from oddslog.sink.positions import LogRange
from oddslog.sink.topics import TopicDescription

__all__ = ["AT", "cause", "kafka_away", "lagging", "level", "postgresql_away"]

AT = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
END = 1_234_567


def level(partitions: int = 12, members: int = 3) -> Overview:
    """The tables have all of the log."""
    return Overview(
        Places("odds.writes", "oddslog-sink", "/var/lib/scraper/spool", 10 * 1024**3),
        AT,
        _log(partitions, members),
        _database([END + number for number in range(partitions)]),
        SpoolStatus(None, 0, 0, None, 0, 0, {}, 4096, []),
        {},
        Pace(dict.fromkeys(range(partitions), 12.5), dict.fromkeys(range(partitions), 12.5)),
        {"Kafka": AT, "PostgreSQL": AT},
    )


def lagging(partitions: int = 12, members: int = 3) -> Overview:
    """A backlog of 1,000 records in partition 0, 2,000 in partition 1, ..., and dead letters."""
    lags = [1000 * (number + 1) for number in range(partitions)]
    database = _database(
        [END + number - lag for number, lag in enumerate(lags)],
        [("dead", "poison", 1234), ("dead", "undecodable", 7), ("waiting", "missing_parent", 42)],
        [cause("poison", 1234, field="markets[].betpawa_market_name"), cause("undecodable", 7)],
    )
    return replace(
        level(partitions, members),
        database=replace(
            database, waiting_letters=42, oldest_waiting_at=AT - timedelta(minutes=12)
        ),
        spool=SpoolStatus(
            None,
            310,
            42_000_000,
            AT - timedelta(seconds=95),
            2,
            1000,
            {"too large": 2},
            43_000_000,
            [],
        ),
        oldest={number: AT - timedelta(seconds=10 * number + 5) for number in range(partitions)},
        pace=Pace(dict.fromkeys(range(partitions), 350.5), dict.fromkeys(range(partitions), 25.0)),
    )


def kafka_away(overview: Overview) -> Overview:
    """The same, where no broker answers."""
    error = UnreachableError(
        "Kafka at kafka-1.example:9092,kafka-2.example:9092 does not answer"
        " (KafkaConnectionError): start it, or mend ODDSLOG_BOOTSTRAP_SERVERS"
    )
    return _away(overview, "Kafka", kafka=error, oldest={}, pace=Pace())


def postgresql_away(overview: Overview) -> Overview:
    """The same, where PostgreSQL does not answer."""
    error = UnreachableError(
        "PostgreSQL at postgresql://sink:***@db.example:5432/odds does not answer (connection"
        " refused): start it, or mend ODDSLOG_DATABASE_URL"
    )
    return _away(overview, "PostgreSQL", database=error, pace=Pace())


def cause(reason: str, letters: int, **others: Any) -> Cause:
    """A cause of dead letters."""
    made: dict[str, Any] = {"sqlstate": None, "constraint": None, "field": None, **others}
    last = AT - timedelta(minutes=3)
    return Cause(
        "dead",
        reason,
        letters=letters,
        first_seen_at=AT,
        last_seen_at=last,
        example={},
        **made,
    )


def _away(overview: Overview, name: str, **side: Any) -> Overview:
    heard = {**overview.heard, name: AT - timedelta(seconds=75)}
    return replace(overview, heard=heard, **side)


def _log(partitions: int, members: int) -> LogView:
    ranges = {number: LogRange(1000, END + number) for number in range(partitions)}
    topic = TopicDescription("cluster", "odds.writes", partitions, 3, 3, {})
    group = [
        Member("oddslog-sink", f"10.0.0.{one + 1}", tuple(range(one, partitions, members)))
        for one in range(members)
    ]
    committed = {number: held.end - 5000 for number, held in ranges.items()}
    state = "Stable" if members else "Empty"
    return LogView(LogState(topic, ranges, committed), GroupState(state, tuple(group)))


def _database(
    offsets: Sequence[int],
    letters: Sequence[tuple[str, str, int]] = (),
    causes: Sequence[Cause] = (),
) -> DatabaseView:
    rows = {
        number: SimpleNamespace(
            next_offset=offset, last_offset=offset - 1, updated_at=AT - timedelta(seconds=2)
        )
        for number, offset in enumerate(offsets)
    }
    log = KnownLog(1, "cluster", "odds.writes", 1, len(rows), AT, rows)
    return DatabaseView(DatabaseState([log], letters, 3, 87_000_000_000), causes, 0, None, AT)
