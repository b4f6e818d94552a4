"""The stack of servers that someone else runs: looked at, never started or stopped."""

import socket
from contextlib import closing
from urllib.parse import urlsplit

from ...schemas.errors import ConfigurationError, UnreachableError
from .contract import Progress, Servers

__all__ = ["ConfiguredStack"]

_TIMEOUT_SECONDS = 5.0


class ConfiguredStack:
    """Addresses from the settings. Only a TCP connection is tried: the rest is the user's."""

    def __init__(self, bootstrap_servers: str | None, database_url: str | None) -> None:
        missing = [
            name
            for name, value in (
                ("ODDSLOG_BOOTSTRAP_SERVERS", bootstrap_servers),
                ("ODDSLOG_DATABASE_URL", database_url),
            )
            if not value
        ]
        if missing or not bootstrap_servers or not database_url:
            raise ConfigurationError(f"the stack `env` needs {' and '.join(missing)}")
        self._kafka = [_host_and_port(part, 9092) for part in bootstrap_servers.split(",")]
        url = database_url.replace("postgresql+asyncpg://", "postgresql://", 1)
        self._postgres = _database_hosts(url)
        self._servers = Servers(bootstrap_servers, url, "env")

    def __repr__(self) -> str:
        """Addresses, without the password."""
        return f"<ConfiguredStack {self._servers!r}>"

    def start(self, progress: Progress) -> Servers:
        """See that both are there; nothing is started.

        Raises:
            UnreachableError: no address of one of them takes connections.
        """
        for name, addresses in (("Kafka", self._kafka), ("PostgreSQL", self._postgres)):
            if not _any_reached(addresses):
                where = ", ".join(f"{host}:{port}" for host, port in addresses)
                raise UnreachableError(
                    f"{name} does not answer on {where}: start it, or mend its address"
                )
            progress(f"{name} is there")
        return self._servers

    def stop(self) -> None:
        """Do nothing: the servers are not ours."""

    def destroy(self) -> None:
        """Do nothing: the data is not ours."""

    def running(self) -> Servers | None:
        """Return the addresses where both take connections now, else None."""
        up = _any_reached(self._kafka) and _any_reached(self._postgres)
        return self._servers if up else None


def _database_hosts(url: str) -> list[tuple[str, int]]:
    """Hosts of a URL that may list several, as libpq takes them."""
    parts = urlsplit(url)
    hosts = parts.netloc.rpartition("@")[2]
    if parts.scheme not in ("postgresql", "postgres") or not hosts:
        raise ConfigurationError(
            "ODDSLOG_DATABASE_URL must look like postgresql://user:password@host:5432/database"
        )
    return [_host_and_port(part, 5432) for part in hosts.split(",")]


def _host_and_port(text: str, default: int) -> tuple[str, int]:
    text = text.strip()
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(default)
    if not port.isdigit() or not host:
        raise ConfigurationError(f"{text!r} is no address: write host:port")
    return host.strip("[]"), int(port)


def _any_reached(addresses: list[tuple[str, int]]) -> bool:
    for address in addresses:
        try:
            with closing(socket.create_connection(address, _TIMEOUT_SECONDS)):
                return True
        except OSError:
            continue
    return False
