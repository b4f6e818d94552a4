"""Kafka with TLS, SCRAM, client certificates and an authorizer: who is let in, and to what."""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from psutil import process_iter
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from oddslog.deploy.kafka import read_log
from oddslog.ingest import AsyncWriteQueue, KafkaDestination
from oddslog.schemas import KafkaConnection
from oddslog.schemas.errors import ConfigurationError, DeliveryError, UnreachableError
from oddslog.sink import SinkOptions, SinkSource, SinkTotals, open_sink
from oddslog.sink.log_reader import open_log_reader
from oddslog.sink.topics import create_topic, describe_topic
from tests.support.batches import batch, snapshot
from tests.support.certificates import KEY_PASSWORD
from tests.support.command import Command
from tests.support.kafka import produce
from tests.support.secure_kafka import PASSWORD, SecureKafka, documented_grants, grant
from tests.support.threads import run_apart

TOPIC, GROUP = "odds.secured", "the-sinks-group"
INGEST, SINK = "oddslog-ingest", "oddslog-sink"


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    """The broker, with the rights of docs/security.md."""
    broker = SecureKafka(tmp_path_factory.mktemp("secure"))
    try:
        broker.start()
        run_apart(_prepare(broker))
        yield broker
    finally:
        broker.destroy()


async def _prepare(broker: SecureKafka) -> None:
    for topic in (TOPIC, f"{TOPIC}.dead"):
        await create_topic(broker.admin, topic, partitions=1)
    await grant(broker.admin, documented_grants(TOPIC, GROUP))


async def feed(connection: KafkaConnection) -> None:
    """One snapshot, acknowledged."""
    async with AsyncWriteQueue(KafkaDestination(connection, topic=TOPIC)) as queue:
        await (await queue.enqueue(batch([snapshot()])))


async def sink(connection: KafkaConnection, engine: AsyncEngine, group: str = GROUP) -> SinkTotals:
    """Write what is there."""
    source = SinkSource(connection, TOPIC, group, session_timeout_seconds=6.0)
    made = await open_sink(engine, source, SinkOptions(until_caught_up=True))
    return await made.run()


async def test_the_whole_path_by_password_and_by_certificate_over_tls(
    secure: SecureKafka, engine: AsyncEngine
) -> None:
    """Every client of the project, with no more rights than the page gives them."""
    await feed(secure.scram(INGEST))
    totals = await sink(secure.mutual(), engine)
    assert totals.snapshots == 1
    assert totals.dead_letters == 0
    # The same user by its password; what status, replay and verify read with.
    reading = secure.scram(SINK)
    described = await describe_topic(reading, TOPIC)
    assert described is not None
    assert described.max_message_bytes == 10 * 1024 * 1024  # its settings may be read
    state = await read_log(reading, TOPIC, GROUP)
    assert state.committed[0] == state.ranges[0].end
    async with open_log_reader(reading, TOPIC) as reader:
        (parts,) = [
            part
            async for part in reader.read(await reader.ranges([0]), max_records=9, max_bytes=10**6)
        ]
    assert parts[0].records[0].fragment is not None


@pytest.mark.parametrize(("host", "warnings"), [("127.0.0.1", 0), ("0.0.0.0", 1)])  # noqa: S104
async def test_without_tls_the_password_still_works(
    secure: SecureKafka, host: str, warnings: int
) -> None:
    """For a broker on this machine; by any other address it is warned about, once."""
    with capture_logs() as events:
        await feed(secure.scram_plain(INGEST, host))
    said = [event for event in events if event["event"] == "password_in_plain_text"]
    assert len(said) == warnings
    assert PASSWORD not in str(events)


async def test_no_output_has_a_secret(
    secure: SecureKafka, database_url: str, tmp_path: Path
) -> None:
    """The commands, at their most talkative; all settings from environment and file."""
    (tmp_path / "password").write_text(PASSWORD)
    connection = secure.scram(SINK)
    sinking = Command(
        {
            "BOOTSTRAP_SERVERS": connection.bootstrap_servers,
            "TOPIC": TOPIC,
            "GROUP": GROUP,
            "DEAD_LETTER_TOPIC": f"{TOPIC}.dead",
            "SECURITY_PROTOCOL": "SASL_SSL",
            "SASL_USERNAME": SINK,
            "SASL_PASSWORD_FILE": "password",
            "SSL_CAFILE": secure.files.ca,
            "DATABASE_URL": database_url,
            "LOG_LEVEL": "debug",
            "DEBUG": "1",
            "HTTP_ADDRESS": "off",
        },
        tmp_path,
    )
    feeding = sinking.but(SASL_USERNAME=INGEST)
    expired = sinking.but(BOOTSTRAP_SERVERS=secure.expired(SINK).bootstrap_servers)
    await produce(secure.scram(INGEST), TOPIC, [b"junk"])
    fed = feeding("feed", "simulate", "--events=2", "--cycles=1").ok()
    with sinking.running("sink") as running:
        running.wait_for("dead_letters_published")
        processes = [" ".join(one.info["cmdline"] or ()) for one in process_iter(["cmdline"])]
        sunk = running.end().ok()
    results = [
        fed,
        sunk,
        sinking("doctor", "--json").ok(),
        sinking.but(SASL_USERNAME="s0mebody")("sink"),
        expired("status"),
    ]
    assert [result.code for result in results[3:]] == [2, 3]
    database_password = urlsplit(database_url).password
    assert database_password
    for result in results:
        for secret in (PASSWORD, database_password):
            assert secret not in result.out + result.err, result.arguments
    assert any("kafka.Kafka" in line for line in processes)
    for line in processes:
        assert PASSWORD not in line
        assert database_password not in line


