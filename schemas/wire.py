"""Names on the wire: topic, keys, headers. They change only with a new major version."""

from enum import StrEnum

__all__ = [
    "DEFAULT_GROUP",
    "DEFAULT_TOPIC",
    "DLQ_HEADERS",
    "HEADER_BATCH",
    "HEADER_CRC32",
    "HEADER_FRAGMENT",
    "HEADER_MORE",
    "HEADER_PRODUCER",
    "HEADER_REDRIVE_NOTE",
    "HEADER_REDRIVE_OF",
    "HEADER_RUN",
    "HEADER_SCHEMA",
    "RECORD_OVERHEAD_BYTES",
    "TRACE_HEADERS",
    "Kind",
    "record_key",
]

DEFAULT_TOPIC = "odds.writes"
DEFAULT_GROUP = "oddslog-sink"

# All header values are ASCII text, for tools that do not decode Avro.
HEADER_BATCH = "oddslog-batch"  # UUID
HEADER_FRAGMENT = "oddslog-fragment"  # "3/150", from 1
# "1" on all but the last of the parts of a fragment that was split again (for a topic
# whose limit was lowered); they are sent in order, to one partition.
HEADER_MORE = "oddslog-more"
HEADER_RUN = "oddslog-run"  # scrape_run_id, where there is one
HEADER_SCHEMA = "oddslog-schema"  # CRC-64-AVRO fingerprint, 16 hex digits
HEADER_PRODUCER = "oddslog-producer"  # "oddslog/<version>"
# CRC-32 of the value, 8 hex digits: Kafka's own checksum covers the way from the
# producer to the consumer, this one also what happened before and after it.
HEADER_CRC32 = "oddslog-crc32"
# Which dead letter a record is sent again for: "<cluster>:<topic>/<partition>/<offset>/<item>",
# and JSON about it (who, when, why, for which time). See `redrive`.
HEADER_REDRIVE_OF = "oddslog-redrive-of"
HEADER_REDRIVE_NOTE = "oddslog-redrive-note"

# Of a record in the dead-letter topic: the letter's number in its database, why it is one,
# and which record of the log it came from. What a letter does not have is left out.
DLQ_HEADERS = "oddslog-dlq-"  # id, reason, sqlstate, constraint, field, message, ...

# W3C Trace Context, where the scraper uses OpenTelemetry.
TRACE_HEADERS = ("traceparent", "tracestate")

# What ingest keeps below the topic's max.message.bytes for key, headers and the
# frame of a Kafka batch (about 400 bytes in fact; DESIGN 6.7 says 64 KiB).
RECORD_OVERHEAD_BYTES = 64 * 1024


class Kind(StrEnum):
    """The two kinds of snapshot; the value is the prefix of the record's key."""

    BETPAWA = "betpawa"
    COMPETITOR = "competitor"


def record_key(kind: Kind, event_id: int | None) -> bytes:
    """The key of a fragment; `event_id` None for confirmations by plain id."""
    text = f"ids:{kind.value}" if event_id is None else f"{kind.value}:{event_id}"
    return text.encode()
