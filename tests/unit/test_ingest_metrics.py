"""The write queue in the scraper's registry: by itself, for every queue, never in the way."""

import subprocess
import sys
import threading
from typing import Any

import prometheus_client
import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Gauge, generate_latest
from structlog.testing import capture_logs

from oddslog.ingest import AsyncWriteQueue, MemoryDestination
from oddslog.ingest.metric_names import INGEST_METRICS
from oddslog.ingest.metrics import _collector
from tests.unit.test_ingest_builders import small


def value(name: str, queue: str = "1") -> float | None:
    """A sample of the process's registry."""
    return REGISTRY.get_sample_value(name, {"queue": queue})


async def test_a_running_queue_is_in_the_registry() -> None:
    """From start to stop, with what it has done."""
    destination = MemoryDestination()
    queue = AsyncWriteQueue(destination)
    assert value("oddslog_ingest_running") is None
    async with queue:
        for index in range(3):
            await (await queue.enqueue(small(index)))
        destination.gate.clear()
        await queue.enqueue(small(3))
        assert value("oddslog_ingest_running") == 1
        assert value("oddslog_ingest_batches_enqueued_total") == 4
        assert value("oddslog_ingest_batches_written_total") == 3
        assert value("oddslog_ingest_write_seconds_count") == 3
        assert value("oddslog_ingest_queue_batches") == 1
        assert (value("oddslog_ingest_queue_bytes") or 0) > 0
        assert value("oddslog_ingest_queue_batches_limit") == 50
        assert value("oddslog_ingest_spool_bytes") == 0
        destination.gate.set()
    assert value("oddslog_ingest_running") is None


async def test_all_that_is_described_is_there() -> None:
    """And nothing else of ours."""
    async with AsyncWriteQueue(MemoryDestination()):
        found = {family.name for family in REGISTRY.collect() if "oddslog_" in family.name}
        assert found == {metric.name.removesuffix("_total") for metric in INGEST_METRICS}
        assert b"oddslog_ingest_queue_batches_limit" in generate_latest(REGISTRY)


async def test_several_queues_are_told_apart() -> None:
    """By a name of their own, or a number; two of one name too."""
    queues = [
        AsyncWriteQueue(MemoryDestination(), name=name) for name in (None, None, "odds", "odds")
    ]
    for queue in queues:
        await queue.start()
        await queue.start()  # harmless
    await queues[3].enqueue(small(0))
    labels = ("1", "2", "odds", "odds-2")
    assert [value("oddslog_ingest_running", label) for label in labels] == [1] * 4
    assert [value("oddslog_ingest_batches_enqueued_total", label) for label in labels] == [
        0,
        0,
        0,
        1,
    ]
    await queues[0].stop()
    assert [value("oddslog_ingest_running", label) for label in labels] == [None, 1, 1, 1]
    await queues[0].start()
    assert value("oddslog_ingest_running", "1") == 1
    for queue in queues:
        await queue.stop()
    assert [value("oddslog_ingest_running", label) for label in labels] == [None] * 4


async def test_a_queue_that_is_dropped_is_shown_no_more() -> None:
    """The registry holds nobody's queue."""
    kept = AsyncWriteQueue(MemoryDestination(), name="kept")
    dropped = AsyncWriteQueue(MemoryDestination(), name="dropped")
    await kept.start()
    await dropped.start()
    pipeline, destination = dropped._pipeline, dropped._destination
    assert pipeline is not None
    await dropped._stop_destination()
    pipeline._on_death = lambda _reason: None
    for worker in pipeline._workers:
        worker.cancel()
    del dropped, pipeline, destination
    assert value("oddslog_ingest_running", "kept") == 1
    await kept.stop()


async def test_a_registry_that_refuses_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody has these names: a warning, and the queue works."""
    theirs = CollectorRegistry()
    Gauge("oddslog_ingest_running", "of somebody else", registry=theirs)
    monkeypatch.setattr(prometheus_client, "REGISTRY", theirs)
    with capture_logs() as logs:
        async with AsyncWriteQueue(MemoryDestination()) as queue:
            await (await queue.enqueue(small(0)))
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == [
        "metrics_unavailable"
    ]


@pytest.mark.parametrize("installed", [True, False])
def test_it_costs_nothing_until_a_queue_starts(*, installed: bool) -> None:
    """The library is loaded at the start of a queue, where it is; else all works without."""
    code = f"""
import asyncio, sys
if not {installed}:
    sys.modules["prometheus_client"] = None  # as if it were not installed
from oddslog.ingest import AsyncWriteQueue, MemoryDestination
assert sys.modules.get("prometheus_client") is None
async def main():
    async with AsyncWriteQueue(MemoryDestination()) as queue:
        found = sys.modules.get("prometheus_client") is not None
        sys.stderr.write(f"{{queue.stats()['running']}} {{found}}")
asyncio.run(main())
"""
    done: Any = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (0, f"True {installed}"), done.stdout
    assert "metrics_unavailable" not in done.stdout


async def test_a_queue_that_fails_to_answer_breaks_no_other_metric(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is left out: the scraper's own metrics and the other queues' are there."""
    sick = AsyncWriteQueue(MemoryDestination(), name="sick")
    async with AsyncWriteQueue(MemoryDestination(), name="well"), sick:

        def fail() -> None:
            raise RuntimeError("sick")

        with monkeypatch.context() as patch, capture_logs() as logs:
            patch.setattr(sick, "stats", fail)
            assert b'oddslog_ingest_running{queue="well"} 1.0' in generate_latest(REGISTRY)
            assert value("oddslog_ingest_running", "sick") is None
        assert {line["queue"] for line in logs} == {"sick"}


async def test_queues_may_come_and_go_while_others_ask() -> None:
    """In another thread: what is asked are the queues of one moment."""
    asked = threading.Event()

    def ask() -> None:
        generate_latest(REGISTRY)
        asked.set()

    async with AsyncWriteQueue(MemoryDestination(), name="kept") as kept:
        with _collector._lock:
            thread = threading.Thread(target=ask)
            thread.start()
            assert not asked.wait(0.2)  # it would go over a dictionary that changes
        thread.join(30)
        assert asked.is_set()
        assert kept.stats()["running"]
