"""The sink: from the log into PostgreSQL, each snapshot exactly once."""

from .direct import DatabaseDestination, handle_write_batch
from .migrate import migrate
from .opening import SinkSource, open_sink
from .options import SinkOptions
from .service import Sink
from .tables import make_metadata
from .totals import SinkTotals

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
