"""A scraper in a process of its own: enqueues batches and says which receipts resolved.

Prints `ready` when the queue has started, `ack N` after the receipt of batch N was
awaited, and `end` at the end. Killed by `ODDSLOG_KILL_POINT` where the test says.
"""

import asyncio
import queue
import signal
import sys
import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from oddslog.ingest import AsyncWriteQueue, KafkaDestination
from oddslog.schemas import WriteBatch, kill_points
from tests.support.batches import NOON, batch, competitor, key_of, snapshot
from tests.support.prefork import fork
from tests.support.sink_process import clean_environment

__all__ = ["EVENTS", "FeedingChild", "batch_number"]

BUDGET_SECONDS = 60.0
EVENTS = 4


def batch_number(number: int) -> WriteBatch:
    """The same batch in every process: some events again and again, and confirmations."""
    at = NOON + timedelta(seconds=number)
    changed = [snapshot(event, at, bookmaker_id=1 + number % 2) for event in range(1, EVENTS + 1)]
    return batch(
        changed,
        [competitor(number + 1, at)],
        unchanged_betpawa=tuple(key_of(one) for one in changed[:2]),
        confirmed_at=at + timedelta(seconds=1),
        batch_index=number,
    )


class FeedingChild:
    """The process, as the test sees it; `acknowledged` are the batches it named."""

    def __init__(
        self, servers: str, topic: str, spool_dir: Path | None, *, kill_point: str = "", **more: Any
    ) -> None:
        asked = {
            "servers": servers,
            "topic": topic,
            "spool_dir": None if spool_dir is None else str(spool_dir),
            "durability": "ack",
            "first": 0,
            "count": 10,
            "attempt_deadline_seconds": 10.0,
            "database_url": None,
            **more,
        }
        environment: Mapping[str, str] = {**clean_environment(), "ODDSLOG_KILL_POINT": kill_point}
        self.acknowledged: set[int] = set()
        self.process = fork(_run, asked, name="feeding", env=environment, joined=True)
        self._said: list[str] = []
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_said(self, wanted: str) -> None:
        """Wait for a line."""
        deadline = time.monotonic() + BUDGET_SECONDS
        while True:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            if line == wanted:
                return
            assert line, f"ended before {wanted!r}: {self.tail()}"

    def wait_killed(self) -> None:
        """Wait until it has ended by SIGKILL."""
        code = self._ended()
        assert code == -signal.SIGKILL, f"ended with {code}: {self.tail()}"

    def wait_end(self) -> None:
        """Wait until it has ended well."""
        code = self._ended()
        assert code == 0, f"ended with {code}: {self.tail()}"

    def kill(self) -> None:
        """End it at once, if it still runs."""
        self.process.kill()
        self._ended()

    def tail(self) -> str:
        """What it said last."""
        return "\n".join(self._said[-12:])

    def _ended(self) -> int:
        code = self.process.wait(BUDGET_SECONDS)
        self._reader.join(BUDGET_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def _read(self) -> None:
        assert self.process.stdout is not None
        for raw in self.process.stdout:
            line = raw.rstrip()
            self._said.append(line)
            if line.startswith("ack "):
                self.acknowledged.add(int(line.split()[1]))
            self._lines.put(line)
        self._lines.put("")


async def _main(asked: Mapping[str, Any]) -> None:
    if asked["database_url"] is not None:
        await _feed_database(asked)
        return
    destination = KafkaDestination(
        asked["servers"],
        topic=asked["topic"],
        spool_dir=asked["spool_dir"],
        durability=asked["durability"],
    )
    async with AsyncWriteQueue(
        destination, attempt_deadline_seconds=asked["attempt_deadline_seconds"]
    ) as writes:
        _say("ready")
        await _feed(writes, asked)
        await destination.settle(BUDGET_SECONDS)
    _say("end")


async def _feed(writes: AsyncWriteQueue, asked: Mapping[str, Any]) -> None:
    """Enqueue the batches, and say of each when its receipt has resolved."""
    waiting = set()

    async def say(receipt: Any, number: int) -> None:
        await receipt
        _say(f"ack {number}")

    for number in range(asked["first"], asked["first"] + asked["count"]):
        receipt = await writes.enqueue(batch_number(number))
        waiting.add(asyncio.create_task(say(receipt, number)))
    await asyncio.gather(*waiting)


async def _feed_database(asked: Mapping[str, Any]) -> None:
    """The same without Kafka."""
    from sqlalchemy.ext.asyncio import async_sessionmaker

    from oddslog.sink import DatabaseDestination
    from oddslog.sink.database import make_engine

    engine = make_engine(asked["database_url"])
    async with AsyncWriteQueue(DatabaseDestination(async_sessionmaker(engine))) as writes:
        await _feed(writes, asked)
    await engine.dispose()
    _say("end")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _run(asked: Mapping[str, Any]) -> None:
    kill_points.arm_from_environment()
    asyncio.run(_main(asked))
