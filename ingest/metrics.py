"""The queues' metrics in the scraper's own registry, where prometheus-client is installed.

Made of what is counted anyway, when somebody asks. A scraper without the library, or
with its own trouble in the registry, never hears of it.
"""

import asyncio
import importlib
import importlib.util
import itertools
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ..schemas.metric import Buckets, Metric, MetricKind
from . import metric_names as names
from .say import say

__all__ = ["Measured", "load_prometheus", "unwatch", "watch"]

_LIBRARY = "prometheus_client"

# Which of `stats` is which metric.
_STATS = {
    names.RUNNING: "running",
    names.QUEUE_BATCHES: "queue_size",
    names.QUEUE_BATCHES_LIMIT: "queue_maxsize",
    names.QUEUE_BYTES: "queue_bytes",
    names.QUEUE_BYTES_LIMIT: "queue_max_bytes",
    names.WAITING: "waiting",
    names.ENQUEUED: "enqueued",
    names.WRITTEN: "written",
    names.SPOOLED: "spooled",
    names.FAILED: "failed",
    names.RETRIES: "retries",
    names.DROPPED_IDS: "dropped_ids",
    names.SPOOL_FRAGMENTS: "spool_fragments",
    names.SPOOL_BYTES: "spool_bytes",
    names.SPOOL_BYTES_LIMIT: "spool_max_bytes",
    names.SPOOL_REJECTED: "spool_rejected",
}


class Measured(Protocol):
    """What is asked of a queue; from any thread."""

    def stats(self) -> Mapping[str, Any]:
        """Plain numbers by name."""
        ...

    def write_seconds(self) -> Buckets:
        """How long batches took."""
        ...

    def generations(self) -> int:
        """How many producers there have been."""
        ...


async def load_prometheus() -> None:
    """Import the library where it is installed; not on the loop's thread, which it would stop."""
    if _loaded():
        return
    try:
        if importlib.util.find_spec(_LIBRARY) is None:
            return
        await asyncio.to_thread(importlib.import_module, f"{_LIBRARY}.core")
    except Exception as error:
        say("warning", "metrics_unavailable", reason=repr(error))


def watch(queue: Measured, name: str | None) -> None:
    """Show a queue's metrics from now on. Never raises, and does nothing without the library.

    Args:
        queue: held weakly: one that is dropped without a stop is shown no more.
        name: its label; None, or one that a running queue has, is made one of its own.
    """
    if not _loaded():
        return
    try:
        _collector.add(queue, name)
    except Exception as error:
        say("warning", "metrics_unavailable", reason=repr(error))


def unwatch(queue: Measured) -> None:
    """Show a queue's metrics no more. Never raises; fine for one that is not shown."""
    try:
        _collector.remove(queue)
    except Exception as error:
        say("warning", "metrics_unavailable", reason=repr(error))


class _QueueCollector:
    """All running queues of the process; registered while there is one."""

    def __init__(self) -> None:
        self._queues: weakref.WeakValueDictionary[str, Measured] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()  # queues may live in loops of several threads
        self._registered = False

    def add(self, queue: Measured, name: str | None) -> None:
        """Show the queue; again and again is fine.

        Raises:
            ValueError: the registry has metrics of these names from somebody else.
        """
        with self._lock:
            if any(shown is queue for shown in self._queues.values()):
                return
            self._queues[self._label(name)] = queue
            if not self._registered:
                _registry().register(self)
                self._registered = True

    def remove(self, queue: Measured) -> None:
        """Show the queue no more."""
        with self._lock:
            for label, shown in list(self._queues.items()):
                if shown is queue:
                    del self._queues[label]
            if self._registered and not self._queues:
                _registry().unregister(self)
                self._registered = False

    def _label(self, name: str | None) -> str:
        stem = name or "1"
        if stem not in self._queues:
            return stem
        numbers = itertools.count(2)
        return next(
            label
            for n in numbers
            if (label := f"{name}-{n}" if name else str(n)) not in self._queues
        )

    def describe(self) -> Iterator[Any]:
        """The families without their samples: what the registry checks for doubles."""
        for metric in names.INGEST_METRICS:
            yield _family(metric)

    def collect(self) -> Iterator[Any]:
        """The families with a sample of each queue; one that fails to answer is left out."""
        with self._lock:
            queues = sorted(self._queues.items())
        samples = [sample for label, queue in queues if (sample := _sample(label, queue))]
        for metric in _STATS:
            family = _family(metric)
            for sample in samples:
                family.add_metric([sample.label], sample.numbers[metric])
            yield family
        generations, seconds = _family(names.GENERATIONS), _family(names.WRITE_SECONDS)
        for sample in samples:
            generations.add_metric([sample.label], sample.generations)
            buckets = sample.seconds
            seconds.add_metric([sample.label], buckets=buckets.cumulative(), sum_value=buckets.sum)
        yield generations
        yield seconds


@dataclass(frozen=True)
class _Sample:
    """What one queue answered."""

    label: str
    numbers: Mapping[Metric, float]
    generations: float
    seconds: Buckets


def _sample(label: str, queue: Measured) -> _Sample | None:
    """Never raises: the registry's other metrics are the scraper's own."""
    try:
        stats = queue.stats()
        numbers = {metric: float(stats[key]) for metric, key in _STATS.items()}
        return _Sample(label, numbers, float(queue.generations()), queue.write_seconds())
    except Exception as error:
        say("warning", "metrics_unavailable", queue=label, reason=repr(error))
        return None


_collector = _QueueCollector()


def _loaded() -> bool:
    return sys.modules.get(_LIBRARY) is not None


def _registry() -> Any:
    return importlib.import_module(_LIBRARY).REGISTRY


def _family(metric: Metric) -> Any:
    core = importlib.import_module(f"{_LIBRARY}.core")
    kinds = {
        MetricKind.COUNTER: core.CounterMetricFamily,
        MetricKind.GAUGE: core.GaugeMetricFamily,
        MetricKind.HISTOGRAM: core.HistogramMetricFamily,
    }
    return kinds[metric.kind](metric.name, metric.help, labels=metric.labels)
