"""The sink's own errors, grouped like their roots in `schemas.errors`.

ConfigurationError
└── NotMigratedError        the tables are not those of this version
ProtectionError
├── GapError                records are gone from the log before they were written
└── WrongLogError           not the log that filled this database
"""

from ..schemas.errors import ConfigurationError, OddslogError, ProtectionError

__all__ = [
    "CopyEncodeError",
    "FatalDatabaseError",
    "GapError",
    "NotMigratedError",
    "VanishedRowError",
    "WrongLogError",
]


class NotMigratedError(ConfigurationError):
    """The tables are missing, or not those of this version."""


class GapError(ProtectionError):
    """Records are gone from the log before this database had them."""


class WrongLogError(ProtectionError):
    """The log is not the one that filled this database."""


class FatalDatabaseError(ProtectionError):
    """PostgreSQL refused for a reason that neither waiting nor isolation mends."""


class CopyEncodeError(OddslogError):
    """The driver could not encode a row for COPY: a value of the wrong type or range."""


class VanishedRowError(OddslogError):
    """A row that stopped an insert was gone when it was compared: try again."""
