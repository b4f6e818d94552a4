"""The network to a broker: a proxy that the broker's own address leads through, too.

Kafka tells its clients where the brokers are, and they would go there directly; so
the address in its replies is written over with the proxy's, which is as long.
"""

import asyncio
import struct
from collections.abc import Callable
from typing import Any

import pytest

from oddslog.deploy.torture.proxy import Proxy, _Pipe

__all__ = ["BrokerNetwork"]


class _Rewriting:
    """A writer that puts one address in the place of another."""

    def __init__(self, writer: Any, old: bytes, new: bytes) -> None:
        self._writer = writer
        self._old = old
        self._new = new

    def write(self, piece: bytes) -> None:
        self._writer.write(piece.replace(self._old, self._new))

    async def drain(self) -> None:
        await self._writer.drain()


class BrokerNetwork(Proxy):
    """A proxy before one broker, for clients that are given `servers`."""

    def __init__(self, bootstrap_servers: str) -> None:
        host, _, port = bootstrap_servers.rpartition(":")
        if host not in ("127.0.0.1", "localhost") or "," in bootstrap_servers:
            pytest.skip(f"needs one broker on this machine, not {bootstrap_servers}")
        super().__init__("127.0.0.1", int(port))

    @property
    def servers(self) -> str:
        """What the client under test is given."""
        return f"127.0.0.1:{self.port}"

    def away(self, how: str) -> None:
        """From now on: `refuse` connections, and cut open ones; or `stall` them all."""
        if how == "stall":
            self.stall()
        else:
            self.refuse = True
            self.cut()

    def back(self) -> None:
        """As before."""
        self.refuse = False
        self.flow()

    async def _pump(
        self,
        pipe: _Pipe,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        seen: Callable[[_Pipe, bytes], bool],
    ) -> None:
        writer: Any = target
        if target is pipe.client:
            host = b"\x00\x09127.0.0.1"
            old, new = (host + struct.pack(">i", port) for port in (self._target_port, self.port))
            writer = _Rewriting(target, old, new)
        await super()._pump(pipe, source, writer, seen)
