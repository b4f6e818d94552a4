"""The proxy's hold: what a client sends stays on the way until it is let go."""

import asyncio

from oddslog.deploy.torture.proxy import Proxy
from tests.support.waiting import until


async def test_held_bytes_come_late_and_whole() -> None:
    """Once, at the marker, with what was sent behind it; other connections go on."""
    received: list[bytes] = []

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(100):
            received.append(piece)
        writer.close()

    server = await asyncio.start_server(receive, "127.0.0.1", 0)
    called: list[str] = []
    async with server, Proxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        hold = proxy.hold_at(b"COMMIT;", lambda: called.append("held"))
        _, first = await asyncio.open_connection("127.0.0.1", proxy.port)
        _, second = await asyncio.open_connection("127.0.0.1", proxy.port)
        first.write(b"one COMMIT;")
        await asyncio.wait_for(hold.happened.wait(), 20)
        first.write(b"behind")
        second.write(b"two COMMIT;")  # a hold is of one connection
        await until(lambda: received == [b"two COMMIT;"], "the other connection's bytes")
        proxy.release(hold)
        await until(lambda: b"".join(received[1:]) == b"one COMMIT;behind", "what was held")
        first.write(b"COMMIT;")
        await until(lambda: received[-1].endswith(b"COMMIT;"), "no second hold")
        for writer in (first, second):
            writer.close()
    assert called == ["held"]


async def test_calm_lets_go() -> None:
    """And nobody waits for the bytes any more."""
    async with Proxy("127.0.0.1", 1) as proxy:
        hold = proxy.hold_at(b"COMMIT;", lambda: None)
        proxy.calm()
        assert hold.released.is_set()
        assert not hold.is_for(b"COMMIT;")
