"""What `status` shows: log, group, ledger, dead letters and spool side by side. Pure.

Each server was asked for itself, so that one that is away does not hide the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..schemas.errors import OddslogError
from .pace import Pace

if TYPE_CHECKING:
    from ..ingest.spool_look import SpoolStatus
    from .database_look import DatabaseView
    from .log_look import LogView, Member
    from .queries import KnownLog

__all__ = ["Overview", "PartitionState", "Places"]


@dataclass(frozen=True, slots=True)
class Places:
    """What is looked at, in the words of the settings."""

    topic: str
    group: str
    spool_dir: str | None = None
    spool_bytes: int = 0
    dead_letter_topic: str | None = None


@dataclass(frozen=True)
class PartitionState:
    """One partition; what nobody could be asked for is None.

    Attributes:
        ledger_known: whether the database was asked; without a row it has nothing.
        appended_at: when the oldest record that is not written was appended.
        ahead: whether the ledger is past the log's end somewhere: it is another log's.
    """

    partition: int
    log_start: int | None
    log_end: int | None
    ledger_next: int | None
    group_offset: int | None
    ledger_known: bool = True
    updated_at: datetime | None = None
    appended_at: datetime | None = None
    member: "Member | None" = None
    ahead: bool = False

    @property
    def lag_records(self) -> int | None:
        """Offsets between the tables and the log's end; a log not read yet lags whole."""
        return self._behind(self.ledger_next) if self.ledger_known and not self.ahead else None

    @property
    def group_lag_records(self) -> int | None:
        """The same by the group's offset, which is never ahead of the tables."""
        return self._behind(self.group_offset)

    def _behind(self, offset: int | None) -> int | None:
        if self.log_end is None or self.log_start is None:
            return None
        # The tables may have been asked a little later than the log.
        return max(0, self.log_end - (self.log_start if offset is None else offset))

    def lag_seconds(self, now: datetime) -> float | None:
        """The age of the oldest record that is not written; 0 where there is none."""
        if self.lag_records == 0:
            return 0.0
        if self.appended_at is None:
            return None
        return max(0.0, (now - self.appended_at).total_seconds())


