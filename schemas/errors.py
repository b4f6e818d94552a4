"""The errors of oddslog, grouped by what the caller does next.

    OddslogError
    ├── InvalidRecordError      mend the value; the message names the field (also a ValueError)
    ├── DecodeError             the bytes are no fragment; keep them as a dead letter
    │   └── UnknownSchemaError  ... of a schema this version does not know
    ├── DeliveryError           a batch was not accepted; enqueue `receipt.batch` again
    │   └── RejectedError       ... a part of it never will be; the other parts are stored
    ├── ConfigurationError      wrong usage or settings; exit code 2
    ├── UnreachableError        a server does not answer; exit code 3
    └── ProtectionError         stopped to protect data; exit code 4

`ingest` and `sink` derive their own from these. `exit_code` is what the
`oddslog` command ends with when the error reaches it.
"""

__all__ = [
    "ConfigurationError",
    "DecodeError",
    "DeliveryError",
    "InvalidRecordError",
    "OddslogError",
    "ProtectionError",
    "RejectedError",
    "UnknownSchemaError",
    "UnreachableError",
]


class OddslogError(Exception):
    """Root of every error that oddslog raises on purpose."""

    exit_code = 1


class InvalidRecordError(OddslogError, ValueError):
    """A record was built or encoded with a value that cannot be stored."""

    exit_code = 2

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.field, self.problem)


class DecodeError(OddslogError):
    """Bytes that are not one whole fragment of a known schema.

    `at_byte` is how far they could be read, where that is known.
    """

    def __init__(self, message: str, at_byte: int | None = None) -> None:
        super().__init__(message)
        self.at_byte = at_byte


class UnknownSchemaError(DecodeError):
    """A fragment of a schema that this version does not ship."""


class DeliveryError(OddslogError):
    """A batch, or a part of it, was not accepted and is not stored."""


class RejectedError(DeliveryError):
    """A part of a batch can never be accepted; all other parts are stored."""


class ConfigurationError(OddslogError):
    """Wrong usage or settings."""

    exit_code = 2


class UnreachableError(OddslogError):
    """A server that is needed does not answer."""

    exit_code = 3


class ProtectionError(OddslogError):
    """Going on could lose or mix up data."""

    exit_code = 4
