"""A destination that keeps batches in memory: for a scraper's own tests."""

import asyncio
from dataclasses import replace

from ..schemas.records import WriteBatch
from .destination import Delivery, RejectedPart, RejectedPartsError
from .fragments import encode_snapshots
from .pacing import Pacer

__all__ = ["MemoryDestination"]


class MemoryDestination:
    """Keeps stamped batches in `batches`, in order.

    It refuses what Kafka would refuse: a snapshot whose documents are no JSON
    is left out, and the receipt raises.

    Attributes:
        batches: what has been stored, without refused snapshots.
        attempts: how often storing was tried.
        fail_times: so many attempts fail before one succeeds; may be changed.
        gate: attempts wait until it is set; it is set at first.
    """

    def __init__(self, *, fail_times: int = 0, error: Exception | None = None) -> None:
        self.batches: list[WriteBatch] = []
        self.attempts = 0
        self.fail_times = fail_times
        self.gate = asyncio.Event()
        self.gate.set()
        self._error = error if error is not None else ConnectionError("the destination is away")

    async def start(self) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to do; `batches` stays readable."""

    async def prepare(self, batch: WriteBatch) -> Delivery:
        """Encode as Kafka would, and keep what can be encoded."""
        _, rejected = await encode_snapshots(batch, Pacer(), raw_response=True)
        return _MemoryDelivery(self, _without(batch, rejected), rejected)

    def __repr__(self) -> str:
        return f"<MemoryDestination {len(self.batches)} batches>"


class _MemoryDelivery:
    """A batch on its way into the list."""

    def __init__(
        self, destination: MemoryDestination, batch: WriteBatch, rejected: list[RejectedPart]
    ) -> None:
        self._destination = destination
        self._batch = batch
        self._rejected = rejected
        self._stored = False

    async def attempt(self, deadline_seconds: float) -> None:
        destination = self._destination
        destination.attempts += 1
        async with asyncio.timeout(deadline_seconds):
            await destination.gate.wait()
        if destination.fail_times > 0:
            destination.fail_times -= 1
            raise destination._error  # noqa: SLF001 - one module, one thing
        destination.batches.append(self._batch)
        self._stored = True
        if self._rejected:
            raise RejectedPartsError(self._rejected)

    def describe(self) -> dict[str, object]:
        return {"unacknowledged": 0 if self._stored else 1}


def _without(batch: WriteBatch, rejected: list[RejectedPart]) -> WriteBatch:
    if not rejected:
        return batch
    bad = {(part.kind.value, part.event_id, part.captured_at) for part in rejected}
    return replace(
        batch,
        changed_betpawa=tuple(
            member
            for member in batch.changed_betpawa
            if ("betpawa", member.event_id, member.captured_at) not in bad
        ),
        changed_competitor=tuple(
            member
            for member in batch.changed_competitor
            if ("competitor", member.competitor_event_id, member.captured_at) not in bad
        ),
    )
