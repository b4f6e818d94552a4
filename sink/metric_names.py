"""Every metric of the sink: its name, kind, unit, labels and meaning. Pure."""

from ..schemas.metric import Metric, MetricKind

__all__ = ["SINK_METRICS"]

_COUNTER, _GAUGE, _HISTOGRAM = MetricKind.COUNTER, MetricKind.GAUGE, MetricKind.HISTOGRAM

BUILD_INFO = Metric(
    "oddslog_build_info", _GAUGE, "1", "Always 1; the version is in the label.", ("version",)
)

# Where this member stands.
LAG_RECORDS = Metric(
    "oddslog_sink_lag_records",
    _GAUGE,
    "offsets",
    "Offsets between the ledger and the log's end, of a partition of this member.",
    ("partition",),
)
LAG_SECONDS = Metric(
    "oddslog_sink_lag_seconds",
    _GAUGE,
    "seconds",
    "Age of the oldest record of a partition that is not in the tables; 0 where all are. Exact"
    " for what is in hand, else to about five seconds.",
    ("partition",),
)
ASSIGNED_PARTITIONS = Metric(
    "oddslog_sink_assigned_partitions", _GAUGE, "partitions", "Partitions that this member has."
)
LOG_PARTITIONS = Metric(
    "oddslog_sink_log_partitions",
    _GAUGE,
    "partitions",
    "Partitions that the log has; the members together should have as many.",
)
PLACING_PARTITIONS = Metric(
    "oddslog_sink_placing_partitions",
    _GAUGE,
    "partitions",
    "Of those, partitions that wait for their position.",
)
READY = Metric("oddslog_sink_ready", _GAUGE, "1 or 0", "What /readyz says: 1 for ready.")
KAFKA_UP = Metric(
    "oddslog_sink_kafka_up", _GAUGE, "1 or 0", "Whether Kafka answered when it was last asked."
)
DATABASE_UP = Metric(
    "oddslog_sink_database_up",
    _GAUGE,
    "1 or 0",
    "Whether PostgreSQL answered when it was last asked.",
)
LAST_SUCCESS = Metric(
    "oddslog_sink_last_success_timestamp_seconds",
    _GAUGE,
    "seconds",
    "When this member last committed a transaction, in Unix time; absent before the first.",
)
RETRYING_SECONDS = Metric(
    "oddslog_sink_retrying_seconds",
    _GAUGE,
    "seconds",
    "For how long a place has failed without a success in between; 0 where all is well.",
    ("place",),
)

# What it has written since its start.
RECORDS = Metric(
    "oddslog_sink_records_total", _COUNTER, "records", "Records of the log that were written."
)
SNAPSHOTS = Metric(
    "oddslog_sink_snapshots_total", _COUNTER, "snapshots", "Snapshots that became rows."
)
MARKETS = Metric("oddslog_sink_markets_total", _COUNTER, "rows", "Market rows that were copied.")
CONFIRMATIONS = Metric(
    "oddslog_sink_confirmations_total",
    _COUNTER,
    "confirmations",
    "Confirmations that found their snapshot.",
)
KEPT_PENDING = Metric(
    "oddslog_sink_kept_pending_total",
    _COUNTER,
    "confirmations",
    "Confirmations that were kept because their snapshot is not there yet.",
)
DUPLICATES = Metric(
    "oddslog_sink_duplicates_total",
    _COUNTER,
    "snapshots",
    "Snapshots that were there already, with the same content.",
)
CONFLICTS = Metric(
    "oddslog_sink_conflicts_total",
    _COUNTER,
    "snapshots",
    "Snapshots whose key is there with other content; each is a dead letter.",
)
DEAD_LETTERS = Metric(
    "oddslog_sink_dead_letters_total",
    _COUNTER,
    "letters",
    "Dead letters (waiting ones too) that were written, by reason and cause.",
    ("reason", "cause"),
)
PUBLISHED = Metric(
    "oddslog_sink_published_letters_total",
    _COUNTER,
    "letters",
    "Dead letters that went to the dead-letter topic and are marked.",
)
UNSTABLE_IDS = Metric(
    "oddslog_sink_unstable_ids_total",
    _COUNTER,
    "ids",
    "Confirmations by plain id that could not be trusted and were left out.",
)
MISSING_IDS = Metric(
    "oddslog_sink_missing_ids_total",
    _COUNTER,
    "ids",
    "Confirmations by plain id for which there is no row.",
)
SWEEPS = Metric(
    "oddslog_sink_sweeps_total",
    _COUNTER,
    "sweeps",
    "Sweeps of pending confirmations and waiting letters that went through.",
)
SWEPT = Metric(
    "oddslog_sink_swept_total",
    _COUNTER,
    "rows",
    "What sweeps settled: pending_applied, pending_expired, waiting_written, waiting_refused,"
    " waiting_expired.",
    ("outcome",),
)

