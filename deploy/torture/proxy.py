"""A TCP proxy that can cut, stall, delay and refuse: the network between us and a server.

    async with Proxy("127.0.0.1", 5432) as proxy:
        ...                             # connect to 127.0.0.1:{proxy.port}
        proxy.cut()                     # all connections end with a reset
        proxy.refuse = True             # new ones are ended at once, too
        proxy.stall()                   # nothing passes any more; proxy.flow() goes on
        proxy.delay_seconds = 0.2       # each piece of bytes comes that much later
        lost = proxy.cut_at(b"COMMIT")  # forwarded, and the connection cut with the reply
        held = proxy.hold_at(b"COMMIT", freeze)  # not forwarded, freeze() called, until release()

Everything runs in the caller's own event loop; nothing is left when the block ends.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from urllib.parse import urlsplit

__all__ = ["Cut", "Hold", "Proxy"]

_PIECE_BYTES = 65536
# PostgreSQL's BackendKeyData: 12 bytes, of which the first four are the process's id.
_BACKEND_KEY = b"K\0\0\0\x0c"


class Cut:
    """A cut that waits for its bytes; `happened` is set with it."""

    def __init__(self, marker: bytes, *, forward: bool, times: int) -> None:
        self.marker = marker
        self.forward = forward
        self.times = times
        self.happened = asyncio.Event()


class Hold:
    """A hold that waits for its bytes; `happened` is set with it."""

    def __init__(self, marker: bytes, then: Callable[[], None]) -> None:
        self.marker = marker
        self.then = then
        self.happened = asyncio.Event()
        self.released = asyncio.Event()

    def is_for(self, piece: bytes) -> bool:
        """Whether these are its bytes; only the first time."""
        waits = not self.happened.is_set() and not self.released.is_set()
        return waits and self.marker in piece


class _Pipe:
    """One connection through the proxy."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.client = client
        self.server: asyncio.StreamWriter | None = None
        self.cut_at_reply: Cut | None = None
        self.backend_pid: int | None = None

    def reset(self) -> None:
        """End both sides at once; the peers see a reset."""
        for writer in (self.client, self.server):
            if writer is not None:
                raw = writer.get_extra_info("socket")
                with suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()


