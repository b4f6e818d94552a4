"""A topic of single rows for the other programs, by librdkafka, which comes with them."""
# ruff: noqa: PLC0415 - of the extra `peers`: loaded when it is needed

from collections.abc import Iterable, Mapping

__all__ = ["Row", "feed_rows"]

Row = tuple[bytes, bytes]
"""A key and a value."""

_FLUSH_SECONDS = 60.0


def feed_rows(kafka: Mapping[str, str], topic: str, rows: Iterable[Row]) -> None:
    """Put rows into a topic, acknowledged. Blocks.

    Raises:
        RuntimeError: some were not acknowledged within a minute.
    """
    from confluent_kafka import Producer

    producer = Producer({**kafka, "compression.type": "zstd", "linger.ms": 20})
    for key, value in rows:
        while True:
            try:
                producer.produce(topic, value, key)
                break
            except BufferError:  # its queue is full
                producer.poll(0.1)
    left = producer.flush(_FLUSH_SECONDS)
    if left:
        raise RuntimeError(f"{left} rows of topic {topic} were not acknowledged")
