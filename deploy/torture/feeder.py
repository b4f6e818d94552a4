"""The process that feeds: `python -m oddslog.deploy.torture.feeder FOLDER SEED LIFE RATE`.

Enqueues the batches of its life until SIGTERM, and notes in the journal before and
after. What an earlier life left without an acknowledgement it often hands over
once more first, as a scraper does with a failed receipt.
"""

import asyncio
import contextlib
import signal
import sys
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

from ...ingest import AsyncWriteQueue, Destination, KafkaDestination, Receipt
from ...ingest.fragments import Fragment
from ...ingest.producer import Generation, ProducerSettings
from ...schemas import kill_points
from ...schemas.errors import DeliveryError, OddslogError
from ...schemas.wire import Kind
from ..configuration import read_configuration
from ..logs import configure_logs
from ..settings import Settings
from .journal import Did, JournalWriter, read_journals
from .load import BatchId, FedBatch, batches, garbage_key

__all__ = ["SPOOL", "Feeder", "make_destination"]

_QUEUE_MAXSIZE = 20
# Short, so that producer generations are given up again and again.
_ATTEMPT_SECONDS = 4.0
_STOP_SECONDS = 30.0
_GARBAGE_SECONDS = 10.0
_AGAIN_SHARE = 0.5
_BURST_SHARE = 0.05
_BURST_BATCHES = 10
_RECORD_BYTES = 1024 * 1024


SPOOL = "spool"
"""The spool's folder, in the kit's: one for all lives that have a spool."""


def make_destination(settings: Settings, folder: Path, chance: Random) -> Destination:
    """Where a life's batches go: to the brokers alone, with a spool, or by the spool."""
    spool_dir = folder / SPOOL
    way = chance.choice(("none", "behind", "behind", "first"))
    return KafkaDestination(
        settings.kafka(),
        topic=settings.topic,
        spool_dir=None if way == "none" else spool_dir,
        durability="spool" if way == "first" else "ack",
    )


class Feeder:
    """One life."""

    def __init__(
        self, settings: Settings, folder: Path, seed: int, life: int, batches_a_second: float
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._seed = seed
        self._life = life
        self._pause_seconds = 1 / batches_a_second
        self._chance = Random(f"torture/{seed}/{life}/pace")  # noqa: S311 - no secret
        self._stopping = asyncio.Event()
        self._watching: set[asyncio.Task[None]] = set()
        self._garbage: asyncio.Queue[FedBatch] = asyncio.Queue()

    async def run(self) -> None:
        """Feed until SIGTERM; what was enqueued by then is drained."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stopping.set)
        again = await asyncio.to_thread(self._left_over)
        with JournalWriter(self._folder, self._life) as journal:
            sending = asyncio.create_task(self._send_garbage(journal), name="torture-garbage")
            sending.add_done_callback(lambda _: self._stopping.set())
            try:
                queue = AsyncWriteQueue(
                    make_destination(self._settings, self._folder, self._chance),
                    maxsize=_QUEUE_MAXSIZE,
                    attempt_deadline_seconds=_ATTEMPT_SECONDS,
                    stop_deadline_seconds=_STOP_SECONDS,
                )
                async with queue:
                    await self._feed(queue, journal, again)
                await asyncio.gather(*self._watching)
            finally:
                sending.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await sending

    def _left_over(self) -> list[FedBatch]:
        """What the life before has enqueued, and never saw acknowledged."""
        if self._chance.random() > _AGAIN_SHARE:
            return []
        lives: defaultdict[int, set[int]] = defaultdict(set)
        for name in read_journals(self._folder).unknown:
            if name.life == self._life - 1:
                lives[name.life].add(name.number)
        return [
            fed
            for life, numbers in lives.items()
            for fed in islice(batches(self._seed, life), max(numbers) + 1)
            if fed.id.number in numbers
        ]

    async def _feed(
        self, queue: AsyncWriteQueue, journal: JournalWriter, again: list[FedBatch]
    ) -> None:
        for fed in again:
            await self._hand_over(queue, journal, fed)
        source: Iterator[FedBatch] = batches(self._seed, self._life)
        burst = 0
        while not self._stopping.is_set():
            fed = await asyncio.to_thread(next, source)
            await self._hand_over(queue, journal, fed)
            if fed.garbage is not None:
                self._garbage.put_nowait(fed)
            burst = max(0, burst - 1)
            if self._chance.random() < _BURST_SHARE:
                burst = _BURST_BATCHES
            if not burst:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pause_seconds * 2 * self._chance.random()):
                        await self._stopping.wait()

    async def _hand_over(
        self, queue: AsyncWriteQueue, journal: JournalWriter, fed: FedBatch
    ) -> None:
        # Before it is handed over: after the receipt's await it may be too late.
        journal.note(Did.ENQUEUED, fed.id)
        receipt = await queue.enqueue(fed.batch)
        task = asyncio.create_task(_watch(receipt, journal, fed.id), name="torture-receipt")
        self._watching.add(task)
        task.add_done_callback(self._settled)

    def _settled(self, task: "asyncio.Task[None]") -> None:
        self._watching.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._watching.add(task)  # its failure is raised at the end
            self._stopping.set()

    async def _send_garbage(self, journal: JournalWriter) -> None:
        """Send what nobody can decode, each once: what is not acknowledged stays unknown."""
        generation: Generation | None = None
        try:
            while True:
                fed = await self._garbage.get()
                journal.note(Did.GARBAGE_SENT, fed.id)
                try:
                    async with asyncio.timeout(_GARBAGE_SECONDS):
                        if generation is None:
                            generation = Generation(self._producer_settings())
                            await generation.start()
                        await (await generation.send(_record(fed)))
                except Exception:
                    if generation is not None:
                        await generation.end(graceful=False)
                    generation = None
                else:
                    journal.note(Did.GARBAGE_ACKNOWLEDGED, fed.id)
        finally:
            if generation is not None:
                await generation.end(graceful=False)

    def _producer_settings(self) -> ProducerSettings:
        return ProducerSettings(
            self._settings.kafka(),
            self._settings.topic,
            "oddslog-torture",
            5,
            _RECORD_BYTES,
            _RECORD_BYTES,
        )


async def _watch(receipt: Receipt, journal: JournalWriter, name: BatchId) -> None:
    try:
        await receipt
    except DeliveryError:
        journal.note(Did.FAILED, name)
    else:
        journal.note(Did.ACKNOWLEDGED, name)


def _record(fed: FedBatch) -> Fragment:
    return Fragment(Kind.BETPAWA, None, garbage_key(fed.id), fed.garbage or b"", [])


def main(arguments: list[str]) -> int:
    """Run a life; returns the exit code."""
    kill_points.arm_from_environment()
    folder, seed, life, rate = arguments
    try:
        settings = read_configuration({}).settings
        configure_logs(settings.log_level or "warning")
        asyncio.run(_run(settings, Path(folder), int(seed), int(life), float(rate)))
    except OddslogError as error:
        sys.stderr.write(f"oddslog: {error}\n")
        return error.exit_code
    return 0


async def _run(settings: Settings, folder: Path, seed: int, life: int, rate: float) -> None:
    await Feeder(settings, folder, seed, life, rate).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
