"""A sink that runs beside the test."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from oddslog.schemas import KafkaConnection
from oddslog.sink import Sink, SinkOptions, SinkSource, SinkTotals, open_sink
from tests.support.waiting import BUDGET_SECONDS, until

__all__ = ["Running", "running"]


class Running:
    """A sink and the task that runs it."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.task = asyncio.create_task(sink.run(), name="test-sink")

    @property
    def placed(self) -> list[int]:
        """The partitions that it reads."""
        return sorted(partition.number for partition in self.sink._partitions.active)

    async def until_placed(self, count: int) -> None:
        """Wait until it reads so many partitions."""
        await until(
            lambda: self.task.done() or len(self.placed) == count,
            f"{count} partitions to be placed",
        )
        if self.task.done():
            self.task.result()

    async def stop(self) -> SinkTotals:
        """Stop gracefully; fails if that does not end."""
        self.sink.stop()
        async with asyncio.timeout(BUDGET_SECONDS):
            return await self.task


@asynccontextmanager
async def running(
    kafka: KafkaConnection,
    topic: str,
    engine: AsyncEngine,
    *,
    group: str | None = None,
    session_timeout_seconds: float = 6.0,
    group_instance_id: str | None = None,
    **options: Any,
) -> AsyncIterator[Running]:
    """A sink, of the topic's own group by default, from here to the block's end."""
    source = SinkSource(
        kafka,
        topic,
        group or topic,
        session_timeout_seconds=session_timeout_seconds,
        group_instance_id=group_instance_id,
    )
    run = Running(await open_sink(engine, source, SinkOptions(**options)))
    try:
        yield run
    finally:
        run.sink.stop()
        done, _ = await asyncio.wait({run.task}, timeout=BUDGET_SECONDS)
        if not done:
            run.task.cancel()
        await asyncio.gather(run.task, return_exceptions=True)
