"""The dual run: oddslog gets what the old writer gets, and cannot harm it."""

import asyncio

import structlog

from oddslog.ingest import AsyncWriteQueue, Receipt
from oddslog.schemas import WriteBatch
from oddslog.schemas.errors import OddslogError

log = structlog.get_logger("scraper")


class Beside:
    """Hands batches over without ever holding up or failing its caller.

    For the dual run alone: a batch that finds no room is left out, and counted. After
    the cut-over the plain `enqueue` waits instead.

    Attributes:
        left_out: batches that the new tables will lack; 0 before the cut-over is tried.
    """

    def __init__(self, queue: AsyncWriteQueue, *, patience_seconds: float = 1.0) -> None:
        self._queue = queue
        self._patience_seconds = patience_seconds
        self.left_out = 0

    async def offer(self, batch: WriteBatch) -> Receipt | None:
        """Enqueue within the patience; None where the batch was left out.

        Write `receipt.batch` with the old writer, so that both have the same times.
        """
        try:
            async with asyncio.timeout(self._patience_seconds):
                return await self._queue.enqueue(batch)
        except (TimeoutError, OddslogError) as error:
            # Cancelled while it waited for room: nothing was enqueued.
            self.left_out += 1
            log.warning("batch_left_out", batch_index=batch.batch_index, reason=repr(error))
            return None
