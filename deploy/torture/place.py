"""Where the torture happens: servers, and a proxy before each of them for each process."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ...schemas.errors import ConfigurationError
from ..settings import Settings, variable
from ..stack import Listener, LocalStack, Progress, Servers, Stack, open_stack
from ..stack.probes import free_port
from .proxy import Proxy

__all__ = ["Ground", "Place", "Way"]

_HERE = "127.0.0.1"
# The kit ends processes, not the machine: nothing needs the disk's flush.
_POSTGRES_SETTINGS = {"fsync": "off"}


@dataclass(frozen=True)
class Way:
    """How one process reaches the servers; None where nothing is in between."""

    kafka: Proxy | None
    postgres: Proxy | None

    def bootstrap_servers(self, servers: Servers) -> str:
        """Kafka's address for it."""
        return servers.bootstrap_servers if self.kafka is None else f"{_HERE}:{self.kafka.port}"

    def database_url(self, url: str) -> str:
        """A database's URL for it."""
        return url if self.postgres is None else self.postgres.url(url)

    def calm(self) -> None:
        """Let everything through."""
        for proxy in (self.kafka, self.postgres):
            if proxy is not None:
                proxy.calm()


@dataclass(frozen=True)
class Place:
    """Servers that are up, with the ways to them.

    Attributes:
        servers: past every proxy.
        own: the stack, where its servers are ours to restart.
        ways: one a process.
    """

    servers: Servers
    own: LocalStack | None
    ways: Sequence[Way]

    def left_out(self) -> list[str]:
        """What cannot be tortured here, in words."""
        if self.own is not None:
            return []
        return [
            f"the servers are not the kit's own ({self.servers.kind}): they are not restarted",
            "Kafka's address is not the kit's to choose: there is no proxy before it",
        ]


class Ground:
    """Brings servers up, with proxies before them; `destroy` takes away what was made.

    A local stack is the kit's own, in its folder, whatever other stack is up. The
    configured servers are taken only where `ODDSLOG_STACK=env` says so.
    """

    def __init__(self, settings: Settings, folder: Path, processes: int) -> None:
        self._settings = settings
        self._folder = folder / "stack"
        self._processes = processes
        self._stack: Stack | None = None

    @asynccontextmanager
    async def opened(self, progress: Progress) -> AsyncIterator[Place]:
        """The place; the proxies are gone at the end, the servers are not.

        Raises:
            OddslogError: the servers cannot be had.
        """
        async with AsyncExitStack() as exits:
            if self._settings.stack in ("env", "docker"):
                yield await self._given(exits, progress)
            else:
                yield await self._own(exits, progress)

    def destroy(self) -> None:
        """Take the servers down with their data, where they were made for this."""
        if self._stack is not None:
            self._stack.destroy()

    async def _own(self, exits: AsyncExitStack, progress: Progress) -> Place:
        # The proxies first: the broker tells its clients to come by them.
        kafka = []
        listeners = []
        for _ in range(self._processes):
            listener = Listener(free_port(), 0)
            proxy = await exits.enter_async_context(Proxy(_HERE, listener.port))
            kafka.append(proxy)
            listeners.append(Listener(listener.port, proxy.port))
        stack = LocalStack(
            self._folder, kafka_listeners=listeners, postgres_settings=_POSTGRES_SETTINGS
        )
        self._stack = stack
        servers = await asyncio.to_thread(stack.start, progress)
        ways = [Way(proxy, await self._before(servers, exits)) for proxy in kafka]
        return Place(servers, stack, ways)

    async def _given(self, exits: AsyncExitStack, progress: Progress) -> Place:
        url = self._settings.database_url
        stack = open_stack(
            self._settings.stack,
            self._folder,
            bootstrap_servers=self._settings.bootstrap_servers,
            database_url=None if url is None else url.get_secret_value(),
        )
        self._stack = stack
        servers = await asyncio.to_thread(stack.start, progress)
        ways = [Way(None, await self._before(servers, exits)) for _ in range(self._processes)]
        return Place(servers, None, ways)

    async def _before(self, servers: Servers, exits: AsyncExitStack) -> Proxy:
        if "," in urlsplit(servers.database_url).netloc:
            raise ConfigurationError(
                f"{variable('database_url')} names several hosts: for torture, name one"
            )
        return await exits.enter_async_context(Proxy.before(servers.database_url))
