"""The sink: from the log into PostgreSQL, each snapshot exactly once."""

from .direct import DatabaseDestination, handle_write_batch
from .migrate import migrate
from .opening import SinkSource, open_sink
from .service import Sink, SinkOptions, SinkTotals
from .tables import make_metadata

__all__ = [
    "DatabaseDestination",
    "Sink",
    "SinkOptions",
    "SinkSource",
    "SinkTotals",
    "handle_write_batch",
    "make_metadata",
    "migrate",
    "open_sink",
]
