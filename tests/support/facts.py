"""What the doctor asks for, made by hand: all is well, but for what a test changes."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from oddslog.deploy.doctor.database import RIGHTS, DatabaseFacts, SequenceFacts
from oddslog.deploy.doctor.finding import Finding, Level
from oddslog.deploy.doctor.kafka import KafkaFacts, PartitionFacts
from oddslog.deploy.log_look import GroupState, Member
from oddslog.deploy.queries import KnownLog
from oddslog.sink.migrate import VERSION_TABLE
from oddslog.sink.positions import LastApplied, LedgerRow, LogRange
from oddslog.sink.tables import PARENT_TABLES, make_metadata
from oddslog.sink.topics import TOPIC_CONFIGS, TopicDescription

__all__ = [
    "AT",
    "database_facts",
    "kafka_facts",
    "known_log",
    "ledger_row",
    "only_bad",
    "with_configs",
]

AT = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
_VERSIONS = {0: (3, 12), 1: (4, 17), 11: (2, 9), 22: (0, 5)}
_KEYS = {
    "event_id": "events",
    "bookmaker_id": "bookmakers",
    "scrape_run_id": "scrape_runs",
    "competitor_event_id": "competitor_events",
}


def kafka_facts(**changes: Any) -> KafkaFacts:
    """A cluster of three brokers, a topic of three partitions, one sink."""
    configs = {**TOPIC_CONFIGS, "min.insync.replicas": "2", "retention.bytes": "-1"}
    facts = KafkaFacts(
        "cluster",
        3,
        _VERSIONS,
        {
            "group.min.session.timeout.ms": "6000",
            "group.max.session.timeout.ms": "1800000",
            "auto.create.topics.enable": "false",
        },
        GroupState("Stable", (Member("oddslog-sink", "10.0.0.1", (0, 1, 2)),)),
        TopicDescription("cluster", "odds.writes", 3, 3, 3, configs),
        [PartitionFacts(number, 1, 3, 3) for number in range(3)],
        {number: LogRange(0, 100) for number in range(3)},
        dict.fromkeys(range(3), 100),
    )
    return replace(facts, **changes)


def with_configs(**changes: str) -> KafkaFacts:
    """The topic with other settings; `_` for `.`."""
    facts = kafka_facts()
    assert facts.topic is not None
    changed = {name.replace("_", "."): value for name, value in changes.items()}
    configs = {**facts.topic.configs, **changed}
    return replace(facts, topic=replace(facts.topic, configs=configs))


def database_facts(**changes: Any) -> DatabaseFacts:
    """A migrated database with the scraper's tables, and a role with all rights."""
    names = [*make_metadata().tables, VERSION_TABLE, *PARENT_TABLES]
    facts = DatabaseFacts(
        "postgresql://sink:***@db/odds",
        180001,
        "18.1",
        "sink",
        superuser=False,
        in_recovery=False,
        clock_ahead_seconds=0.001,
        clock_unsure_seconds=0.001,
        settings={"fsync": "on", "full_page_writes": "on", "transaction_read_only": "off"},
        connections_free=90,
        schema="public",
        schema_usage=True,
        head="0003",
        revision="0003",
        fits=True,
        rights=dict.fromkeys(names, frozenset(RIGHTS)),
        sequences=[SequenceFacts("odds_snapshots_id_seq", "odds_snapshots", "id", 11, 10, True)],
        parents=frozenset(PARENT_TABLES),
        parent_keys=_KEYS,
    )
    return replace(facts, **changes)


def known_log(cluster_id: str = "cluster", partitions: int = 1, generation: int = 1) -> KnownLog:
    """A log as the database knows it."""
    row = SimpleNamespace(last_offset=9)
    return KnownLog(generation, cluster_id, "odds.writes", generation, partitions, AT, {0: row})


def ledger_row(next_offset: int, last: LastApplied | None = None) -> LedgerRow:
    """Partition 0's row of the ledger."""
    return LedgerRow(0, next_offset, 0, last)


def only_bad(findings: list[Finding]) -> Finding:
    """The one that is not ok; it says what to do, in one line."""
    (bad,) = [finding for finding in findings if finding.level is not Level.OK]
    assert bad.do
    assert "\n" not in bad.line()
    return bad
