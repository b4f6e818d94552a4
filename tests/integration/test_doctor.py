"""The doctor on real servers: all is well, and broken in several ways."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from pydantic import SecretStr
from sqlalchemy import make_url

from oddslog.deploy.doctor import Finding, Level, examine, exit_code
from oddslog.deploy.doctor.judge_database import NEEDED_RIGHTS
from oddslog.deploy.settings import Settings
from oddslog.deploy.stack import Servers
from oddslog.schemas import KafkaConnection, ProtectionError, SnapshotKey, WriteBatch
from oddslog.sink.database import make_engine
from tests.fixtures.servers import create_database, drop_database
from tests.fixtures.sinks import Feed, RunSink
from tests.support.batches import NOON, snapshot
from tests.support.kafka import make_anew, produce

SEQUENCES = (
    "odds_snapshots_id_seq",
    "competitor_odds_snapshots_id_seq",
    "market_odds_id_seq",
    "competitor_market_odds_id_seq",
)
BATCH = WriteBatch(
    tuple(snapshot(event_id, NOON) for event_id in range(1, 13)),
    (),
    (),
    (),
    None,
    0,
    unchanged_betpawa=(SnapshotKey(1, 1, NOON),),
    confirmed_at=NOON + timedelta(minutes=1),
)


@pytest.fixture
def settings(servers: Servers, database_url: str, topic: str) -> Settings:
    """On a fresh topic and a fresh, migrated database."""
    return Settings.model_validate(
        {
            "bootstrap_servers": servers.bootstrap_servers,
            "database_url": database_url,
            "topic": topic,
            "group": topic,
        }
    )


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[Any]:
    """A connection of the database's owner."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def role(owner: Any, new_name: str) -> AsyncIterator[str]:
    """A role that may do just what the doctor asks for."""
    await owner.execute(f"CREATE ROLE {new_name} LOGIN PASSWORD 'hush'")
    for table, rights in NEEDED_RIGHTS.items():
        await owner.execute(f"GRANT {', '.join(rights)} ON {table} TO {new_name}")
    for sequence in SEQUENCES:
        await owner.execute(f"GRANT USAGE ON SEQUENCE {sequence} TO {new_name}")
    yield new_name
    await owner.execute(f"DROP OWNED BY {new_name}")
    await owner.execute(f"DROP ROLE {new_name}")


def but(settings: Settings, **changes: Any) -> Settings:
    """The same with other settings."""
    return settings.model_copy(update=changes)


def on(settings: Settings, url: str) -> Settings:
    """The same on another database, or as another role."""
    return but(settings, database_url=SecretStr(url))


def of(findings: list[Finding], check: str) -> Finding:
    """What is said of one check, the worst first."""
    found = [one for one in findings if one.check == check]
    assert found, findings
    return max(found, key=lambda one: [Level.OK, Level.WARN, Level.FAIL].index(one.level))


async def test_all_is_well_and_nothing_is_changed(
    settings: Settings, owner: Any, feed: Feed, run_sink: RunSink
) -> None:
    """One broker, and the suite's PostgreSQL without fsync, are only warnings."""
    findings = await examine(settings)
    assert exit_code(findings) == 0
    warned = {one.check for one in findings if one.level is Level.WARN}
    assert warned <= {"topic", "crash safety", "connections"}
    assert of(findings, "positions").says.startswith("nothing was written yet; 0 records")
    assert await owner.fetchval("SELECT count(*) FROM oddslog_logs") == 0
    await feed([BATCH])
    waiting = await examine(settings)
    assert "12 records from offset 0" in of(waiting, "positions").says
    assert of(waiting, "group").do == "Start one: oddslog sink"
    await run_sink()
    after = of(await examine(settings), "positions")
    assert after.level is Level.OK
    assert "3 partitions go on, 0 to write; 3 last records are those" in after.says
    await waiting_letters(owner)
    overdue = of(await examine(settings), "letters")
    assert (overdue.level, "2 of odds.old;" in overdue.says) == (Level.WARN, True)


async def waiting_letters(owner: Any) -> None:
    """Of a topic that no sink reads: two that wait too long, one that is written, one young."""
    log_id = await owner.fetchval(
        "INSERT INTO oddslog_logs (cluster_id, topic, generation, partition_count)"
        " VALUES ('c', 'odds.old', 1, 1) RETURNING log_id"
    )
    letters = [("waiting", 7200), ("waiting", 7200), ("written", 7200), ("waiting", 60)]
    for offset, (status, seconds) in enumerate(letters):
        await owner.execute(
            "INSERT INTO oddslog_dead_letters (status, reason, message, log_id, log_partition,"
            " log_offset, item, oddslog_version, first_seen_at) VALUES ($1, 'missing_parent', '',"
            " $2, 0, $3, 0, '0', now() - make_interval(secs => $4))",
            status,
            log_id,
            offset,
            seconds,
        )


async def test_not_migrated(servers: Servers, settings: Settings, new_name: str) -> None:
    """What to run."""
    url = await create_database(servers, f"{new_name}_empty")
    try:
        findings = await examine(on(settings, url))
        assert exit_code(findings) == 1
        assert of(findings, "tables").says == "the database is not migrated"
        assert of(findings, "tables").do == "Run: oddslog migrate"
        elsewhere = await examine(but(on(settings, url), database_schema="odds"))
        assert of(elsewhere, "tables").says == 'schema "odds" is not there'
    finally:
        await drop_database(servers, f"{new_name}_empty")


