"""Closing a client whose broker reads nothing any more: the connection is cut."""

import asyncio

import pytest

from oddslog.ingest.producer import close_client


class Connection:
    """As much of aiokafka's as closing looks at."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer


class Client:
    """Whose `close` waits until all is written, as aiokafka's does."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._conns = {("node", 0): Connection(writer)}
        self._writer = writer

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


async def test_a_connection_that_is_never_read_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the bound, whatever waits in its buffer."""
    monkeypatch.setattr("oddslog.ingest.producer.FORCED_END_SECONDS", 0.01)
    ended = asyncio.Event()

    async def deaf(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await ended.wait()
        writer.transport.abort()

    server = await asyncio.start_server(deaf, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(bytes(64 * 1024 * 1024))  # far more than the sockets' buffers take
    await close_client(Client(writer))
    # The end of its connection is told to the reader; without the cut it never is.
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    ended.set()
    server.close()
    await server.wait_closed()
