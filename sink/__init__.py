"""The sink: from the log into PostgreSQL, each snapshot exactly once."""

from .direct import DatabaseDestination, handle_write_batch
from .errors import RunIncompleteError
from .migrate import migrate
from .opening import SinkSource, open_sink
from .options import SinkOptions
from .run_states import ScrapeRun
from .run_wait import wait_for_run
from .service import Sink
from .tables import make_metadata
from .totals import SinkTotals

__all__ = [
    "DatabaseDestination",
    "RunIncompleteError",
    "ScrapeRun",
    "Sink",
    "SinkOptions",
    "SinkSource",
    "SinkTotals",
    "handle_write_batch",
    "make_metadata",
    "migrate",
    "open_sink",
    "wait_for_run",
]
