"""The sink's own errors, grouped like their roots in `schemas.errors`.

OddslogError
└── RunIncompleteError      a scrape run has not arrived in time (also a TimeoutError)
ConfigurationError
└── NotMigratedError        the tables are not those of this version
UnreachableError
└── TableInUseError         a migration did not get its locks; nothing was changed
ProtectionError
├── GapError                records are gone from the log before they were written
├── TooMuchPoisonError      too many fail: the cause is not the records
└── WrongLogError           not the log that filled this database
"""

from ..schemas.errors import ConfigurationError, OddslogError, ProtectionError, UnreachableError
from .run_states import ScrapeRun

__all__ = [
    "CopyEncodeError",
    "FatalDatabaseError",
    "GapError",
    "NotMigratedError",
    "RunIncompleteError",
    "TableInUseError",
    "TooMuchPoisonError",
    "VanishedRowError",
    "WrongLogError",
]


class NotMigratedError(ConfigurationError):
    """The tables are missing, or not those of this version."""


class TableInUseError(UnreachableError):
    """Other sessions kept a migration from a table; nothing was changed."""


class GapError(ProtectionError):
    """Records are gone from the log before this database had them."""


class WrongLogError(ProtectionError):
    """The log is not the one that filled this database."""


class TooMuchPoisonError(ProtectionError):
    """Too many of the last snapshots and records are poisoned; nothing of the poll is written.

    `cause` is what `--accept-poison` takes.
    """

    def __init__(
        self, cause: str, count: int, poisoned: int, judged: int, *, command: str = "oddslog sink"
    ) -> None:
        super().__init__(
            f"{poisoned} of the last {judged} snapshots and records cannot be written, {count} of"
            f" them for one cause: {cause}. When so many fail, look at the tables and the scraper"
            f" first. To keep such as dead letters and go on: {command} --accept-poison {cause}"
        )
        self.cause = cause


class RunIncompleteError(OddslogError, TimeoutError):
    """A scrape run was not complete in time; `run` is what had arrived, None where nothing."""

    def __init__(self, message: str, run_id: int, run: ScrapeRun | None) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.run = run


class FatalDatabaseError(ProtectionError):
    """PostgreSQL refused for a reason that neither waiting nor isolation mends."""


class CopyEncodeError(OddslogError):
    """The driver could not encode a row for COPY: a value of the wrong type or range."""


class VanishedRowError(OddslogError):
    """A row that stopped an insert was gone when it was compared: try again."""
