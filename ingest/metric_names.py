"""Every metric of the write queue: its name, kind, unit, labels and meaning. Pure.

They show up in the scraper's own registry, where prometheus-client is installed. The
label `queue` tells the queues of one process apart: its name, or a number.
"""

from ..schemas.metric import Metric, MetricKind

__all__ = ["INGEST_METRICS"]

_COUNTER, _GAUGE, _HISTOGRAM = MetricKind.COUNTER, MetricKind.GAUGE, MetricKind.HISTOGRAM
_QUEUE = ("queue",)

RUNNING = Metric(
    "oddslog_ingest_running", _GAUGE, "1 or 0", "Whether the queue takes batches.", _QUEUE
)
QUEUE_BATCHES = Metric(
    "oddslog_ingest_queue_batches",
    _GAUGE,
    "batches",
    "Batches that were enqueued and are not stored yet.",
    _QUEUE,
)
QUEUE_BATCHES_LIMIT = Metric(
    "oddslog_ingest_queue_batches_limit",
    _GAUGE,
    "batches",
    "So many of them may be there; then enqueue waits.",
    _QUEUE,
)
QUEUE_BYTES = Metric(
    "oddslog_ingest_queue_bytes",
    _GAUGE,
    "bytes",
    "Their estimated encoded size.",
    _QUEUE,
)
QUEUE_BYTES_LIMIT = Metric(
    "oddslog_ingest_queue_bytes_limit",
    _GAUGE,
    "bytes",
    "So much of it may be there; then enqueue waits.",
    _QUEUE,
)
WAITING = Metric(
    "oddslog_ingest_waiting_enqueues",
    _GAUGE,
    "calls",
    "Calls of enqueue that wait for room now.",
    _QUEUE,
)
ENQUEUED = Metric(
    "oddslog_ingest_batches_enqueued_total",
    _COUNTER,
    "batches",
    "Batches that the queue took.",
    _QUEUE,
)
WRITTEN = Metric(
    "oddslog_ingest_batches_written_total",
    _COUNTER,
    "batches",
    "Batches that the destination acknowledged.",
    _QUEUE,
)
SPOOLED = Metric(
    "oddslog_ingest_batches_spooled_total",
    _COUNTER,
    "batches",
    "Batches that went into the spool, and from there to the destination.",
    _QUEUE,
)
FAILED = Metric(
    "oddslog_ingest_batches_failed_total",
    _COUNTER,
    "batches",
    "Batches that were not stored, whole or in part; the log has each in full.",
    _QUEUE,
)
RETRIES = Metric(
    "oddslog_ingest_retries_total",
    _COUNTER,
    "attempts",
    "Attempts at a batch that failed and were followed by another.",
    _QUEUE,
)
DROPPED_IDS = Metric(
    "oddslog_ingest_dropped_ids_total",
    _COUNTER,
    "ids",
    "Plain ids below 1, which confirm nothing.",
    _QUEUE,
)
WRITE_SECONDS = Metric(
    "oddslog_ingest_write_seconds",
    _HISTOGRAM,
    "seconds",
    "How long a batch took from its first attempt until it was stored.",
    _QUEUE,
)
GENERATIONS = Metric(
    "oddslog_ingest_producer_generations_total",
    _COUNTER,
    "producers",
    "Kafka producers that were started; more than one tells of trouble.",
    _QUEUE,
)
SPOOL_FRAGMENTS = Metric(
    "oddslog_ingest_spool_fragments",
    _GAUGE,
    "fragments",
    "Fragments in the spool that are still to be sent.",
    _QUEUE,
)
SPOOL_BYTES = Metric(
    "oddslog_ingest_spool_bytes", _GAUGE, "bytes", "What they take in the spool.", _QUEUE
)
SPOOL_BYTES_LIMIT = Metric(
    "oddslog_ingest_spool_bytes_limit",
    _GAUGE,
    "bytes",
    "So much of it may be there; then batches fail. 0 without a spool.",
    _QUEUE,
)
SPOOL_REJECTED = Metric(
    "oddslog_ingest_spool_rejected_fragments",
    _GAUGE,
    "fragments",
    "Fragments in the spool that Kafka can never take; see: oddslog spool status",
    _QUEUE,
)

INGEST_METRICS: tuple[Metric, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Metric)
)
