"""Draining: what is in the spool goes to the brokers, in order, and is deleted then."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..schemas.backoff import backoff_seconds
from ..schemas.errors import DecodeError, InvalidRecordError
from ..schemas.kill_points import reached
from .fragments import Fragment, halves, say_more
from .producer import refused_as_too_large
from .publisher import Parcel
from .say import say
from .spool import Spool
from .spool_rows import SpooledRow, fragment_of

__all__ = ["Drainer"]

# One page is in memory, once as rows and once as fragments of the same bytes.
PAGE_BYTES = 4 * 1024 * 1024
PAGE_ROWS = 1000
DEADLINE_SECONDS = 10.0
BACKOFF_BASE_SECONDS = 0.5
BACKOFF_CAP_SECONDS = 5.0


class Publishing(Protocol):
    """What sends: the publisher."""

    async def publish(self, parcel: Parcel, deadline_seconds: float) -> None:
        """Return when all of a parcel is acknowledged."""
        ...


class Drainer:
    """Sends a spool's fragments in order, and deletes what is acknowledged. One task uses it.

    Args:
        spool: open.
        publisher: shared with the queue's sender.
        sleep: waits between tries.
        jitter: 0 to 1.

    Attributes:
        sent: fragments that were acknowledged.
        failures: tries that failed since the last one that did not.
    """

    def __init__(
        self,
        spool: Spool,
        publisher: Publishing,
        *,
        sleep: Callable[[float], Awaitable[None]],
        jitter: Callable[[], float],
    ) -> None:
        self.sent = 0
        self.failures = 0
        self._spool = spool
        self._publisher = publisher
        self._sleep = sleep
        self._jitter = jitter
        self._page: _Page | None = None  # the one under way: what is acknowledged stays so

    async def run(self) -> None:
        """Drain for ever, through outages of any length; ends by cancellation only."""
        while True:
            await self._spool.filled()
            before = self.sent
            while not self._spool.counts.empty:
                await self._try()
            say("info", "spool_drained", fragments=self.sent - before)

    async def step(self) -> None:
        """Send one page and delete it.

        Raises:
            UnreachableError: no broker answers.
            ConfigurationError: the topic is missing or compacted.
            DeliveryError: not all was acknowledged; or the disk fails.
        """
        if self._page is None:
            rows = await self._spool.page(PAGE_BYTES, PAGE_ROWS)
            if not rows:  # all is acknowledged, and could not be deleted before
                await self._spool.acknowledge()
                return
            self._page = _Page(self._spool, rows)
        page = self._page
        while page.fragments:
            try:
                await self._publisher.publish(page, DEADLINE_SECONDS)
            except Exception as error:
                await page.refused(error)
                raise
            page.sent()
        # Also where deleting it fails (a full disk): the spool does not read it again.
        self._page = None
        self.sent += page.count
        reached("ingest.before_spool_delete")
        await self._spool.acknowledge(page.last_seq)
        reached("ingest.after_spool_delete")

    async def settled(self) -> None:
        """Wait until the spool is empty, or a try to empty it has failed."""
        while not (self._spool.counts.empty or self.failures):
            await self._spool.changed()

    async def _try(self) -> None:
        try:
            await self.step()
        except Exception as error:
            self.failures += 1
            self._spool.notify()
            counts = self._spool.counts
            pause = backoff_seconds(
                self.failures,
                base=BACKOFF_BASE_SECONDS,
                cap=BACKOFF_CAP_SECONDS,
                jitter=self._jitter(),
            )
            say(
                "warning",
                "spool_drain_retry",
                spool_fragments=counts.fragments,
                spool_bytes=counts.bytes,
                attempt=self.failures,
                reason=str(error) or type(error).__name__,
                wait_seconds=round(pause, 3),
            )
            await self._sleep(pause)
        else:
            self.failures = 0


@dataclass(slots=True)
class _Member:
    row: SpooledRow
    fragment: Fragment


class _Page:
    """A page of the spool on its way; a `Parcel`.

    When the brokers find a record too large, they do not say which: from then on
    the fragments go one by one, and the one that is refused alone is rejected.
    """

    def __init__(self, spool: Spool, rows: list[SpooledRow]) -> None:
        self.last_seq = rows[-1].seq
        self.count = 0
        self._spool = spool
        self._members = [_Member(row, fragment_of(row)) for row in rows]
        self._alone = False

    @property
    def fragments(self) -> Sequence[Fragment]:
        """What is still to be sent, or just the first of it."""
        members = self._members[:1] if self._alone else self._members
        return [member.fragment for member in members]

    async def fit(self, limit_bytes: int) -> None:
        """Split what exceeds the topic's limit; reject what does alone."""
        at = 0
        while at < len(self._members):
            member = self._members[at]
            size = len(member.fragment.value)
            if size <= limit_bytes or member.fragment.acknowledged:
                at += 1
                continue
            parts = _parts(member)
            if len(parts) > 1:  # looked at again, one by one
                self._members[at : at + 1] = parts
                await asyncio.sleep(0)
            else:
                reason = f"takes {size:,} bytes, and the topic's limit is {limit_bytes:,}"
                await self._reject(member, reason)

    def sent(self) -> None:
        """Drop what is acknowledged."""
        left = [member for member in self._members if not member.fragment.acknowledged]
        self.count += len(self._members) - len(left)
        self._members = left

    async def refused(self, error: Exception) -> None:
        """Note a try that failed; reject what the brokers never take."""
        self.sent()
        if not refused_as_too_large(error.__cause__):
            return
        if self._alone and self._members:
            await self._reject(self._members[0], "the brokers refuse it as too large")
        self._alone = True

    async def _reject(self, member: _Member, reason: str) -> None:
        await self._spool.reject(member.row, reason)
        self._members.remove(member)
        for other in self._members:
            if other.row is member.row:  # a run is not complete by what is left of it
                say_more(other.fragment)


def _parts(member: _Member) -> list[_Member]:
    """Two in the place of one, or just itself where it cannot be split."""
    try:
        return [_Member(member.row, part) for part in halves(member.fragment)]
    except (DecodeError, InvalidRecordError):
        return [member]
