"""What the doctor makes of Kafka, its topic and the group: one finding each."""

from dataclasses import replace
from datetime import timedelta

import pytest

from oddslog.deploy.doctor.finding import Finding, Level, exit_code
from oddslog.deploy.doctor.judge_kafka import judge_broker_clock, judge_kafka
from oddslog.deploy.doctor.kafka import (
    KafkaFacts,
    LetterTopicFacts,
    PartitionFacts,
    RecordFacts,
)
from oddslog.deploy.log_look import GroupState, Member
from oddslog.sink.topics import TopicDescription
from tests.support.facts import (
    AT,
    kafka_facts,
    only_bad,
    with_configs,
)


def kafka_findings(facts: KafkaFacts) -> list[Finding]:
    """With the default session time-out."""
    return judge_kafka(facts, "odds.writes", 45.0)


def with_letters(changes: dict[str, str] | None, *, in_sync: int = 3) -> KafkaFacts:
    """A dead-letter topic made as the log, but for what changes; None: it is not there."""
    facts = kafka_facts()
    assert facts.topic is not None
    described = None
    if changes is not None:
        configs = {**facts.topic.configs, **changes}
        described = replace(facts.topic, topic="dead", configs=configs)
    partitions = [PartitionFacts(0, 1, 3, in_sync)]
    return kafka_facts(letters=LetterTopicFacts("dead", described, partitions))


def test_a_dead_letter_topic_that_is_well() -> None:
    """Nothing to do."""
    findings = {one.check: one for one in kafka_findings(with_letters({}))}
    assert findings["dead-letter topic"].level is Level.OK
    assert "dead-letter topic" not in {one.check for one in kafka_findings(kafka_facts())}