@dataclass(frozen=True)
class Overview:
    """All sides, or the error that came instead; None is a side not heard of yet.

    Attributes:
        places: what was looked at.
        at: when.
        kafka: the log and its group.
        database: the ledger and what is beside it.
        spool: where one is set; None also where it was never used.
        oldest: when the first record that is not written was appended, by partition.
        pace: how fast it goes.
        heard: when a side answered last, by its name.
        ahead: partitions whose ledger was past the log's end before that was asked for.
    """

    places: Places
    at: datetime
    kafka: "LogView | OddslogError | None"
    database: "DatabaseView | OddslogError | None"
    spool: "SpoolStatus | OddslogError | None" = None
    oldest: Mapping[int, datetime] = field(default_factory=dict)
    pace: Pace = field(default_factory=Pace)
    heard: Mapping[str, datetime] = field(default_factory=dict)
    ahead: frozenset[int] = frozenset()

    @property
    def errors(self) -> dict[str, OddslogError]:
        """What went wrong, by server."""
        sides = {"Kafka": self.kafka, "PostgreSQL": self.database, "spool": self.spool}
        return {name: side for name, side in sides.items() if isinstance(side, OddslogError)}

    @property
    def exit_code(self) -> int:
        """3 where a server is away, else 2 where something is not set up, else 0."""
        return max((error.exit_code for error in self.errors.values()), default=0)

    @property
    def log_view(self) -> "LogView | None":
        """Kafka's side, where it answered."""
        return None if isinstance(self.kafka, OddslogError) else self.kafka

    @property
    def database_view(self) -> "DatabaseView | None":
        """PostgreSQL's side, where it answered."""
        return None if isinstance(self.database, OddslogError) else self.database

    @property
    def spool_view(self) -> "SpoolStatus | None":
        """The spool, where there is one."""
        return None if isinstance(self.spool, OddslogError) else self.spool

    @property
    def log(self) -> "KnownLog | None":
        """The log's entry in the database."""
        if self.database_view is None:
            return None
        cluster = None if self.log_view is None else self.log_view.log.topic.cluster_id
        return self.database_view.state.newest_log(self.places.topic, cluster)

    @property
    def wrong_log(self) -> str | None:
        """Why the log cannot be the one that filled the database, as far as it is seen here."""
        view, database, log = self.log_view, self.database_view, self.log
        if view is None or database is None:
            return None
        topic = view.log.topic
        if log is None:
            for other in database.state.logs:
                if other.topic == topic.topic and _written(other):
                    return (
                        f"This database was filled from topic {topic.topic} of cluster"
                        f" {other.cluster_id}, and this is cluster {topic.cluster_id}"
                    )
            return None
        if topic.partitions < log.partition_count:
            return (
                f"Topic {topic.topic} has {topic.partitions} partitions and had"
                f" {log.partition_count}: it was made anew"
            )
        for state in self.partitions():
            if state.partition in self.ahead:
                return (
                    f"The ledger is of another log: partition {state.partition} goes on at offset"
                    f" {state.ledger_next:,}, and the log ends at {state.log_end:,}"
                )
        return None

    @property
    def may_be_ahead(self) -> bool:
        """Whether the ledger is past the log's end; sure only when Kafka is asked once more."""
        return any(
            state.log_end is not None and (state.ledger_next or 0) > state.log_end
            for state in self.partitions()
        )

    def partitions(self) -> list[PartitionState]:
        """The partitions that either side knows."""
        rows = {} if self.log is None else self.log.rows
        view = self.log_view
        ranges = {} if view is None else view.log.ranges
        members = {} if view is None else {p: m for m in view.group.members for p in m.partitions}
        states = []
        for number in sorted({*rows, *ranges}):
            held, row = ranges.get(number), rows.get(number)
            states.append(
                PartitionState(
                    number,
                    held.start if held else None,
                    held.end if held else None,
                    row.next_offset if row is not None else None,
                    view.log.committed.get(number) if view else None,
                    self.database_view is not None,
                    row.updated_at if row is not None else None,
                    self.oldest.get(number),
                    members.get(number),
                    bool(self.ahead),
                )
            )
        return states

    def lag_records(self) -> int | None:
        """Of all partitions; None where a side is away, or the ledger another log's."""
        if self.log_view is None or self.database_view is None or self.wrong_log is not None:
            return None
        return sum(state.lag_records or 0 for state in self.partitions())

    def group_lag_records(self) -> int | None:
        """Of all partitions, by the group's offsets; None where Kafka is away."""
        if self.log_view is None:
            return None
        return sum(state.group_lag_records or 0 for state in self.partitions())

    def lag_seconds(self) -> float | None:
        """The age of the oldest record that is not written; 0 where there is none."""
        if self.lag_records() == 0:
            return 0.0
        ages = [state.lag_seconds(self.at) for state in self.partitions()]
        return max((age for age in ages if age is not None), default=None)

    def catch_up_seconds(self) -> float | None:
        """How long until the tables are level with the log, if all goes on like this."""
        lag = self.lag_records()
        return None if lag is None else self.pace.catch_up_seconds(lag)

    def as_json(self) -> dict[str, Any]:
        """The object of `--json`."""
        view, database, spool = self.log_view, self.database_view, self.spool_view
        return {
            "at": self.at.isoformat(),
            "topic": self.places.topic,
            "group": self.places.group,
            "log_id": None if self.log is None else self.log.log_id,
            "wrong_log": self.wrong_log,
            "lag_records": self.lag_records(),
            "group_lag_records": self.group_lag_records(),
            "lag_seconds": _rounded(self.lag_seconds()),
            "written_per_second": _rounded(self.pace.written_total),
            "appended_per_second": _rounded(self.pace.appended_total),
            "catch_up_seconds": _rounded(self.catch_up_seconds()),
            "partitions": [self._partition_json(state) for state in self.partitions()],
            "group_state": None if view is None else view.group.state,
            "group_error": None if view is None else view.group.error,
            "members": None
            if view is None
            else [
                {"client_id": one.client_id, "host": one.host, "partitions": list(one.partitions)}
                for one in view.group.members
            ],
            **_database_json(database),
            "dead_letter_topic": self.places.dead_letter_topic,
            "unpublished_letters": None
            if database is None or self.places.dead_letter_topic is None
            else database.unpublished_letters,
            "spool": None if spool is None else _spool_json(self.places, spool),
            "errors": {name: str(error) for name, error in self.errors.items()},
        }

    def _partition_json(self, state: PartitionState) -> dict[str, Any]:
        number, lag = state.partition, state.lag_records
        return {
            "partition": number,
            "log_start": state.log_start,
            "log_end": state.log_end,
            "ledger_next": state.ledger_next,
            "group_offset": state.group_offset,
            "lag_records": lag,
            "group_lag_records": state.group_lag_records,
            "lag_seconds": _rounded(state.lag_seconds(self.at)),
            "written_per_second": _rounded(self.pace.written.get(number)),
            "appended_per_second": _rounded(self.pace.appended.get(number)),
            "catch_up_seconds": None
            if lag is None
            else _rounded(self.pace.catch_up_seconds(lag, number)),
            "updated_at": _text(state.updated_at),
            "member": None if state.member is None else state.member.host,
        }


def _written(log: "KnownLog") -> bool:
    return any(row.last_offset is not None for row in log.rows.values())


_DATABASE_NAMES = (
    "dead_letters",
    "dead_letter_causes",
    "waiting_letters",
    "oldest_waiting_at",
    "pending_confirmations",
    "oldest_pending_at",
    "database_bytes",
)


def _database_json(database: "DatabaseView | None") -> dict[str, Any]:
    if database is None:
        return dict.fromkeys(_DATABASE_NAMES)
    return {
        "dead_letters": [
            {"status": status, "reason": reason, "letters": letters}
            for status, reason, letters in database.state.dead_letters
        ],
        "dead_letter_causes": [
            {
                "status": cause.status,
                "reason": cause.reason,
                "sqlstate": cause.sqlstate,
                "constraint": cause.constraint,
                "field": cause.field,
                "letters": cause.letters,
                "first_seen_at": _text(cause.first_seen_at),
                "last_seen_at": _text(cause.last_seen_at),
            }
            for cause in database.causes
        ],
        "waiting_letters": database.waiting_letters,
        "oldest_waiting_at": _text(database.oldest_waiting_at),
        "pending_confirmations": database.state.pending_confirmations,
        "oldest_pending_at": _text(database.oldest_pending_at),
        "database_bytes": database.state.size_bytes,
    }


def _spool_json(places: Places, spool: "SpoolStatus") -> dict[str, Any]:
    return {
        "directory": places.spool_dir,
        "max_bytes": places.spool_bytes,
        "fragments": spool.fragments,
        "bytes": spool.bytes,
        "oldest_at": _text(spool.oldest_at),
        "rejected": spool.rejected,
        "damaged_files": spool.damaged_files,
    }


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
