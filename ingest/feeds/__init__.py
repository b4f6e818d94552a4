"""Feeds: sources of batches, for trying, testing and filling.

Pure generators of `WriteBatch`: made up by seed, from football-data.co.uk's
match files, or from lines of JSON.
"""

from .errors import FeedError, LineError
from .football_data import read_football_data
from .ndjson import batch_to_json, read_ndjson
from .settings import SimulateSettings
from .simulate import simulate

__all__ = [
    "FeedError",
    "LineError",
    "SimulateSettings",
    "batch_to_json",
    "read_football_data",
    "read_ndjson",
    "simulate",
]
