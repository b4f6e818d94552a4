"""What the doctor makes of Kafka, its topic and the group: one finding each."""

from datetime import timedelta

import pytest

from oddslog.deploy.doctor.finding import Finding, Level, exit_code
from oddslog.deploy.doctor.judge_kafka import judge_broker_clock, judge_kafka
from oddslog.deploy.doctor.kafka import KafkaFacts, PartitionFacts, RecordFacts
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


@pytest.mark.parametrize(
    ("facts", "level", "check", "says", "do"),
    [
        (kafka_facts(topic=None), "fail", "topic", "is not there", "oddslog topics --create"),
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