class Proxy:
    """Forwards one port to a server, until told to misbehave."""

    def __init__(self, host: str, port: int, *, listen_port: int = 0) -> None:
        self._host = host
        self._listen_port = listen_port
        self._target_port = port
        self._listener: asyncio.Server | None = None
        self._pipes: dict[_Pipe, asyncio.Task[None]] = {}
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._cuts: list[Cut] = []
        self._holds: list[Hold] = []
        self.refuse = False
        self.delay_seconds = 0.0
        self.accepted = 0
        self.refused = 0

    @classmethod
    def before(cls, url: str) -> "Proxy":
        """A proxy before the server of a URL."""
        parts = urlsplit(url)
        return cls(parts.hostname or "127.0.0.1", parts.port or 5432)

    def url(self, url: str) -> str:
        """The same URL through the proxy."""
        parts = urlsplit(url)
        user, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{user}{at}127.0.0.1:{self.port}").geturl()

    @property
    def port(self) -> int:
        """The port to connect to, on 127.0.0.1."""
        if self._listener is None:
            raise RuntimeError("the proxy is not open")
        return int(self._listener.sockets[0].getsockname()[1])

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._pipes)

    @property
    def backend_pids(self) -> list[int]:
        """Of the open connections to a PostgreSQL: the processes there, as it told them."""
        return [pipe.backend_pid for pipe in self._pipes if pipe.backend_pid is not None]

    async def __aenter__(self) -> "Proxy":
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self._listen_port)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._listener is None:
            return
        self._listener.close()
        tasks = list(self._pipes.values())
        self.cut()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._listener.wait_closed()

    def cut(self) -> None:
        """Reset every open connection."""
        for pipe in list(self._pipes):
            pipe.reset()

    def stall(self) -> None:
        """Let nothing pass, and keep the connections open: a black hole."""
        self._flowing.clear()

    def flow(self) -> None:
        """Let everything pass again, also what has waited."""
        self._flowing.set()

    def cut_at(self, marker: bytes, *, forward: bool = True, times: int = 1) -> Cut:
        """Cut a connection when its client sends these bytes (in one piece).

        With `forward` the server gets them, and the cut comes when it replies: what
        was asked has been done, and the reply is lost. Without it the server never
        sees them.
        """
        cut = Cut(marker, forward=forward, times=times)
        self._cuts.append(cut)
        return cut

    def disarm(self, cut: Cut) -> None:
        """Wait no longer for its bytes; where they came, it still happens."""
        cut.times = 0
        if cut in self._cuts:
            self._cuts.remove(cut)

    def hold_at(self, marker: bytes, then: Callable[[], None]) -> Hold:
        """Keep these bytes of a client (in one piece) back, and what it sends after them.

        Args:
            marker: the bytes.
            then: is called when they are there.
        """
        hold = Hold(marker, then)
        self._holds.append(hold)
        return hold

    def release(self, hold: Hold) -> None:
        """Forward what was kept back; wait no longer where nothing was."""
        hold.released.set()
        if hold in self._holds:
            self._holds.remove(hold)

    def calm(self) -> None:
        """Misbehave in no way any more."""
        self.refuse = False
        self.delay_seconds = 0.0
        for cut in list(self._cuts):
            self.disarm(cut)
        for hold in list(self._holds):
            self.release(hold)
        self.flow()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pipe = _Pipe(writer)
        if self.refuse:
            self.refused += 1
            pipe.reset()
            return
        self.accepted += 1
        self._pipes[pipe] = asyncio.create_task(self._run(pipe, reader), name="proxy-pipe")

    async def _run(self, pipe: _Pipe, client: asyncio.StreamReader) -> None:
        try:
            server, pipe.server = await asyncio.open_connection(self._host, self._target_port)
            pumps = [
                asyncio.create_task(self._pump(pipe, client, pipe.server, self._seen_request)),
                asyncio.create_task(self._pump(pipe, server, pipe.client, self._seen_reply)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:
            pass  # the server is away: so is the connection
        finally:
            self._pipes.pop(pipe, None)
            # What was written goes out before the end, unless it was cut.
            for writer in (pipe.client, pipe.server):
                if writer is not None:
                    writer.close()

    async def _pump(
        self,
        pipe: _Pipe,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        seen: Callable[[_Pipe, bytes], bool],
    ) -> None:
        with suppress(OSError):
            while piece := await source.read(_PIECE_BYTES):
                if self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
                await self._flowing.wait()
                if target is pipe.server:
                    await self._keep_back(piece)
                if not seen(pipe, piece):
                    pipe.reset()
                    return
                target.write(piece)
                await target.drain()

    async def _keep_back(self, piece: bytes) -> None:
        for hold in self._holds:
            if hold.is_for(piece):
                hold.happened.set()
                hold.then()
                await hold.released.wait()
                return

    def _seen_request(self, pipe: _Pipe, piece: bytes) -> bool:
        for cut in self._cuts:
            if cut.times and cut.marker in piece:
                cut.times -= 1
                if not cut.forward:
                    cut.happened.set()
                    return False
                pipe.cut_at_reply = cut
        return True

    def _seen_reply(self, pipe: _Pipe, piece: bytes) -> bool:
        if pipe.backend_pid is None:
            pipe.backend_pid = _backend_pid(piece)
        if pipe.cut_at_reply is None:
            return True
        pipe.cut_at_reply.happened.set()
        return False


def _backend_pid(piece: bytes) -> int | None:
    _, key, after = piece.partition(_BACKEND_KEY)
    return int.from_bytes(after[:4], "big") if key and len(after) >= 4 else None