async def test_the_rights_that_it_asks_for_are_enough(
    settings: Settings,
    kafka: KafkaConnection,
    topic: str,
    role: str,
    owner: Any,
    database_url: str,
    feed: Feed,
    run_sink: RunSink,
) -> None:
    """The sink writes with them; one that lacks is named with its GRANT, which mends it."""
    url = make_url(database_url).set(username=role, password="hush")
    limited = on(settings, url.render_as_string(hide_password=False))
    assert of(await examine(limited), "rights").level is Level.WARN  # verify reads the markets
    await feed([BATCH])
    await produce(kafka, topic, [b"junk"])
    engine = make_engine(limited.require_database_url())
    try:
        totals = await run_sink(engine)
    finally:
        await engine.dispose()
    assert (totals.snapshots, totals.confirmations, totals.dead_letters) == (12, 1, 1)

    await owner.execute(f"REVOKE INSERT ON market_odds FROM {role}")
    await owner.execute(f"REVOKE USAGE ON SEQUENCE market_odds_id_seq FROM {role}")
    findings = await examine(limited)
    assert exit_code(findings) == 1
    bad = of(findings, "rights")
    assert bad.do.startswith("Run: GRANT ")
    await owner.execute(bad.do.removeprefix("Run: "))
    assert exit_code(await examine(limited)) == 0


async def test_a_wrong_topic(settings: Settings, kafka: KafkaConnection, new_name: str) -> None:
    """Missing, compacted, kept for too short, with the wrong times."""
    missing = await examine(but(settings, topic=f"{new_name}.no"))
    assert of(missing, "topic").do == "Make it: oddslog topics --create"
    assert of(missing, "tables").level is Level.OK
    admin = AIOKafkaAdminClient(**kafka.client_options())
    await admin.start()
    try:
        configs = {"cleanup.policy": "compact", "retention.ms": "60000"}
        await admin.create_topics([NewTopic(f"{new_name}.c", 1, 1, topic_configs=configs)])
        assert f"{new_name}.no" not in await admin.list_topics()
    finally:
        await admin.close()
    findings = await examine(but(settings, topic=f"{new_name}.c"))
    assert exit_code(findings) == 1
    assert "cleanup.policy=compact" in of(findings, "topic").says
    says = " ".join(one.says for one in findings if one.check == "topic")
    assert "records are kept for 1 m 00 s only" in says
    assert "message.timestamp.type=CreateTime" in says


async def test_a_topic_made_anew_and_a_sequence_left_behind(
    settings: Settings,
    kafka: KafkaConnection,
    topic: str,
    owner: Any,
    feed: Feed,
    run_sink: RunSink,
) -> None:
    """What a sink would stop for is told before it is started."""
    await feed([BATCH])
    await run_sink()
    await owner.execute("SELECT setval('odds_snapshots_id_seq', 1)")
    findings = await examine(settings)
    assert exit_code(findings) == 1
    bad = of(findings, "sequences")
    assert "odds_snapshots_id_seq" in bad.says
    await owner.execute(bad.do.removeprefix("Run: "))
    assert exit_code(await examine(settings)) == 0

    await make_anew(kafka, topic)
    findings = await examine(settings)
    assert exit_code(findings) == 1
    assert "not the log that filled this database" in of(findings, "positions").says
    with pytest.raises(ProtectionError, match="not the log that filled this database"):
        await run_sink()


async def test_other_records_at_the_same_offsets(
    settings: Settings, kafka: KafkaConnection, topic: str, run_sink: RunSink
) -> None:
    """Seen by the last applied record, as the sink sees it."""
    await produce(kafka, topic, [b"one", b"two"])
    await run_sink()
    await make_anew(kafka, topic)
    await produce(kafka, topic, [b"three", b"four", b"five"])
    bad = of(await examine(settings), "positions")
    assert bad.level is Level.FAIL
    assert "the record at offset 1 is not the one that was" in bad.says


async def test_a_server_away_does_not_hide_the_other(settings: Settings) -> None:
    """Exit code 3; no secret is repeated."""
    no_kafka = await examine(but(settings, bootstrap_servers="127.0.0.1:1"))
    assert exit_code(no_kafka) == 3
    assert "127.0.0.1:1 does not answer" in of(no_kafka, "Kafka").says
    assert of(no_kafka, "tables").level is Level.OK
    no_database = await examine(on(settings, "postgresql://me:hush@127.0.0.1:1/x"))
    assert exit_code(no_database) == 3
    assert "does not answer" in of(no_database, "PostgreSQL").says
    assert of(no_database, "replicas").level is Level.OK
    assert "hush" not in str(no_database)


async def test_wrong_settings(settings: Settings, database_url: str) -> None:
    """Exit code 2 for the user and for what is not set, beside what can be looked at."""
    wrong_user = await examine(on(settings, database_url.replace("://", "://nobody_", 1)))
    assert exit_code(wrong_user) == 2
    assert "refuses this user or password" in of(wrong_user, "PostgreSQL").says
    unset = await examine(but(settings, database_url=None))
    assert exit_code(unset) == 2
    assert "ODDSLOG_DATABASE_URL is not set" in of(unset, "settings").says
    assert of(unset, "replicas").level is Level.OK
