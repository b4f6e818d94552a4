"""What is to be said of Kafka, its topic and the group. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from ...sink.topics import TOPIC_CONFIGS, TopicDescription, topic_problems, topic_warnings
from ..words import bytes_words, duration_words, numbers_words
from .finding import Finding, fail, ok, warn
from .kafka import KafkaFacts, LetterTopicFacts, PartitionFacts, RecordFacts

__all__ = ["judge_broker_clock", "judge_kafka"]

# Requests, by their number, in the versions from which on zstd and idempotent producers work.
_NEEDED_VERSIONS = {0: ("Produce", 7), 1: ("Fetch", 10), 11: ("JoinGroup", 5), 22: ("InitId", 0)}
_FETCH = 1
# Kafka 4.0 took the versions below away (KIP-896).
_LOWEST_FETCH_OF_KAFKA_4 = 4
_SHORT_RETENTION_MS = 7 * 24 * 3600 * 1000
_CLOCK_SECONDS = 2.0
_REPLICATE = "Keep 3 replicas of it, with min.insync.replicas=2, on 3 brokers"


def judge_kafka(facts: KafkaFacts, topic: str, session_timeout_seconds: float) -> list[Finding]:
    """All but the positions, which take the ledger too."""
    findings = [_reached(facts), _configs(facts, session_timeout_seconds)]
    if facts.letters is not None:
        findings.append(_letter_topic(facts.letters, facts.topic))
    described = facts.topic
    if described is None:
        findings.append(fail("topic", f"{topic} is not there", "Make it: oddslog topics --create"))
        return [*findings, _group(facts)]
    problems = topic_problems(described)
    warnings = topic_warnings(described)
    findings += [fail("topic", *_split(problem)) for problem in problems]
    for warning in warnings:
        says, do = _split(warning)
        findings.append(warn("topic", says, do or _REPLICATE))
    findings += _topic_configs(described.configs)
    if not any(finding.check == "topic" for finding in findings):
        policy = "delete, appended times, several replicas"
        findings.append(ok("topic", f"{topic}: {described.partitions} partitions, {policy}"))
    return [*findings, _replicas(facts), _group(facts)]


def judge_broker_clock(records: RecordFacts, timestamp_type: str | None) -> Finding:
    """What can be seen of the brokers' clock: a record that will be appended only later."""
    if timestamp_type != "LogAppendTime":
        return ok("clock of Kafka", "not to be seen: the records have their producers' times")
    if not records.newest_at or records.read_at is None:
        return ok("clock of Kafka", "not to be seen: there are no records yet")
    ahead = (max(records.newest_at.values()) - records.read_at).total_seconds()
    if ahead > _CLOCK_SECONDS:
        return warn(
            "clock of Kafka",
            f"the newest record is from {duration_words(ahead)} in the future of this machine",
            "Set the clocks by NTP, here and on the brokers",
        )
    newest: datetime = max(records.newest_at.values())
    return ok("clock of Kafka", f"not ahead of ours; the newest record is of {newest:%F %T} UTC")


def _reached(facts: KafkaFacts) -> Finding:
    old = [
        f"{name} {facts.versions.get(number, (0, -1))[1]}"
        for number, (name, needed) in _NEEDED_VERSIONS.items()
        if facts.versions and facts.versions.get(number, (0, -1))[1] < needed
    ]
    if old:
        return fail(
            "Kafka",
            f"the brokers are too old for zstd and idempotent producers ({', '.join(old)})",
            "Use Kafka 2.4 or newer",
        )
    age = ""
    if _FETCH in facts.versions:
        new = facts.versions[_FETCH][0] >= _LOWEST_FETCH_OF_KAFKA_4
        age = ", Kafka 4 or newer" if new else ", older than Kafka 4"
    return ok("Kafka", f"cluster {facts.cluster_id}, {facts.brokers} broker(s){age}")


def _configs(facts: KafkaFacts, session_timeout_seconds: float) -> Finding:
    """The brokers' own settings that can stand in the way."""
    configs = facts.broker_configs
    if not configs:
        return ok("brokers", "their configuration may not be read (DESCRIBE_CONFIGS)")
    shortest = int(configs.get("group.min.session.timeout.ms", 0)) / 1000
    longest = int(configs.get("group.max.session.timeout.ms", 1 << 31)) / 1000
    if not shortest <= session_timeout_seconds <= longest:
        return fail(
            "brokers",
            f"they take session time-outs of {shortest:g} to {longest:g} s, and"
            f" ODDSLOG_SESSION_TIMEOUT_SECONDS is {session_timeout_seconds:g}",
            "Set it to one of these",
        )
    if configs.get("auto.create.topics.enable") == "true":
        return warn(
            "brokers",
            "auto.create.topics.enable is on: a deleted or misspelt topic comes into being by"
            " itself, with the wrong settings",
            "Set it to false",
        )
    return ok("brokers", f"they take a session time-out of {session_timeout_seconds:g} s")


