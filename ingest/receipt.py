"""The receipt of a batch: what `enqueue` gives back."""

import asyncio
from collections.abc import Generator

from ..schemas.errors import DeliveryError
from ..schemas.records import WriteBatch

__all__ = ["Receipt"]


class Receipt:
    """Says when a batch is stored; may be awaited many times, or never.

    `await receipt` returns None once the batch is held as the destination
    promises (Kafka: by `min.insync.replicas` brokers, or fsynced in the spool).

    Attributes:
        batch: the batch with every time stamped: what the caller's cache should
            know, and the thing to enqueue again after a failed receipt.
    """

    def __init__(self, batch: WriteBatch) -> None:
        self.batch = batch
        self._future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __await__(self) -> Generator[object, None, None]:
        """Wait for the end of the batch.

        A cancelled waiter changes nothing for the batch or for other waiters.

        Raises:
            RejectedError: parts of the batch never can be stored; all others are.
            DeliveryError: the batch, or a part of it, is not stored. It has been
                logged in full; enqueue `batch` again.
        """
        return asyncio.shield(self._future).__await__()

    def done(self) -> bool:
        """Whether the batch is stored or has failed."""
        return self._future.done()

    def __repr__(self) -> str:
        return f"<Receipt of batch {self.batch.batch_index}: {self._state()}>"

    def _state(self) -> str:
        if not self._future.done():
            return "on its way"
        error = self._future.exception()
        return "stored" if error is None else f"failed: {error}"

    def _resolve(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    def _fail(self, error: DeliveryError) -> None:
        if not self._future.done():
            self._future.set_exception(error)
            # Looked at once: the failure is logged by the queue, so asyncio need
            # not complain where the caller never awaits.
            self._future.exception()
