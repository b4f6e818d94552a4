"""Serving the sink's HTTP port from the start of a run to its end."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import structlog

from ..schemas.errors import ConfigurationError
from .health import STUCK_SECONDS
from .http_server import HttpServer
from .recent import Recent
from .site import Site

__all__ = ["serve"]

log = structlog.get_logger("oddslog.sink")

_BEAT_SECONDS = 1.0


@asynccontextmanager
async def serve(
    host: str,
    port: int,
    *,
    overview: Callable[[], Awaitable[Mapping[str, Any]]] | None = None,
    required: bool = True,
    stuck_seconds: float = STUCK_SECONDS,
) -> AsyncIterator[Site | None]:
    """Metrics, health and the page on a port, until the block ends.

    Args:
        host: to listen on.
        port: to listen on; 0 for any that is free (`Site.address` has it).
        overview: asks the servers for what the page shows; asked every few seconds at
            most, while somebody looks.
        required: whether a port that cannot be had is an error. If not, it is a
            warning, and there is no site.
        stuck_seconds: how long the loop may stand still before /livez says so.

    Raises:
        ConfigurationError: the port cannot be had.
    """
    recent = None if overview is None else Recent(overview)
    site = Site(asyncio.get_running_loop(), recent, stuck_seconds)
    try:
        server = HttpServer(host, port, site.answer)
    except OSError as error:
        problem = _problem(host, port, error)
        if required:
            raise ConfigurationError(problem) from error
        log.warning("http_not_listening", problem=problem)
        yield None
        return
    site.address = server.address
    server.start()
    beating = asyncio.create_task(_beat(site), name="oddslog-beat")
    try:
        yield site
    finally:
        beating.cancel()
        # Before the next await, which may be cancelled.
        server.stop()
        if recent is not None:
            await recent.close()


async def _beat(site: Site) -> None:
    while True:
        site.beat_at = time.monotonic()
        await asyncio.sleep(_BEAT_SECONDS)


def _problem(host: str, port: int, error: OSError) -> str:
    return (
        f"ODDSLOG_HTTP_ADDRESS: cannot listen on {host}:{port}"
        f" ({error.strerror or type(error).__name__}); name another port for each sink of this"
        " machine, or off"
    )
