"""How a sink works, as the entry points put it together."""

from dataclasses import dataclass, field

from .placing import PlacingOptions

__all__ = ["SinkOptions"]


@dataclass(frozen=True)
class SinkOptions:
    """How the sink works; the defaults were measured (`make bench`)."""

    poll_records: int = 500
    poll_bytes: int = 16 * 1024 * 1024
    store_raw: bool = True
    retention_seconds: float | None = None
    until_caught_up: bool = False
    placing: PlacingOptions = field(default_factory=PlacingOptions)
