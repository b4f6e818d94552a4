"""How a sink works, as the entry points put it together."""

from dataclasses import dataclass, field

from .consumer import REBALANCE_TIMEOUT_SECONDS
from .placing import PlacingOptions

__all__ = ["SinkOptions"]

# What the revoke callback takes of the rebalance time-out; the rest is the group's own.
_REVOKE_SHARE = 0.75
_LEAST_REVOKE_SECONDS = 0.5


@dataclass(frozen=True)
class SinkOptions:
    """How the sink works; the defaults were measured (`oddslog bench`).

    `accept_poison` names causes that do not stop the sink, however many they are.
    """

    poll_records: int = 500
    poll_bytes: int = 16 * 1024 * 1024
    store_raw: bool = True
    retention_seconds: float | None = None
    parent_wait_seconds: float = 3600.0
    run_retention_seconds: float = 30 * 86400.0
    rebalance_timeout_seconds: float = REBALANCE_TIMEOUT_SECONDS
    accept_poison: tuple[str, ...] = ()
    until_caught_up: bool = False
    placing: PlacingOptions = field(default_factory=PlacingOptions)

    @property
    def revoke_seconds(self) -> float:
        """How long a revocation may wait for the transaction in hand."""
        return max(_LEAST_REVOKE_SECONDS, self.rebalance_timeout_seconds * _REVOKE_SHARE)
