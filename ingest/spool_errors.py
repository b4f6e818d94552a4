"""What the spool raises.

DeliveryError
└── SpoolError          the spool did not take a batch; what is inside stays readable
    └── SpoolFullError  ... because there is no room: its own bound, or the disk's end
"""

from ..schemas.errors import DeliveryError

__all__ = ["SpoolError", "SpoolFullError"]


class SpoolError(DeliveryError):
    """The spool could not do what it was asked; nothing was half done."""


class SpoolFullError(SpoolError):
    """The spool has no room for a batch; what is inside stays readable and drains."""
