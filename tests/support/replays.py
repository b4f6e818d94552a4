"""A replay within the test's own process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.schemas import KafkaConnection
from oddslog.sink.ledger import LogIdentity
from oddslog.sink.log_reader import LogReader, open_log_reader
from oddslog.sink.opening import check_database
from oddslog.sink.replay import Replay, ReplayOptions
from oddslog.sink.replay_filters import ReplayFilter
from oddslog.sink.replay_opening import OpenedReplay, ReplayRequest, open_replay
from oddslog.sink.replay_progress import ReplayState
from oddslog.sink.replay_scratch import Scratch
from oddslog.sink.replay_spans import SpanChoice
from oddslog.sink.topics import describe_topic

__all__ = ["opened_replay", "replay_into"]


@asynccontextmanager
async def opened_replay(
    engine: AsyncEngine,
    kafka: KafkaConnection,
    topic: str,
    *,
    choice: SpanChoice | None = None,
    where: ReplayFilter | None = None,
    **request: object,
) -> AsyncIterator[tuple[LogReader, OpenedReplay]]:
    """One that is ready to run, on its servers."""
    described = await describe_topic(kafka, topic)
    assert described is not None
    identity = LogIdentity(described.cluster_id, topic, described.partitions)
    asked = ReplayRequest(choice or SpanChoice(), where or ReplayFilter())
    asked = replace(asked, **request)  # type: ignore[arg-type]
    asked.check()
    with closing(Scratch()) as scratch:
        async with open_log_reader(kafka, topic) as reader:
            limits = await check_database(engine)
            opened = await open_replay(engine, limits, reader, identity, asked, scratch)
            yield reader, opened


async def replay_into(
    engine: AsyncEngine,
    kafka: KafkaConnection,
    topic: str,
    *,
    poll_records: int = 500,
    **asked: Any,
) -> ReplayState:
    """Run one to its end; returns what it came to."""
    async with opened_replay(engine, kafka, topic, **asked) as (reader, opened):
        options = ReplayOptions(poll_records=poll_records)
        return await Replay(opened.target, reader, opened.state, options).run()
