"""Other makers' programs on the same rows: Quix Streams and Pathway, each as it comes.

Each reads one message of JSON a market row, and writes it into a table with the columns
and indexes of a market table. Neither looks for duplicates or keeps a ledger.
"""

import asyncio
import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine

from ...schemas.codec import snapshot_part
from ...schemas.connection import KafkaConnection
from ...schemas.errors import ConfigurationError, OddslogError
from ..console import Out
from .load import Load, feed_topic
from .pace import Look, rate_after_first
from .peer_feed import Row, feed_rows
from .place import Place
from .plan import Plan
from .processes import catch_up, running, watch

__all__ = ["libpq", "librdkafka", "market_rows", "missing_peers", "peers", "require_peers"]

_TABLE = "peer_rows"
# Ten times what the slower of them takes of 400,000 rows.
_MOST_SECONDS = 600.0
_OURS = "sink"


@dataclass(frozen=True)
class _Peer:
    """A program, the module that runs it, and what its table has besides the rows."""

    name: str
    package: str
    module: str
    more_columns: tuple[str, ...] = ()


_PEERS = (
    _Peer("quix_streams", "quixstreams", "oddslog.deploy.bench.peer_quix"),
    _Peer(
        "pathway",
        "pathway",
        "oddslog.deploy.bench.peer_pathway",
        ('ADD COLUMN "time" bigint', "ADD COLUMN diff smallint"),
    ),
)


def missing_peers() -> list[str]:
    """The packages that are not installed."""
    return [peer.package for peer in _PEERS if find_spec(peer.package) is None]


def require_peers() -> None:
    """See that they are installed.

    Raises:
        ConfigurationError: one is not.
    """
    if missing_peers():
        raise ConfigurationError(
            f"the section `peers` needs {' and '.join(missing_peers())}: install oddslog[peers]"
            " into an environment of its own, as `make bench-peers` does"
        )


async def peers(place: Place, plan: Plan, out: Out) -> dict[str, Any]:
    """Rows a second of a backlog of this sink and of the others, in turns."""
    require_peers()
    load = Load.of(plan.events, 0)
    topic, flat_topic = await place.topic(), await place.topic()
    await feed_topic(place, topic, load.batches)
    settings = librdkafka(place.settings.kafka())
    await asyncio.to_thread(feed_rows, settings, flat_topic, market_rows(load))
    found: dict[str, list[list[Look]]] = {_OURS: [], **{peer.name: [] for peer in _PEERS}}
    for number in range(1, plan.rounds + 1):
        async with place.tables() as (engine, schema):
            looks, _ = await catch_up(place, engine, schema, topic, 1, load.markets)
        found[_OURS].append(looks)
        for peer in _PEERS:
            found[peer.name] += await _run(place, peer, flat_topic, load.markets, out)
        for name, all_ in found.items():
            paces = f"{rate_after_first(all_[-1]):,.0f} market rows/s" if all_ else "no figure"
            out.note(f"round {number}, {name.replace('_', ' ')}: {paces}")
    return {
        "market_rows": load.markets,
        _OURS: _summed(found[_OURS]),
        **{peer.name: _summed(found[peer.name], found[_OURS], peer) for peer in _PEERS},
    }


def _summed(
    runs: list[list[Look]], ours: Sequence[list[Look]] = (), peer: _Peer | None = None
) -> dict[str, Any]:
    """The medians of a program's runs; all None where it wrote nothing."""
    median = statistics.median(map(rate_after_first, runs)) if runs else None
    seconds = statistics.median(looks[-1][0] for looks in runs) if runs else None
    found: dict[str, Any] = {
        "rows_a_second": None if median is None else round(median),
        "seconds_from_start": None if seconds is None else round(seconds, 1),
    }
    if peer is not None:
        times = None if median is None else statistics.median(map(rate_after_first, ours)) / median
        found["sink_to_it"] = None if times is None else round(times, 2)
        found["version"] = version(peer.package)
    return found


def market_rows(load: Load) -> Iterator[Row]:
    """The rows of a load; a snapshot's have its number as their key.

    What is null is 0 or empty: Quix Streams leaves a column out of a whole batch where the
    first row has none.
    """
    number = 0
    for batch in load.batches:
        snapshots: list[Any] = [*batch.changed_betpawa, *batch.changed_competitor]
        for snapshot in snapshots:
            number += 1
            at = snapshot.captured_at.isoformat(timespec="microseconds")
            for market in snapshot_part(snapshot).record["markets"]:
                row = {
                    "snapshot_id": number,
                    "captured_at": at,
                    **market,
                    "line": market["line"] or 0.0,
                    "handicap_type": market["handicap_type"] or "",
                    "handicap_home": market["handicap_home"] or 0.0,
                    "handicap_away": market["handicap_away"] or 0.0,
                    "outcomes": json.loads(market["outcomes"]),
                    "market_groups": json.loads(market["market_groups"] or "[]"),
                }
                yield str(number).encode(), json.dumps(row).encode()


async def _run(place: Place, peer: _Peer, topic: str, markets: int, out: Out) -> list[list[Look]]:
    """The looks of one run; none, and a warning, where it did not write all rows."""
    async with place.tables() as (engine, schema):
        await _make_table(engine, peer)
        given = json.dumps(
            {
                "kafka": librdkafka(place.settings.kafka()),
                "topic": topic,
                "group": place.name(),
                "database": libpq(place.settings.require_database_url()),
                "schema": schema,
                "table": _TABLE,
            }
        ).encode()
        # Its ids count from 1: reading the highest takes no time.
        written = text(f"SELECT coalesce(max(id), 0) FROM {_TABLE}")  # noqa: S608 - ours
        try:
            async with running([(peer.module, (), given)]) as processes:
                looks = await watch(engine, written, processes, markets, _MOST_SECONDS)
        except OddslogError as error:
            out.warn(f"{peer.package}: {error}")
            return []
        return [looks]


async def _make_table(engine: AsyncEngine, peer: _Peer) -> None:
    async with engine.begin() as connection:
        await connection.execute(text(f"CREATE TABLE {_TABLE} (LIKE market_odds INCLUDING ALL)"))
        if peer.more_columns:
            await connection.execute(text(f"ALTER TABLE {_TABLE} {', '.join(peer.more_columns)}"))


def librdkafka(connection: KafkaConnection) -> dict[str, str]:
    """A connection in the words of librdkafka, which the others use."""
    words = {
        "bootstrap.servers": connection.bootstrap_servers,
        "security.protocol": connection.security_protocol.lower(),
        "ssl.ca.location": connection.ssl_cafile,
        "ssl.certificate.location": connection.ssl_certfile,
        "ssl.key.location": connection.ssl_keyfile,
        "ssl.key.password": connection.ssl_keyfile_password,
    }
    if connection.security_protocol.startswith("SASL"):
        words |= {
            "sasl.mechanism": connection.sasl_mechanism,
            "sasl.username": connection.sasl_username,
            "sasl.password": connection.sasl_password,
        }
    return {name: value for name, value in words.items() if value is not None}


def libpq(database_url: str) -> dict[str, str]:
    """A URL as parameters of a libpq connection."""
    url = make_url(database_url)
    words = {
        "host": url.host,
        "port": str(url.port or 5432),
        "dbname": url.database,
        "user": url.username,
        "password": url.password,
        **{name: value for name, value in url.query.items() if isinstance(value, str)},
    }
    return {name: value for name, value in words.items() if value}
