"""Trace context: a span for each transaction, linked to those that enqueued its records.

Where the process uses OpenTelemetry, that is; else nothing is looked at.
"""

import sys
import time
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import structlog

from ..schemas.version import VERSION
from ..schemas.wire import TRACE_HEADERS
from .items import PartitionPart
from .transaction import PollResult

__all__ = ["trace_transaction"]

log = structlog.get_logger("oddslog.sink")

_SPAN = "oddslog.sink.transaction"
# What the SDK keeps of a span's links by default.
_MOST_LINKS = 128


def trace_transaction(parts: Sequence[PartitionPart], result: PollResult, seconds: float) -> None:
    """Tell of a transaction that was just committed and took so long. Never raises."""
    if sys.modules.get("opentelemetry.trace") is None:
        return
    try:
        _trace(parts, result, seconds)
    except Exception as error:
        log.debug("trace_failed", reason=type(error).__name__)


def _trace(parts: Sequence[PartitionPart], result: PollResult, seconds: float) -> None:
    trace: Any = import_module("opentelemetry.trace")
    contexts: Any = import_module("opentelemetry.context")
    ended_ns = time.time_ns()
    span = trace.get_tracer("oddslog.sink", VERSION).start_span(
        _SPAN,
        context=contexts.Context(),  # a trace of its own: it has many parents
        kind=trace.SpanKind.CONSUMER,
        links=_links(trace, parts),
        start_time=ended_ns - int(seconds * 1e9),
        attributes={
            "oddslog.records": result.records,
            "oddslog.snapshots": result.snapshots,
            "oddslog.markets": result.markets,
            "oddslog.dead_letters": result.dead_letters,
        },
    )
    span.end(end_time=ended_ns)


def _links(trace: Any, parts: Sequence[PartitionPart]) -> list[Any]:
    module: Any = import_module("opentelemetry.trace.propagation.tracecontext")
    propagator = module.TraceContextTextMapPropagator()
    contexts = [
        trace.get_current_span(propagator.extract(c)).get_span_context() for c in _carriers(parts)
    ]
    return [trace.Link(context) for context in contexts if context.is_valid]


def _carriers(parts: Sequence[PartitionPart]) -> list[dict[str, str]]:
    """The different trace contexts of the records, in their order."""
    found: dict[bytes, dict[str, str]] = {}
    for part in parts:
        for record in part.records:
            headers = {
                name: said for name, said in record.headers if name in TRACE_HEADERS and said
            }
            parent = headers.get(TRACE_HEADERS[0])
            if parent is None or parent in found:
                continue
            if len(found) == _MOST_LINKS:
                return list(found.values())
            found[parent] = {
                name: said.decode("ascii", "replace") for name, said in headers.items()
            }
    return list(found.values())