# How it went.
TRANSACTION_SECONDS = Metric(
    "oddslog_sink_transaction_seconds",
    _HISTOGRAM,
    "seconds",
    "How long a committed transaction took.",
)
COPY_SECONDS = Metric(
    "oddslog_sink_copy_seconds",
    _HISTOGRAM,
    "seconds",
    "How long the COPYs of a committed transaction took together.",
)
POLL_RECORDS = Metric(
    "oddslog_sink_poll_records", _HISTOGRAM, "records", "Records in a poll that was to be written."
)
POLL_BYTES = Metric(
    "oddslog_sink_poll_bytes",
    _HISTOGRAM,
    "bytes",
    "Bytes (keys and values) in a poll that was to be written.",
)
RETRIES = Metric(
    "oddslog_sink_retries_total",
    _COUNTER,
    "failures",
    "Failures that were tried again, by place (transaction, placing, poll, sweep, letters), error"
    " class and SQLSTATE.",
    ("place", "error", "sqlstate"),
)
HALVINGS = Metric(
    "oddslog_sink_halvings_total",
    _COUNTER,
    "polls",
    "Times a poll was too much for the database and was tried in halves.",
)
REBALANCES = Metric(
    "oddslog_sink_rebalances_total",
    _COUNTER,
    "rebalances",
    "Times the group shared out its partitions anew; joining it is the first.",
)
FENCED_RECORDS = Metric(
    "oddslog_sink_fenced_records_total",
    _COUNTER,
    "records",
    "Records that were dropped because the ledger is past them: another member wrote them.",
)
FENCED_BACKENDS = Metric(
    "oddslog_sink_fenced_backends_total",
    _COUNTER,
    "backends",
    "PostgreSQL backends of stopped members that were ended because they held locks.",
)
WENT_BACK = Metric(
    "oddslog_sink_ledger_went_back_total",
    _COUNTER,
    "partitions",
    "Times a partition's ledger was behind where it had been: a restored database.",
)
COMMIT_FAILURES = Metric(
    "oddslog_sink_offset_commit_failures_total",
    _COUNTER,
    "commits",
    "Commits of the group's offsets that failed; harmless, the ledger has the positions.",
)

# What is in the database, of all members; asked once a minute.
PENDING = Metric(
    "oddslog_sink_pending_confirmations",
    _GAUGE,
    "confirmations",
    "Confirmations that wait for their snapshot now. The same from every member.",
)
LETTERS = Metric(
    "oddslog_sink_dead_letters",
    _GAUGE,
    "letters",
    "Dead letters by status (dead, waiting) now. The same from every member.",
    ("status",),
)
LATE_RUNS = Metric(
    "oddslog_sink_late_runs",
    _GAUGE,
    "runs",
    "Scrape runs that came to a halt within the last hour, and are not whole. The same from"
    " every member.",
)

UNPUBLISHED = Metric(
    "oddslog_sink_unpublished_letters",
    _GAUGE,
    "letters",
    "Dead letters that are not in the dead-letter topic yet, where one is set. The same from"
    " every member.",
)

SINK_METRICS: tuple[Metric, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Metric)
)
