"""A replay within the test's own process."""

from contextlib import closing
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.schemas import KafkaConnection
from oddslog.sink.ledger import LogIdentity
from oddslog.sink.log_reader import open_log_reader
from oddslog.sink.opening import check_database
from oddslog.sink.replay import Replay, ReplayOptions
from oddslog.sink.replay_filters import ReplayFilter
from oddslog.sink.replay_opening import ReplayRequest, open_replay
from oddslog.sink.replay_progress import ReplayState
from oddslog.sink.replay_scratch import Scratch
from oddslog.sink.replay_spans import SpanChoice
from oddslog.sink.topics import describe_topic

__all__ = ["replay_into"]


async def replay_into(
    engine: AsyncEngine,
    kafka: KafkaConnection,
    topic: str,
    *,
    choice: SpanChoice | None = None,
    where: ReplayFilter | None = None,
    poll_records: int = 500,
    **request: object,
) -> ReplayState:
    """Run it to its end; returns what it came to."""
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
            options = ReplayOptions(poll_records=poll_records)
            return await Replay(opened.target, reader, opened.state, options).run()
