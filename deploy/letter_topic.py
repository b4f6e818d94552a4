"""The dead-letter topic: where the sink's outbox sends what is dead."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from ..ingest.fragments import Fragment
from ..ingest.kafka_destination import ROTATE_RECORDS
from ..ingest.publisher import Publisher
from ..schemas.wire import Kind
from ..sink.letter_records import LetterRecord, fitted
from .settings import Settings

__all__ = ["SendingLetters", "open_letter_topic"]

# Far above what a page takes; so long the database's turn is held in an outage.
_SEND_SECONDS = 10.0


@dataclass
class _Parcel:
    """The letters as the topic takes them."""

    records: Sequence[LetterRecord]
    fragments: list[Fragment] = field(default_factory=list)

    async def fit(self, limit_bytes: int) -> None:
        """Leave out what is too large; those that are acknowledged stay so."""
        before = self.fragments
        self.fragments = [_fragment(fitted(record, limit_bytes)) for record in self.records]
        for old, new in zip(before, self.fragments, strict=False):
            new.acknowledged = old.acknowledged


class SendingLetters:
    """Sends to one topic; owns its producer, and makes a new one after any failure."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def send(self, records: Sequence[LetterRecord]) -> None:
        """See `sink.outbox.LetterTopic`."""
        parcel = _Parcel(records)
        try:
            await self._publisher.publish(parcel, _SEND_SECONDS)
        finally:
            for record, fragment in zip(records, parcel.fragments, strict=False):
                record.acknowledged = fragment.acknowledged


@asynccontextmanager
async def open_letter_topic(settings: Settings) -> AsyncIterator[SendingLetters | None]:
    """The dead-letter topic, where one is set; its producer is ended with the block.

    Asks nobody yet: a topic that is missing or a Kafka that is away does not keep the
    sink from its work, and is tried again with the letters.
    """
    if settings.dead_letter_topic is None:
        yield None
        return
    publisher = Publisher(
        # The bytes of a letter go as they came: nothing of them is registered.
        replace(settings.kafka(), schema_registry_url=None),
        settings.dead_letter_topic,
        linger_ms=5,
        client_id="oddslog-letters",
        rotate_records=ROTATE_RECORDS,
    )
    try:
        yield SendingLetters(publisher)
    finally:
        await publisher.stop()


def _fragment(record: LetterRecord) -> Fragment:
    # The kind is for log lines only.
    return Fragment(Kind.BETPAWA, None, record.key, record.value, record.headers)
