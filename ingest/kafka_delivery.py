"""One batch on its way into the topic, and where there is one through the spool."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from ..schemas.kill_points import reached
from ..schemas.wire import Kind
from .destination import RejectedPartsError
from .fragments import EncodedBatch, Fragment
from .publisher import Publisher, unacknowledged
from .say import say
from .spool import Spool
from .spool_errors import SpoolError

__all__ = ["KafkaDelivery", "SpooledDelivery"]


class KafkaDelivery:
    """A batch for the brokers alone.

    Args:
        publisher: sends it.
        encoded: its fragments.
        limit_bytes: what they were made for.
        encode: makes them anew, for another limit.
    """

    def __init__(
        self,
        publisher: Publisher,
        encoded: EncodedBatch,
        limit_bytes: int,
        encode: Callable[[int], Awaitable[EncodedBatch]],
    ) -> None:
        self._publisher = publisher
        self._encoded = encoded
        self._limit_bytes = limit_bytes
        self._encode = encode

    @property
    def fragments(self) -> Sequence[Fragment]:
        """See `Parcel.fragments`."""
        return self._encoded.fragments

    async def fit(self, limit_bytes: int) -> None:
        """Split anew, and send all, where the topic takes less than was thought."""
        if limit_bytes < self._limit_bytes and any(
            len(part.value) > limit_bytes for part in unacknowledged(self.fragments)
        ):
            self._encoded = await self._encode(limit_bytes)
        self._limit_bytes = limit_bytes

    async def attempt(self, deadline_seconds: float) -> None:
        """See `Delivery.attempt`. Brokers that refuse connections are tried until the deadline."""
        await self._publisher.publish(self, deadline_seconds)
        reached("ingest.after_ack")
        self._tell_rejected()

    def describe(self) -> dict[str, object]:
        """See `Delivery.describe`."""
        return self._described(unacknowledged(self.fragments))

    def _described(self, missing: Sequence[Fragment]) -> dict[str, object]:
        return {
            "fragments": len(self.fragments),
            "unacknowledged": len(missing),
            "unacknowledged_event_ids": _event_ids(missing, Kind.BETPAWA),
            "unacknowledged_competitor_event_ids": _event_ids(missing, Kind.COMPETITOR),
            "rejected": [str(part) for part in self._encoded.rejected],
        }

    def _tell_rejected(self) -> None:
        if self._encoded.rejected:
            raise RejectedPartsError(self._encoded.rejected)


class SpooledDelivery(KafkaDelivery):
    """A batch for the brokers, with a spool that takes it where they do not.

    Args:
        publisher: sends it.
        encoded: its fragments.
        limit_bytes: what they were made for.
        encode: makes them anew, for another limit.
        spool: open.
        spool_first: whether it always goes there first.

    Attributes:
        spooled: whether the spool has what the brokers have not.
    """

    def __init__(
        self,
        publisher: Publisher,
        encoded: EncodedBatch,
        limit_bytes: int,
        encode: Callable[[int], Awaitable[EncodedBatch]],
        *,
        spool: Spool,
        spool_first: bool,
    ) -> None:
        super().__init__(publisher, encoded, limit_bytes, encode)
        self.spooled = False
        self._spool = spool
        self._spool_first = spool_first
        self._appending: asyncio.Task[None] | None = None

    async def attempt(self, deadline_seconds: float) -> None:
        """To the brokers, or behind what is in the spool already.

        See `Delivery.attempt`. A full spool is waited for while it drains.

        Raises:
            SpoolError: the spool has no room, and holds what must be sent before.
        """
        # Nobody but the queue's one sender puts anything into the spool: empty here
        # means that all of it is acknowledged, and direct keeps the order.
        spooling = self._spool_first or self._publisher.away or not self._spool.counts.empty
        if spooling and await self._behind_the_others(deadline_seconds):
            self._tell_rejected()
        else:
            await super().attempt(deadline_seconds)

    async def spool(self) -> None:
        """Put what is not acknowledged into the spool; fsynced when it returns.

        Raises:
            RejectedError: parts of the batch never can be stored; all others are.
            SpoolFullError: there is no room; nothing of it is inside.
            SpoolError: the disk fails; nothing of it is inside.
        """
        await self._append()
        self._tell_rejected()

    def describe(self) -> dict[str, object]:
        """See `Delivery.describe`."""
        missing = [] if self.spooled else unacknowledged(self.fragments)
        return {**self._described(missing), "spooled": self.spooled}

    async def _behind_the_others(self, deadline_seconds: float) -> bool:
        """Whether the spool has taken it; False where it cannot and need not.

        The deadline is for the wait for room: a disk that is slow is no failure.
        """
        deadline = asyncio.get_running_loop().time() + deadline_seconds
        while True:
            try:
                await self._append()
            except SpoolError as failure:
                if not self._spool.counts.unsent:
                    # All inside is acknowledged: direct keeps the order too.
                    say("warning", "spool_passed_by", reason=str(failure))
                    return False
                try:
                    async with asyncio.timeout_at(deadline):
                        await self._spool.changed()
                except TimeoutError:
                    raise failure from None
            else:
                return True

    async def _append(self) -> None:
        """Append once, however often the wait for it is cancelled."""
        if self._appending is None or _has_failed(self._appending):
            self._appending = asyncio.create_task(self._put(), name="oddslog-spool-append")
        await asyncio.shield(self._appending)

    async def _put(self) -> None:
        await self.fit(self._publisher.limit_bytes)
        missing = unacknowledged(self.fragments)
        if not missing:
            return
        reached("ingest.before_spool")
        await self._spool.append(missing)
        reached("ingest.after_spool")
        self.spooled = True


def _has_failed(task: "asyncio.Task[None]") -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _event_ids(fragments: Sequence[Fragment], kind: Kind) -> list[int]:
    return sorted(
        {part.event_id for part in fragments if part.kind is kind and part.event_id is not None}
    )
