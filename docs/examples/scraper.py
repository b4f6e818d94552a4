"""A scraper with FastAPI, whose snapshots go to oddslog. To read, to run, to start from.

    pip install oddslog fastapi uvicorn prometheus-client
    export ODDSLOG_BOOTSTRAP_SERVERS=localhost:9092 ODDSLOG_TOPIC=odds.writes
    uvicorn --app-dir docs/examples scraper:app

`POST /scrape` is one scrape; a real scraper has a timer for it. The odds are made up.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from oddslog.ingest import AsyncWriteQueue, KafkaDestination, Receipt
from oddslog.schemas import MarketWriteData, SnapshotKey, SnapshotWriteData, WriteBatch
from oddslog.schemas.errors import DeliveryError

log = structlog.get_logger("scraper")

EVENTS, BATCH_EVENTS, BOOKMAKER_ID = 120, 50, 1
Odds = list[dict[str, Any]]


async def fetch(event_id: int, run_id: int) -> Odds:
    """What a bookmaker's site answers: the odds of every third event change from run to run."""
    moves = run_id if event_id % 3 == 0 else 0
    return [{"name": "1", "odds": 1.5 + moves / 100}, {"name": "2", "odds": 2.5}]


class Known:
    """What was handed over last of each event: its odds, and the key that confirms it.

    The key is known at once, without asking the database: `enqueue` stamps it. Lost with
    the process, which costs one snapshot of each event and nothing else.
    """

    def __init__(self) -> None:
        self._last: dict[int, tuple[Odds, SnapshotKey]] = {}

    def key_of(self, event_id: int, odds: Odds) -> SnapshotKey | None:
        """The key to confirm; None where the odds are new."""
        last = self._last.get(event_id)
        return last[1] if last is not None and last[0] == odds else None

    def remember(self, snapshot: SnapshotWriteData) -> None:
        """After `enqueue`, from the receipt's batch: its times are stamped."""
        assert snapshot.captured_at is not None  # noqa: S101 - stamped
        key = SnapshotKey(snapshot.event_id, snapshot.bookmaker_id, snapshot.captured_at)
        odds = snapshot.markets[0].outcomes
        assert isinstance(odds, list)  # noqa: S101 - as `snapshot_of` made it
        self._last[snapshot.event_id] = (odds, key)

    def forget(self, snapshot: SnapshotWriteData) -> None:
        """After a failed receipt: it may not be stored, so it must not be confirmed."""
        last = self._last.get(snapshot.event_id)
        if last is not None and last[1].captured_at == snapshot.captured_at:
            del self._last[snapshot.event_id]


class Scraper:
    """Scrapes, and hands over what it found in batches."""

    def __init__(self, queue: AsyncWriteQueue) -> None:
        self.queue = queue
        self._known = Known()
        self._run_id = int(datetime.now(UTC).timestamp())  # a real one: from its own table
        self._one_at_a_time = asyncio.Lock()
        self._watching: set[asyncio.Task[None]] = set()

    async def scrape(self) -> dict[str, int]:
        """One scrape of all events; returns what was handed over.

        Waits where the queue is full: then the scraper is as fast as Kafka.
        """
        async with self._one_at_a_time:
            self._run_id += 1
            firsts = range(1, EVENTS + 1, BATCH_EVENTS)
            changed = unchanged = 0
            for index, first in enumerate(firsts):
                batch = await self._batch(first, index, len(firsts))
                receipt = await self.queue.enqueue(batch)
                self._hand_over(receipt)
                changed += len(batch.changed_betpawa)
                unchanged += len(batch.unchanged_betpawa)
            return {"run_id": self._run_id, "changed": changed, "unchanged": unchanged}

    async def _batch(self, first: int, index: int, count: int) -> WriteBatch:
        events = range(first, min(first + BATCH_EVENTS, EVENTS + 1))
        found = await asyncio.gather(*(fetch(event, self._run_id) for event in events))
        changed, unchanged = [], []
        for event_id, odds in zip(events, found, strict=True):
            key = self._known.key_of(event_id, odds)
            if key is None:
                changed.append(snapshot_of(event_id, odds, self._run_id))
            else:
                unchanged.append(key)
        return WriteBatch(
            changed_betpawa=tuple(changed),
            changed_competitor=(),
            unchanged_betpawa_ids=(),
            unchanged_competitor_ids=(),
            scrape_run_id=self._run_id,
            batch_index=index,
            unchanged_betpawa=tuple(unchanged),
            batch_count=count,
        )

    def _hand_over(self, receipt: Receipt) -> None:
        for snapshot in receipt.batch.changed_betpawa:
            self._known.remember(snapshot)
        # Not awaited here: the next batch need not wait for the brokers.
        task = asyncio.create_task(self._watch(receipt))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def _watch(self, receipt: Receipt) -> None:
        try:
            await receipt
        except DeliveryError as error:
            # The queue has logged the batch in full. Scraped again the events are new.
            self._forget(receipt.batch.changed_betpawa)
            log.warning("batch_not_stored", reason=str(error))

    def _forget(self, snapshots: Sequence[SnapshotWriteData]) -> None:
        for snapshot in snapshots:
            self._known.forget(snapshot)


def snapshot_of(event_id: int, odds: Odds, run_id: int) -> SnapshotWriteData:
    """The records are plain and frozen; times are stamped by `enqueue`."""
    market = MarketWriteData("3743", "1X2 | Full Time", None, None, None, None, odds, ["main"])
    return SnapshotWriteData(event_id, BOOKMAKER_ID, run_id, {"id": event_id}, (market,))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The queue lives as long as the application, and is drained at its end.

    uvicorn gives that as long as it takes (`--timeout-graceful-shutdown` is about
    requests); the queue itself takes 25 s at most, what is left goes into the spool.
    """
    destination = KafkaDestination(
        os.environ.get("ODDSLOG_BOOTSTRAP_SERVERS", "localhost:9092"),
        topic=os.environ.get("ODDSLOG_TOPIC", "odds.writes"),
        spool_dir=os.environ.get("ODDSLOG_SPOOL_DIR"),
    )
    async with AsyncWriteQueue(destination, name="odds") as queue:
        app.state.scraper = Scraper(queue)
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/scrape")
async def scrape(request: Request) -> dict[str, int]:
    """One scrape."""
    scraper: Scraper = request.app.state.scraper
    return await scraper.scrape()


@app.get("/healthz")
async def healthz(request: Request, response: Response) -> dict[str, Any]:
    """503 once the queue takes nothing: then the process has to be started anew."""
    stats: dict[str, Any] = request.app.state.scraper.queue.stats()
    response.status_code = 200 if stats["running"] else 503
    return stats


@app.get("/metrics")
async def metrics() -> Response:
    """The queue is in prometheus-client's registry by itself."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