# Refused at the door.

Connect = Callable[[SecureKafka], KafkaConnection]

WRONG: dict[str, tuple[Connect, type[Exception], str]] = {
    "another authority": (
        lambda one: one.scram(SINK, ssl_cafile=one.files.other_ca),
        ConfigurationError,
        "authority that is not trusted here.*ODDSLOG_SSL_CAFILE",
    ),
    "the system's authorities": (
        lambda one: one.scram(SINK, ssl_cafile=None),
        ConfigurationError,
        "authority that is not trusted here.*ODDSLOG_SSL_CAFILE",
    ),
    "an expired certificate": (
        lambda one: one.expired(SINK),
        UnreachableError,
        "has expired or is not valid yet: renew it",
    ),
    "another name": (
        lambda one: one.elsewhere(SINK),
        ConfigurationError,
        "certificate is for another name.*ODDSLOG_BOOTSTRAP_SERVERS",
    ),
    "a wrong password": (
        lambda one: one.scram(SINK, sasl_password="s3cret-but-wrong"),
        ConfigurationError,
        "refuses user oddslog-sink or the password.*ODDSLOG_SASL_PASSWORD",
    ),
    "a user that is not there": (
        lambda one: one.scram("s0mebody"),
        ConfigurationError,
        "refuses user s0mebody or the password",
    ),
    "another mechanism": (
        lambda one: one.scram(SINK, sasl_mechanism="SCRAM-SHA-256"),
        ConfigurationError,
        "takes no SCRAM-SHA-256.*ODDSLOG_SASL_MECHANISM",
    ),
    "no certificate of ours": (
        # TLS 1.3 refuses it after the handshake, as a broker that goes down would.
        lambda one: one.mutual(ssl_certfile=None, ssl_keyfile=None),
        UnreachableError,
        "does it want a certificate of ours.*ODDSLOG_SSL_CERTFILE",
    ),
    "no TLS there": (
        lambda one: one.scram(SINK, bootstrap_servers=one.admin.bootstrap_servers),
        UnreachableError,
        "closes the connection: is ODDSLOG_SECURITY_PROTOCOL SASL_SSL",
    ),
    "no TLS here": (
        lambda one: one.scram(SINK, security_protocol="SASL_PLAINTEXT"),
        UnreachableError,
        "closes the connection: is ODDSLOG_SECURITY_PROTOCOL SASL_PLAINTEXT",
    ),
}


@pytest.mark.parametrize("case", WRONG)
async def test_what_is_wrong_is_one_line_that_says_what_to_do(
    secure: SecureKafka, case: str
) -> None:
    """For the sink and the commands; without any secret."""
    connect, kind, words = WRONG[case]
    with pytest.raises(kind, match=words) as caught:
        await describe_topic(connect(secure), TOPIC)
    assert_one_line(caught.value)


async def test_a_scraper_hears_the_same(secure: SecureKafka) -> None:
    """Wrong settings at its start; a certificate that expired is an outage, and it goes on."""
    with pytest.raises(ConfigurationError, match="refuses user") as caught:
        await feed(secure.scram(INGEST, sasl_password="s3cret-but-wrong"))
    assert_one_line(caught.value)
    destination = KafkaDestination(secure.expired(INGEST), topic=TOPIC)
    await destination.start()
    await destination.stop()


def assert_one_line(error: BaseException) -> None:
    """And nothing that must not be told."""
    text = str(error)
    assert "\n" not in text
    assert "s3cret" not in text
    for secret in (PASSWORD, KEY_PASSWORD):
        assert secret not in text


# Refused inside.


async def test_the_scraper_cannot_read_and_the_sink_cannot_write(secure: SecureKafka) -> None:
    """Each has its half."""
    async with open_log_reader(secure.scram(INGEST), TOPIC) as reader:
        spans = await reader.ranges([0])
        with pytest.raises(ConfigurationError, match="does not allow oddslog-ingest to use"):
            async for _ in reader.read(spans, max_records=9, max_bytes=10**6):
                pass
    with pytest.raises(DeliveryError, match="does not allow oddslog-sink to use") as caught:
        await feed(secure.scram(SINK))
    assert_one_line(caught.value)


async def test_the_sink_may_be_in_its_own_group_alone(
    secure: SecureKafka, engine: AsyncEngine
) -> None:
    """Exit code 2, and what to grant."""
    with pytest.raises(ConfigurationError, match="to use the group: grant it") as caught:
        await sink(secure.scram(SINK), engine, "another-group")
    assert caught.value.exit_code == 2
    assert_one_line(caught.value)


async def test_a_user_without_rights_does_not_see_the_topic(
    secure: SecureKafka, engine: AsyncEngine
) -> None:
    """Kafka hides it; the line says so, for the sink and for the scraper."""
    with pytest.raises(ConfigurationError, match="not there, or may not be described"):
        await sink(secure.scram("nobody"), engine)
    with pytest.raises(ConfigurationError, match=r"does not exist .or may not be described"):
        await feed(secure.scram("nobody"))
    with pytest.raises(ConfigurationError, match=r"does not allow nobody|was not made"):
        await create_topic(secure.scram("nobody"), "another")
