"""What a stack is to its callers: two servers with their addresses."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

__all__ = ["Kind", "Progress", "Servers", "Stack"]

Kind = Literal["env", "docker", "local"]

Progress = Callable[[str], None]
"""Takes one line of text for the operator; may be called from other threads."""


@dataclass(frozen=True)
class Servers:
    """Where a Kafka and a PostgreSQL are.

    Attributes:
        bootstrap_servers: `host:port`, several with commas.
        database_url: `postgresql://` URL of a user who may create databases.
        kind: where the servers come from.
    """

    bootstrap_servers: str
    database_url: str
    kind: Kind

    def __repr__(self) -> str:
        """Leave the password out: this ends up in logs."""
        place = self.database_url.rpartition("@")[2] or self.database_url
        return f"<Servers {self.kind} kafka={self.bootstrap_servers} postgresql={place}>"


class Stack(Protocol):
    """A Kafka and a PostgreSQL that can be brought up and down.

    Every method blocks and may be called from any thread; none needs an event loop.
    """

    def start(self, progress: Progress) -> Servers:
        """Bring both servers up, or find them up, and return when both answer.

        Args:
            progress: told what is being done, a line at a time.

        Raises:
            ConfigurationError: something is missing or wrong here (one line).
            UnreachableError: a server or the network does not answer (one line).
        """
        ...

    def stop(self) -> None:
        """End what `start` started; the data stays. Fine where nothing runs."""
        ...

    def destroy(self) -> None:
        """Stop, and remove the data that `start` made."""
        ...

    def running(self) -> Servers | None:
        """Return the addresses where both servers answer now, else None."""
        ...
