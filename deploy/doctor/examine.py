"""All checks, in the order in which a person would mend things."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from ...schemas.errors import OddslogError
from ...sink.ledger import LogIdentity
from ..settings import Settings
from .database import DatabaseFacts, ask_database
from .finding import Finding, failed, ok
from .host import ask_host, ask_spool, judge_host, judge_spool
from .judge_database import judge_database
from .judge_kafka import judge_broker_clock, judge_kafka
from .judge_ledger import judge_ledger, known_as
from .kafka import KafkaFacts, RecordFacts, ask_kafka, ask_records
from .schemas import check_registry

__all__ = ["examine"]

T = TypeVar("T")


async def examine(settings: Settings) -> list[Finding]:
    """Ask both servers at once, look at this machine, and judge. Nothing is changed."""
    findings = [_settings(settings), *judge_host(ask_host())]
    if settings.spool_dir is not None:
        spool = await asyncio.to_thread(ask_spool, settings.spool_dir, settings.spool_bytes)
        findings.append(judge_spool(spool))
    if settings.schema_registry_url is not None:
        findings += await check_registry(settings)
    kafka, database = await asyncio.gather(
        _answer(
            ask_kafka(settings.kafka(), settings.topic, settings.group, settings.dead_letter_topic)
        ),
        _answer(ask_database(settings)),
    )
    if isinstance(kafka, OddslogError):
        findings.append(failed("Kafka", kafka))
    else:
        findings += judge_kafka(kafka, settings.topic, settings.session_timeout_seconds)
    if isinstance(database, OddslogError):
        findings.append(failed("PostgreSQL", database))
    else:
        findings += judge_database(database)
    if not isinstance(kafka, OddslogError):
        findings += await _of_both(settings, kafka, database)
    return findings


def _settings(settings: Settings) -> Finding:
    try:
        settings.require_database_url()
    except OddslogError as error:
        return failed("settings", error)
    return ok("settings", f"topic {settings.topic}, group {settings.group}; see: oddslog config")


async def _of_both(
    settings: Settings, kafka: KafkaFacts, database: DatabaseFacts | OddslogError
) -> list[Finding]:
    """What takes the records, and where both answered, the ledger."""
    if kafka.topic is None:
        return []
    described = kafka.topic
    identity = LogIdentity(described.cluster_id, described.topic, described.partitions)
    known = None if isinstance(database, OddslogError) else known_as(database.logs, identity)
    rows = (
        {} if known is None or isinstance(database, OddslogError) else database.ledger[known.log_id]
    )
    last = {number: row.last for number, row in rows.items() if row.last is not None}
    reading = ask_records(settings.kafka(), settings.topic, kafka.ranges, last)
    answer = await _answer(reading)
    if isinstance(answer, OddslogError):
        return [failed("records", answer)]
    records: RecordFacts = answer
    timestamps = described.configs.get("message.timestamp.type")
    findings = [judge_broker_clock(records, timestamps)]
    if not isinstance(database, OddslogError) and database.migrated:
        findings.append(
            judge_ledger(
                database.logs,
                database.ledger,
                identity,
                kafka.ranges,
                kafka.committed,
                records.last,
            )
        )
    return findings


async def _answer(asking: Awaitable[T]) -> T | OddslogError:
    try:
        return await asking
    except OddslogError as error:
        return error
