"""The normal destination: a batch as fragments in a Kafka topic."""

import asyncio
from pathlib import Path
from random import random
from typing import Literal

from ..schemas.connection import KafkaConnection
from ..schemas.errors import ConfigurationError, DeliveryError
from ..schemas.records import WriteBatch
from ..schemas.version import VERSION
from ..schemas.wire import DEFAULT_TOPIC
from .destination import SPOOL_STATS, Delivery
from .fragments import EncodedBatch, encode_batch
from .kafka_delivery import KafkaDelivery, SpooledDelivery
from .publisher import Publisher
from .say import say
from .spool import DEFAULT_SPOOL_BYTES, Spool
from .spool_drain import Drainer
from .tracing import Headers, carried

__all__ = ["Durability", "KafkaDestination"]

Durability = Literal["ack", "spool"]

# Sequence numbers of a producer break after 2**31 records on one partition.
ROTATE_RECORDS = 2**30
# What a spool that is being drained gets at the end; what is left stays on the disk.
SETTLE_SECONDS = 3.0


class KafkaDestination:
    """Writes batches into a topic, acknowledged by `min.insync.replicas` brokers.

    Used by one queue. What a generation of the producer does not acknowledge is
    sent again by the next one: a record may so be twice in the topic, never not
    at all once its batch's attempt has returned.

    With a spool, batches that the brokers do not take are kept on the local disk,
    and sent in order when they do. What an earlier process left there goes first.

    Args:
        connection: or just the bootstrap servers, for plaintext.
        topic: must exist; it is never created.
        linger_ms: how long records wait to share a request.
        raw_response: False leaves raw responses out (`ODDSLOG_RAW_RESPONSE=none`).
        client_id: seen in the brokers' logs and quotas.
        rotate_records: a producer is replaced after so many records.
        spool_dir: the spool's folder, of this process alone; None for no spool.
        spool_bytes: what the spool may hold.
        durability: `ack` sends at once, `spool` writes every batch to the spool
            first, and its receipt resolves then.

    Raises:
        ConfigurationError: no topic, or a spool that is asked for and not given.
    """

    def __init__(
        self,
        connection: KafkaConnection | str,
        *,
        topic: str = DEFAULT_TOPIC,
        linger_ms: int = 5,
        raw_response: bool = True,
        client_id: str = "oddslog-ingest",
        rotate_records: int = ROTATE_RECORDS,
        spool_dir: str | Path | None = None,
        spool_bytes: int = DEFAULT_SPOOL_BYTES,
        durability: Durability = "ack",
    ) -> None:
        if isinstance(connection, str):
            connection = KafkaConnection(bootstrap_servers=connection)
        if not topic:
            raise ConfigurationError("the topic's name is empty")
        if durability not in ("ack", "spool"):
            raise ConfigurationError(f"durability must be ack or spool, not {durability!r}")
        if durability == "spool" and spool_dir is None:
            raise ConfigurationError("durability spool needs a folder: spool_dir")
        self._servers = connection.bootstrap_servers
        self._plain_text_hosts = connection.plain_text_hosts()
        self._topic = topic
        self._raw_response = raw_response
        self._spool_first = durability == "spool"
        self._spool = None if spool_dir is None else Spool(spool_dir, spool_bytes)
        self._producer_name = f"oddslog/{VERSION}"
        self._publisher = Publisher(
            connection,
            topic,
            linger_ms=linger_ms,
            client_id=client_id,
            rotate_records=rotate_records,
        )
        self._drainer: Drainer | None = None
        self._draining: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the spool and look at the topic, for at most some seconds. Sends nothing.

        Brokers that are away are logged, not raised: batches wait in the queue, or
        go to the spool, and the topic is looked at before the first one is sent.

        Raises:
            ConfigurationError: the topic is missing or compacted, the settings are
                wrong, or another process has the spool.
            SpoolError: the spool's disk fails.
        """
        if self._plain_text_hosts:
            say(
                "warning",
                "password_in_plain_text",
                server="Kafka",
                hosts=self._plain_text_hosts,
                do="use security protocol SASL_SSL",
            )
        spool = self._spool
        if spool is None:
            await self._publisher.start()
            return
        await spool.open()
        try:
            await self._publisher.start()
        except BaseException:
            await spool.close()
            raise
        if self._draining is None:
            self._drainer = Drainer(spool, self._publisher, sleep=asyncio.sleep, jitter=random)
            self._draining = asyncio.create_task(self._drainer.run(), name="oddslog-spool-drain")
            self._draining.add_done_callback(self._draining_ended)
        if not spool.counts.empty:
            say("warning", "spool_left_over", **self.stats())

    async def stop(self) -> None:
        """End drainer and producer, close the spool; bounded, and harmless a second time.

        What an attempt has not returned for may or may not be in the topic. What is
        in the spool stays there for the next start.
        """
        try:
            await self.settle(SETTLE_SECONDS)
            draining, self._draining = self._draining, None
            if draining is not None:
                draining.cancel()
                await asyncio.wait({draining})
            await self._publisher.stop()
        finally:
            if self._spool is not None:
                await self._spool.close()

    async def prepare(self, batch: WriteBatch) -> Delivery:
        """Encode a stamped batch; yields to the loop every few milliseconds.

        Raises:
            DeliveryError: the spool's drainer has died; nothing would leave the spool.
        """
        draining = self._draining
        if draining is not None and draining.done():
            raise DeliveryError("the spool's drainer has died; start the queue anew")

        trace = carried()  # now: what is encoded again later runs elsewhere

        async def encode(limit_bytes: int) -> EncodedBatch:
            return await self._encoded(batch, limit_bytes, trace)

        limit = self._publisher.limit_bytes
        encoded = await encode(limit)
        if self._spool is None:
            return KafkaDelivery(self._publisher, encoded, limit, encode)
        return SpooledDelivery(
            self._publisher,
            encoded,
            limit,
            encode,
            spool=self._spool,
            spool_first=self._spool_first,
        )

    async def settle(self, deadline_seconds: float) -> None:
        """Wait until the brokers have all that was spooled, as long as it goes well.

        Returns as soon as a try to send it fails, or the drainer dies, and at the
        deadline; at once while no broker has been seen.
        """
        draining = self._draining
        if self._drainer is None or draining is None or self._publisher.away:
            return
        settled = asyncio.create_task(self._drainer.settled(), name="oddslog-spool-settle")
        try:
            await asyncio.wait(
                {settled, draining},
                timeout=deadline_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            settled.cancel()

    def stats(self) -> dict[str, int]:
        """What the spool holds; zeros where there is none. Never blocks."""
        if self._spool is None:
            return dict.fromkeys(SPOOL_STATS, 0)
        counts = self._spool.counts
        return {
            "spool_fragments": counts.fragments,
            "spool_bytes": counts.bytes,
            "spool_max_bytes": self._spool.max_bytes,
            "spool_rejected": counts.rejected,
        }

    def __repr__(self) -> str:
        spool = "" if self._spool is None else f", {self._spool!r}"
        return (
            f"<KafkaDestination topic {self._topic!r} at {self._servers}, "
            f"{self.generations} producer generation(s){spool}>"
        )

    @property
    def generations(self) -> int:
        """How many producers there have been; more than one tells of trouble."""
        return self._publisher.generations

    async def _encoded(self, batch: WriteBatch, limit_bytes: int, trace: Headers) -> EncodedBatch:
        encoded = await encode_batch(
            batch,
            limit_bytes=limit_bytes,
            raw_response=self._raw_response,
            producer_name=self._producer_name,
            trace=trace,
        )
        if encoded.replaced:
            say(
                "warning",
                "write_batch_characters_replaced",
                batch_index=batch.batch_index,
                characters=encoded.replaced,
            )
        return encoded

    def _draining_ended(self, task: "asyncio.Task[None]") -> None:
        """The drainer ends when `stop` lets go of it; any other end must be seen."""
        reason = "cancelled" if task.cancelled() else repr(task.exception())
        if task is self._draining:
            say("error", "spool_drain_died", reason=reason)
