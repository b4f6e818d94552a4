"""Trace context: from the caller of `enqueue` into the headers of the records.

Where the scraper uses OpenTelemetry, that is: what it has not loaded has no trace.
"""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from contextvars import ContextVar

from ..schemas.wire import TRACE_HEADERS

__all__ = ["Headers", "carried", "carrying", "current"]

Headers = tuple[tuple[str, bytes], ...]

_carried: ContextVar[Headers] = ContextVar("oddslog_trace", default=())


def current() -> Headers:
    """The caller's trace context as headers; none where there is no trace. Never raises."""
    if sys.modules.get("opentelemetry.trace") is None:
        return ()
    carrier: dict[str, str] = {}
    with contextlib.suppress(Exception):  # a trace that cannot be told costs no batch
        name = "opentelemetry.trace.propagation.tracecontext"
        importlib.import_module(name).TraceContextTextMapPropagator().inject(carrier)
        return tuple((name, carrier[name].encode()) for name in TRACE_HEADERS if name in carrier)
    return ()


@contextlib.contextmanager
def carrying(headers: Headers) -> Iterator[None]:
    """Within the block, a batch with that trace context is prepared."""
    token = _carried.set(headers)
    try:
        yield
    finally:
        _carried.reset(token)


def carried() -> Headers:
    """The trace context of the batch that is prepared now."""
    return _carried.get()
