"""Real servers for demo, tests and development: `open_stack(mode, directory).start(...)`."""

from .contract import Kind, Progress, Servers, Stack
from .kafka import Listener
from .local import LocalStack
from .opening import MODES, Mode, open_stack

__all__ = [
    "MODES",
    "Kind",
    "Listener",
    "LocalStack",
    "Mode",
    "Progress",
    "Servers",
    "Stack",
    "open_stack",
]
