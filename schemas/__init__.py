"""The contract of oddslog: records, their Avro form, names on the wire, errors."""

from .connection import KafkaConnection
from .errors import (
    ConfigurationError,
    DecodeError,
    DeliveryError,
    InvalidRecordError,
    OddslogError,
    ProtectionError,
    UnreachableError,
)
from .records import (
    CompetitorSnapshotKey,
    CompetitorSnapshotWriteData,
    MarketWriteData,
    SnapshotKey,
    SnapshotWriteData,
    WriteBatch,
)

__all__ = [
    "CompetitorSnapshotKey",
    "CompetitorSnapshotWriteData",
    "ConfigurationError",
    "DecodeError",
    "DeliveryError",
    "InvalidRecordError",
    "KafkaConnection",
    "MarketWriteData",
    "OddslogError",
    "ProtectionError",
    "SnapshotKey",
    "SnapshotWriteData",
    "UnreachableError",
    "WriteBatch",
]
