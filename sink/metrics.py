"""The sink's metrics for Prometheus, made of what was counted anyway, when they are asked for."""

import time
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder

from ..schemas.metric import Buckets, Metric, MetricKind
from ..schemas.version import VERSION
from . import metric_names as names
from .health import unreadiness
from .observed import PLACES
from .service import Sink

__all__ = ["SinkCollector", "exposition"]

Samples = Sequence[tuple[Sequence[str], float]]

_TOTALS = {
    names.RECORDS: "records",
    names.SNAPSHOTS: "snapshots",
    names.MARKETS: "markets",
    names.CONFIRMATIONS: "confirmations",
    names.KEPT_PENDING: "pending",
    names.DUPLICATES: "duplicates",
    names.CONFLICTS: "conflicts",
    names.PUBLISHED: "published",
    names.UNSTABLE_IDS: "unstable_ids",
    names.MISSING_IDS: "missing_ids",
    names.SWEEPS: "sweeps",
    names.HALVINGS: "halvings",
    names.REBALANCES: "rebalances",
    names.FENCED_RECORDS: "fenced",
    names.FENCED_BACKENDS: "fenced_backends",
    names.WENT_BACK: "went_back",
    names.COMMIT_FAILURES: "offset_commit_failures",
}


def exposition(sink: Sink | None, accept: str) -> tuple[bytes, str]:
    """All metrics in the format that `accept` asks for, and its content type.

    Before there is a sink, only what says that the process runs. Needs no event loop.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(SinkCollector(sink))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class SinkCollector:
    """Reads a sink's counts; may be asked from any thread, at any moment."""

    def __init__(self, sink: Sink | None) -> None:
        self._sink = sink

    def collect(self) -> Iterator[Family]:
        """The families, each with its samples."""
        yield _family(names.BUILD_INFO, [((VERSION,), 1.0)])
        if self._sink is None:
            return
        yield from _standing(self._sink)
        yield from _counted(self._sink)
        yield from _in_database(self._sink)


def _standing(sink: Sink) -> Iterator[Family]:
    watcher, standing, now = sink.watcher, sink.standing(), time.monotonic()
    views, wall = watcher.views, time.time()
    lags = [(view, view.lag_records) for view in views]
    yield _family(
        names.LAG_RECORDS,
        [((str(view.number),), float(lag)) for view, lag in lags if lag is not None],
    )
    yield _family(
        names.LAG_SECONDS,
        [
            ((str(view.number),), max(0.0, wall - (view.oldest_at or wall)))
            for view, lag in lags
            if lag == 0 or view.oldest_at is not None
        ],
    )
    yield _family(names.ASSIGNED_PARTITIONS, _plain(standing.assigned))
    log_partitions = watcher.log_partitions
    yield _family(names.LOG_PARTITIONS, [] if log_partitions is None else _plain(log_partitions))
    yield _family(names.PLACING_PARTITIONS, _plain(standing.placing))
    yield _family(names.READY, _plain(not unreadiness(standing, watcher.database, now)))
    yield _family(names.KAFKA_UP, _plain(watcher.kafka.problem(now) is None))
    yield _family(names.DATABASE_UP, _plain(watcher.database.problem(now) is None))
    troubles = standing.troubles
    yield _family(
        names.RETRYING_SECONDS,
        [((place,), now - troubles[place].since if place in troubles else 0.0) for place in PLACES],
    )


def _counted(sink: Sink) -> Iterator[Family]:
    totals, observed = sink.totals, sink.totals.observed
    for metric, name in _TOTALS.items():
        yield _family(metric, _plain(getattr(totals, name)))
    yield _family(names.DEAD_LETTERS, _labelled(observed.letters))
    yield _family(names.RETRIES, _labelled(observed.retries))
    yield _family(
        names.SWEPT, [((outcome,), float(n)) for outcome, n in dict(observed.swept).items()]
    )
    yield _histogram(names.TRANSACTION_SECONDS, observed.transaction_seconds)
    yield _histogram(names.COPY_SECONDS, observed.copy_seconds)
    yield _histogram(names.POLL_RECORDS, observed.poll_records)
    yield _histogram(names.POLL_BYTES, observed.poll_bytes)
    last = observed.last_success
    yield _family(names.LAST_SUCCESS, [] if last is None else _plain(last))


def _in_database(sink: Sink) -> Iterator[Family]:
    pending = sink.watcher.pending
    yield _family(names.PENDING, [] if pending is None else _plain(pending))
    letters = sink.watcher.letters
    yield _family(names.LETTERS, [((status,), float(n)) for status, n in letters.items()])
    unpublished = sink.watcher.unpublished if sink.publishes else None
    yield _family(names.UNPUBLISHED, [] if unpublished is None else _plain(unpublished))
    late_runs = sink.watcher.late_runs
    yield _family(names.LATE_RUNS, [] if late_runs is None else _plain(late_runs))


def _plain(value: float) -> Samples:
    return [((), float(value))]


def _labelled(counter: Mapping[tuple[str, ...], int]) -> Samples:
    # A copy first: the loop's thread may add to it meanwhile.
    return [(labels, float(count)) for labels, count in dict(counter).items()]


def _family(metric: Metric, samples: Samples) -> Family:
    make = CounterMetricFamily if metric.kind is MetricKind.COUNTER else GaugeMetricFamily
    family = make(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


def _histogram(metric: Metric, buckets: Buckets) -> Family:
    ends = buckets.cumulative()
    return HistogramMetricFamily(metric.name, metric.help, buckets=ends, sum_value=buckets.sum)