def _topic_configs(configs: Mapping[str, str]) -> list[Finding]:
    findings = []
    if not configs:
        return [
            warn(
                "topic",
                "its configuration may not be read",
                "Give this user DESCRIBE_CONFIGS on the topic",
            )
        ]
    retention_ms = int(configs.get("retention.ms", -1))
    if 0 <= retention_ms < _SHORT_RETENTION_MS:
        findings.append(
            warn(
                "topic",
                f"records are kept for {duration_words(retention_ms / 1000)} only: a sink that"
                " stands still for so long, or a backup older than that, leaves a gap",
                "Raise retention.ms (30 days: 2592000000)",
            )
        )
    size = int(configs.get("retention.bytes", -1))
    if size >= 0:
        findings.append(
            warn(
                "topic",
                f"retention.bytes={bytes_words(size)} a partition deletes records however new",
                "Set it to -1, and keep records by retention.ms",
            )
        )
    limit, wanted = int(configs.get("max.message.bytes", 0)), TOPIC_CONFIGS["max.message.bytes"]
    if 0 < limit < int(wanted):
        findings.append(
            warn(
                "topic",
                f"max.message.bytes={bytes_words(limit)}: larger snapshots fail their receipts",
                f"Set it to {wanted}",
            )
        )
    if configs.get("unclean.leader.election.enable") == "true":
        findings.append(
            warn(
                "topic",
                "unclean.leader.election.enable is on: acknowledged records can be lost",
                "Set it to false",
            )
        )
    return findings


def _replicas(facts: KafkaFacts) -> Finding:
    configs = {} if facts.topic is None else facts.topic.configs
    return _in_sync("replicas", facts.partitions, configs) or ok("replicas", "all in sync")


def _in_sync(
    check: str, partitions: Sequence[PartitionFacts], configs: Mapping[str, str]
) -> Finding | None:
    """What keeps the partitions from taking records, or may soon."""
    needed = int(configs.get("min.insync.replicas", 1))
    nobody = [one.number for one in partitions if one.leader < 0]
    refusing = [one.number for one in partitions if one.in_sync < needed]
    behind = [one.number for one in partitions if one.in_sync < one.replicas]
    do = "Look at the brokers: one is down or slow"
    if nobody:
        return fail(check, f"partitions {numbers_words(nobody)} have no leader", do)
    if refusing:
        return fail(
            check,
            f"partitions {numbers_words(refusing)} have fewer than min.insync.replicas={needed}"
            " in sync and take no records",
            do,
        )
    if behind:
        return warn(check, f"partitions {numbers_words(behind)} have replicas out of sync", do)
    return None


def _letter_topic(letters: LetterTopicFacts, log: TopicDescription | None) -> Finding:
    """Nothing fails for it: the sink goes on, and what is not sent waits in the database."""
    check, topic, described = "dead-letter topic", letters.topic, letters.described
    if described is None:
        return warn(check, f"{topic} is not there", "Make it: oddslog topics --create")
    for problem in topic_problems(described):
        says, do = _split(problem)
        return warn(check, says, do)
    stopped = _in_sync(check, letters.partitions, described.configs)
    if stopped is not None:
        return warn(check, stopped.says, stopped.do)
    if log is not None and described.max_message_bytes < log.max_message_bytes:
        return warn(
            check,
            f"{topic} takes {bytes_words(described.max_message_bytes)} a record, the log"
            f" {bytes_words(log.max_message_bytes)}: larger letters go there without their value",
            f"Set max.message.bytes to {log.max_message_bytes}",
        )
    return ok(check, f"{topic} is there and takes records, as far as is seen without writing one")


def _group(facts: KafkaFacts) -> Finding:
    group = facts.group
    if group.error is not None:
        return fail(
            "group",
            f"the group may not be looked at: {group.error}",
            "Give this user READ and DESCRIBE on the group",
        )
    if group.protocol_type not in ("", "consumer"):
        return fail(
            "group",
            f"the group's protocol is {group.protocol_type}: it is of something else",
            "Name another: ODDSLOG_GROUP",
        )
    idle = [member for member in group.members if not member.partitions]
    if idle and group.state == "Stable":
        return warn(
            "group",
            f"{len(idle)} of {len(group.members)} members have no partition",
            "End them, or add partitions",
        )
    waiting = sum(
        held.end - (facts.committed.get(number) or held.start)
        for number, held in facts.ranges.items()
    )
    if not group.members and waiting > 0:
        return warn(
            "group",
            f"no sink is at work, and about {waiting:,} records wait",
            "Start one: oddslog sink",
        )
    return ok("group", f"{len(group.members)} member(s), the group is {group.words}")


def _split(text: str) -> tuple[str, str]:
    """A problem of the topic, and what to do, where the text has it as its last sentence."""
    says, dot, do = text.rpartition(". ")
    if not dot:
        says, dot, do = text.rpartition(": set it")
        do = f"Set it{do}" if dot else ""
    return (says, do) if dot else (text, "")
