"""A trace from the scraper's span, through the record's headers, to the sink's transaction."""

import sys
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from oddslog.ingest import AsyncWriteQueue, KafkaDestination
from oddslog.ingest.tracing import carried, current
from oddslog.schemas import KafkaConnection
from oddslog.sink.items import LogRecord, PartitionPart
from oddslog.sink.tracing import trace_transaction
from oddslog.sink.transaction import PollResult
from tests.fixtures.sinks import RunSink
from tests.support.batches import batch, snapshot
from tests.support.polls import rows

STATE = TraceState([("vendor", "value")])


def span(number: int) -> NonRecordingSpan:
    """A span of the scraper, of the trace of that number."""
    return NonRecordingSpan(SpanContext(number, 7, False, TraceFlags(1), STATE))


class Tracer:
    """Keeps what the sink says; stands in for the SDK's, which nobody installs here."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []

    def start_span(self, name: str, **told: Any) -> "Tracer":
        self.spans.append({"name": name, **told})
        return self

    def end(self, end_time: int) -> None:
        self.spans[-1]["end_time"] = end_time


@pytest.fixture
def tracer(monkeypatch: pytest.MonkeyPatch) -> Tracer:
    """What OpenTelemetry hands out."""
    tracer = Tracer()
    monkeypatch.setattr(trace, "get_tracer", lambda *_: tracer)
    return tracer


def part(*headers: Sequence[tuple[str, bytes]]) -> PartitionPart:
    """A record for each of the headers."""
    records = [LogRecord(0, n, None, b"", told, None) for n, told in enumerate(headers)]
    return PartitionPart(0, 0, len(records), records, None)


async def test_a_transaction_is_linked_to_what_enqueued_its_records(
    kafka: KafkaConnection, topic: str, engine: AsyncEngine, run_sink: RunSink, tracer: Tracer
) -> None:
    """Each batch by the span that its enqueue was in; none where there was none."""
    async with AsyncWriteQueue(KafkaDestination(kafka, topic=topic)) as queue:
        receipts = [await queue.enqueue(batch([snapshot(1)]))]
        for number in (2, 3):
            with trace.use_span(span(number)):
                receipts.append(await queue.enqueue(batch([snapshot(number)])))
        for receipt in receipts:
            await receipt
    await run_sink()
    links = [link.context for told in tracer.spans for link in told["links"]]
    assert sorted(context.trace_id for context in links) == [2, 3]
    assert {context.span_id for context in links} == {7}
    assert {context.trace_state.get("vendor") for context in links} == {"value"}
    for told in tracer.spans:
        assert told["name"] == "oddslog.sink.transaction"
        assert told["start_time"] <= told["end_time"]
    assert sum(told["attributes"]["oddslog.snapshots"] for told in tracer.spans) == 3
    assert len(await rows(engine, "SELECT id FROM odds_snapshots")) == 3


def test_without_opentelemetry_nothing_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither at the enqueue nor in the sink; not loaded is as good as not installed."""
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    with trace.use_span(span(2)):
        assert current() == ()
    trace_transaction([part([("traceparent", b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01")])],
                      PollResult(), 0.1)  # fmt: skip
    assert "opentelemetry.trace" not in sys.modules
    assert carried() == ()


def test_headers_of_nonsense_are_no_links(tracer: Tracer) -> None:
    """Anybody may write headers."""
    bad = [b"", b"nonsense", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01", b"\xff\x00"]
    trace_transaction([part(*([("traceparent", value)] for value in bad))], PollResult(), 0.1)
    assert [told["links"] for told in tracer.spans] == [[]]


def test_links_are_bounded_and_each_is_there_once(tracer: Tracer) -> None:
    """A poll may hold thousands of records."""
    values = [b"00-%032x-%016x-01" % (number // 2 + 1, 7) for number in range(1000)]
    trace_transaction([part(*([("traceparent", value)] for value in values))], PollResult(), 0.1)
    links = [link.context.trace_id for link in tracer.spans[0]["links"]]
    assert links == list(range(1, 129))


def test_a_tracer_that_fails_is_in_nobodys_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is committed is committed."""

    def fail(*_: object) -> None:
        raise RuntimeError("no tracer")

    monkeypatch.setattr(trace, "get_tracer", fail)
    with capture_logs() as logs:
        trace_transaction([part([])], PollResult(), 0.1)
    assert [line["event"] for line in logs] == ["trace_failed"]