@pytest.mark.parametrize(
    ("facts", "level", "check", "says", "do"),
    [
        (kafka_facts(topic=None), "fail", "topic", "is not there", "oddslog topics --create"),
        (with_letters(None), "warn", "dead-letter topic", "dead is not there", "topics --create"),
        (
            with_letters({"cleanup.policy": "compact"}),
            "warn",
            "dead-letter topic",
            "dead has cleanup.policy=compact",
            "Set it to delete",
        ),
        (
            with_letters({"max.message.bytes": "1048576"}),
            "warn",
            "dead-letter topic",
            "dead takes 1.0 MiB a record, the log 10 MiB",
            "Set max.message.bytes to 10485760",
        ),
        (
            with_letters({}, in_sync=1),
            "warn",
            "dead-letter topic",
            "partitions 0 have fewer than min.insync.replicas=2 in sync and take no records",
            "Look at the brokers",
        ),
        (
            kafka_facts(versions={0: (0, 5), 1: (0, 8), 11: (0, 5), 22: (0, 1)}),
            "fail",
            "Kafka",
            "too old for zstd and idempotent producers (Produce 5, Fetch 8)",
            "Kafka 2.4",
        ),
        (
            kafka_facts(broker_configs={"group.max.session.timeout.ms": "30000"}),
            "fail",
            "brokers",
            "session time-outs of 0 to 30 s, and ODDSLOG_SESSION_TIMEOUT_SECONDS is 45",
            "Set it",
        ),
        (
            kafka_facts(broker_configs={"auto.create.topics.enable": "true"}),
            "warn",
            "brokers",
            "auto.create.topics.enable is on",
            "false",
        ),
        (
            with_configs(cleanup_policy="compact"),
            "fail",
            "topic",
            "cleanup.policy=compact: compaction would delete",
            "Set it to delete",
        ),
        (
            with_configs(retention_ms="86400000"),
            "warn",
            "topic",
            "kept for 1 d 0 h only",
            "Raise retention.ms",
        ),
        (
            with_configs(retention_bytes="1073741824"),
            "warn",
            "topic",
            "retention.bytes=1.0 GiB a partition",
            "-1",
        ),
        (
            with_configs(max_message_bytes="1048588"),
            "warn",
            "topic",
            "max.message.bytes=1.0 MiB",
            "Set it to 10485760",
        ),
        (
            with_configs(max_message_bytes="100000"),
            "fail",
            "topic",
            "takes records of only 100000",
            "max.message.bytes",
        ),
        (
            with_configs(message_timestamp_type="CreateTime"),
            "warn",
            "topic",
            "message.timestamp.type=CreateTime",
            "LogAppendTime",
        ),
        (
            with_configs(min_insync_replicas="1"),
            "warn",
            "topic",
            "min.insync.replicas=1",
            "3 replicas",
        ),
        (
            with_configs(unclean_leader_election_enable="true"),
            "warn",
            "topic",
            "acknowledged records can be lost",
            "false",
        ),
        (
            kafka_facts(topic=TopicDescription("cluster", "odds.writes", 3, 3, 3, {})),
            "warn",
            "topic",
            "may not be read",
            "DESCRIBE_CONFIGS",
        ),
        (
            kafka_facts(partitions=[PartitionFacts(0, 1, 3, 3), PartitionFacts(1, -1, 3, 2)]),
            "fail",
            "replicas",
            "partitions 1 have no leader",
            "brokers",
        ),
        (
            kafka_facts(partitions=[PartitionFacts(0, 1, 3, 1)]),
            "fail",
            "replicas",
            "fewer than min.insync.replicas=2",
            "brokers",
        ),
        (
            kafka_facts(partitions=[PartitionFacts(0, 1, 3, 2)]),
            "warn",
            "replicas",
            "out of sync",
            "brokers",
        ),
        (
            kafka_facts(group=GroupState("", (), "", "GroupAuthorizationFailedError")),
            "fail",
            "group",
            "GroupAuthorizationFailedError",
            "READ",
        ),
        (
            kafka_facts(group=GroupState("Stable", (), "connect")),
            "fail",
            "group",
            "protocol is connect",
            "ODDSLOG_GROUP",
        ),
        (
            kafka_facts(
                group=GroupState("Stable", (Member("a", "h", (0, 1, 2)), Member("b", "h", ())))
            ),
            "warn",
            "group",
            "1 of 2 members have no partition",
            "add partitions",
        ),
        (
            kafka_facts(group=GroupState("Empty", ()), committed={0: 40, 1: 100, 2: None}),
            "warn",
            "group",
            "about 160 records wait",
            "oddslog sink",
        ),
    ],
)
def test_what_is_wrong_with_kafka(
    facts: KafkaFacts, level: str, check: str, says: str, do: str
) -> None:
    """Each is one finding, and the others stay ok."""
    findings = kafka_findings(facts)
    if facts.topic is not None and not facts.topic.configs:
        findings = [finding for finding in findings if "may not be read" in finding.says]
    bad = only_bad([one for one in findings if not _of_small_limit(one, facts)])
    assert (bad.level, bad.check) == (level, check)
    assert says in bad.says
    assert do in bad.do
    assert exit_code(findings) == (1 if level == "fail" else 0)


def _of_small_limit(finding: Finding, facts: KafkaFacts) -> bool:
    """A topic that takes nothing has a low limit, too."""
    return finding.level is Level.WARN and facts == with_configs(max_message_bytes="100000")


def test_a_broker_ahead_of_us_is_seen_by_its_records() -> None:
    """One behind cannot be: the records may be old."""
    ahead = RecordFacts({}, {0: AT + timedelta(seconds=9)}, AT)
    bad = judge_broker_clock(ahead, "LogAppendTime")
    assert bad.level is Level.WARN
    assert "9.0 s in the future" in bad.says
    assert judge_broker_clock(ahead, "CreateTime").level is Level.OK
    behind = RecordFacts({}, {0: AT - timedelta(days=9)}, AT)
    assert judge_broker_clock(behind, "LogAppendTime").level is Level.OK
    assert judge_broker_clock(RecordFacts(), "LogAppendTime").level is Level.OK
