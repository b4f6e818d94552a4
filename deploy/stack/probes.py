"""Whether a server answers in its own protocol, by plain sockets and in a second."""

import asyncio
import importlib.util
import random
import socket
import struct
import threading
from contextlib import closing

__all__ = ["free_port", "kafka_answers", "logs_in", "port_is_free", "postgres_answers"]

_HOST = "127.0.0.1"
_DESCRIBE_CLUSTER = 60
# Below the ranges from which systems take the ports of outgoing connections
# (Linux 32768, macOS 49152): a client that reconnects in a loop could otherwise
# connect to itself and hold the port of a server that is down.
_PORTS = range(15_000, 30_000)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    while True:
        port = random.choice(_PORTS)  # noqa: S311 - no secret
        if port_is_free(port):
            return port


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True


def kafka_answers(port: int, cluster_id: str, timeout: float = 1.0) -> bool:
    """Whether the broker of this cluster is there and in service.

    Asks DescribeCluster, whose answer lists a broker only once it takes requests.
    """
    header = struct.pack(">hhih", _DESCRIBE_CLUSTER, 0, 1, -1) + b"\0"
    try:
        body = _asked(port, _framed(header + b"\0\0"), timeout)
        return _describes(body, cluster_id)
    except (OSError, IndexError, ValueError):
        return False


def postgres_answers(port: int, timeout: float = 1.0) -> bool:
    """Whether a PostgreSQL is there that asks for the password; not while it recovers."""
    parameters = b"user\0postgres\0database\0postgres\0\0"
    hello = struct.pack(">ii", 8 + len(parameters), 196_608) + parameters
    try:
        with closing(socket.create_connection((_HOST, port), timeout)) as peer:
            peer.settimeout(timeout)
            peer.sendall(hello)
            kind, size = struct.unpack(">ci", _read(peer, 5))
            _read(peer, size - 4)  # a close with unread bytes would be an error in its log
            return bool(kind == b"R")
    except (OSError, struct.error):
        return False


def logs_in(database_url: str, timeout: float = 5.0) -> str | None:
    """Try to log in; return why not, or None. Without asyncpg nothing is tried."""
    if importlib.util.find_spec("asyncpg") is None:
        return None
    problems: list[str] = []

    # In a thread of its own: the caller's may have a running event loop.
    def attempt() -> None:
        try:
            asyncio.run(_log_in(database_url, timeout))
        except Exception as exc:  # any reason is an answer
            problems.append(str(exc) or type(exc).__name__)

    thread = threading.Thread(target=attempt, name="oddslog-login")
    thread.start()
    thread.join()
    return problems[0] if problems else None


async def _log_in(database_url: str, timeout: float) -> None:  # noqa: ASYNC109
    import asyncpg  # noqa: PLC0415 - only in the extra `sink`

    connection = await asyncpg.connect(database_url, timeout=timeout)
    try:
        await connection.fetchval("SELECT 1")
    finally:
        await connection.close()


def _framed(message: bytes) -> bytes:
    return struct.pack(">i", len(message)) + message


def _asked(port: int, request: bytes, timeout: float) -> bytes:
    with closing(socket.create_connection((_HOST, port), timeout)) as peer:
        peer.settimeout(timeout)
        peer.sendall(request)
        size = struct.unpack(">i", _read(peer, 4))[0]
        if not 0 < size < 1_000_000:
            raise ValueError("no Kafka answer")
        return _read(peer, size)


def _read(peer: socket.socket, size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        part = peer.recv(size - len(parts))
        if not part:
            raise ConnectionResetError
        parts += part
    return parts


def _describes(body: bytes, cluster_id: str) -> bool:
    """Read a DescribeCluster answer (version 0): our cluster, with a broker in it."""
    at = 4 + 1 + 4  # correlation id, no tags, throttle time
    if body[at : at + 2] != b"\0\0":
        return False
    at += 2
    at += max(body[at], 1)  # no error message: length + 1, or 0 for null
    size = body[at] - 1
    name = body[at + 1 : at + 1 + size]
    at += 1 + size + 4  # the controller's id
    return name == cluster_id.encode() and body[at] > 1
