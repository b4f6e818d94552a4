"""The tables of the results page, one a section, as Markdown. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .words import table

__all__ = ["TABLES"]

_Values = Mapping[str, Any]
_LOADS = {
    "raw_0_kb": "no raw response",
    "raw_2_kb": "2 KB raw",
    "raw_50_kb": "50 KB raw",
}


def _throughput(values: _Values) -> list[str]:
    return _side_by_side(
        "throughput, backlog to committed rows",
        values,
        (
            ("one object a row (ORM), rows/s", "orm_rows_a_second"),
            ("bare asyncpg COPY, rows/s", "copy_rows_a_second"),
            ("**sink, rows/s**", "sink_rows_a_second"),
            ("sink / COPY, median of the rounds", "sink_to_copy"),
            ("sink / ORM", "sink_to_orm"),
            ("the sink's own CPU time a row, µs", "sink_own_cpu_us_a_row"),
            ("market rows", "market_rows"),
        ),
    )


def _steady(values: _Values) -> list[str]:
    rows = [
        ("confirmations/s, as they are in the log", values.get("confirmations_a_second")),
        ("market rows/s beside them", values.get("market_rows_a_second")),
        ("confirmations in the log", values.get("confirmations")),
        ("updates, folded by poll", values.get("rows_updated")),
        ("share of them that changed no index (HOT)", values.get("hot_share")),
    ]
    for what, words in (
        ("rows", "snapshot rows"),
        ("heap_bytes", "bytes of the snapshots' tables"),
        ("index_bytes", "bytes of their indexes"),
    ):
        moments = [values.get(f"snapshot_{what}_{when}") for when in ("before", "after")]
        rows.append((f"{words}, before / after", moments))
    title = f"steady state, {values.get('cycles')} cycles, 85 % confirmations, from a backlog"
    return table([title, ""], rows)


def _latency(values: _Values) -> list[str]:
    title = f"`enqueue` to visible row, idle system, {values.get('samples')} samples"
    return table(
        [title, "ms"],
        [("median", values.get("median_ms")), ("99th percentile", values.get("p99_ms"))],
    )


def _ingest(values: _Values) -> list[str]:
    return _side_by_side(
        "ingest, encoded and acknowledged",
        values,
        (
            ("markets/s", "markets_a_second"),
            ("own CPU time a market, µs", "own_cpu_us_a_market"),
            ("longest block of the loop, ms", "longest_block_ms"),
        ),
    )


_PACES = ("rows/s", "first / middle / last third", "peak memory of one, MiB")


def _pace(values: _Values) -> list[Any]:
    return [values.get(name) for name in ("rows_a_second", "by_thirds", "peak_memory_mib")]


def _sinks(values: _Values) -> list[str]:
    title = f"sinks on a backlog of {values.get('market_rows'):,} rows, 2 KB raw"
    return table(
        [title, *_PACES],
        [(name.removesuffix("_sinks"), *_pace(one)) for name, one in _groups(values).items()],
    )


def _backlog(values: _Values) -> list[str]:
    return table(
        ["one sink on a long backlog", "market rows", *_PACES],
        [
            (_LOADS.get(load, load), one.get("market_rows"), *_pace(one))
            for load, one in _groups(values).items()
        ],
    )


def _growth(values: _Values) -> list[str]:
    return table(
        ["the sink, with so many market rows in the tables", "rows/s"],
        [
            (int(name.split("_")[1]), one.get("rows_a_second"))
            for name, one in _groups(values).items()
        ],
    )


def _again(values: _Values) -> list[str]:
    words = (
        ("`replay`, every row there already", "replay_of_what_is_there"),
        ("`replay` into empty tables", "replay_into_empty_tables"),
        ("`verify`", "verify"),
        ("`verify --quick`", "verify_quick"),
    )
    return table(
        [f"the log once more, {values.get('market_rows'):,} market rows, 2 KB raw", "rows/s"],
        [(said, values.get(f"{name}_rows_a_second")) for said, name in words],
    )


def _indexes(values: _Values) -> list[str]:
    return table(
        ["bare COPY, the market tables", "rows/s", "as it is = 1", "bytes of the index a row"],
        [
            (
                _variant(name),
                *(one.get(f) for f in ("copy_rows_a_second", "to_as_it_is", "index_bytes_a_row")),
            )
            for name, one in _groups(values).items()
        ],
    )


def _variant(name: str) -> str:
    columns = name.removeprefix("without_")
    if columns in (name, "any"):
        return name.replace("_", " ").replace("any", "any index")
    return f"without the index on `{columns}`"


def _documents(values: _Values) -> list[str]:
    return _side_by_side(
        f"documents of the market tables; they have `{values.get('as_migrated')}`",
        values,
        (
            ("bare COPY, rows/s", "copy_rows_a_second"),
            ("bytes of the tables a row, no indexes", "table_bytes_a_row"),
            ("an event's latest odds, ms", "latest_odds_of_an_event_ms"),
            ("one price over time, ms", "a_price_over_time_ms"),
            ("mean price of each market, whole table, ms", "mean_price_of_each_market_ms"),
        ),
    )


def _storage(values: _Values) -> list[str]:
    lines = table(
        ["storage", "load", "COPY, rows/s", "sink, rows/s", "bytes a snapshot"],
        [
            (choice.replace("_", " "), _LOADS.get(load, load), *(one.get(f) for f in _STORED))
            for load, choices in _groups(values).items()
            for choice, one in choices.items()
        ],
        left=2,
    )
    return lines if values.get("lz4_in_this_build") else [*lines, "", "lz4: not in this build."]


_STORED = ("copy_rows_a_second", "sink_rows_a_second", "table_bytes_a_snapshot")


def _peers(values: _Values) -> list[str]:
    return table(
        [
            f"programs, {values.get('market_rows'):,} market rows",
            "rows/s behind the first commit",
            "seconds from its start",
            "sink / it",
        ],
        [
            (
                " ".join((name.replace("_", " "), one.get("version", ""))).strip(),
                *(one.get(f) for f in ("rows_a_second", "seconds_from_start", "sink_to_it")),
            )
            for name, one in _groups(values).items()
        ],
    )


def _groups(values: _Values) -> dict[str, _Values]:
    return {name: one for name, one in values.items() if isinstance(one, Mapping)}


def _side_by_side(title: str, values: _Values, figures: Sequence[tuple[str, str]]) -> list[str]:
    columns = _groups(values)
    return table(
        [title, *(_LOADS.get(name, f"`{name}`") for name in columns)],
        [(words, *(one.get(name) for one in columns.values())) for words, name in figures],
    )


TABLES: dict[str, Callable[[_Values], list[str]]] = {
    "throughput": _throughput,
    "steady": _steady,
    "latency": _latency,
    "ingest": _ingest,
    "sinks": _sinks,
    "backlog": _backlog,
    "growth": _growth,
    "again": _again,
    "indexes": _indexes,
    "documents": _documents,
    "storage": _storage,
    "peers": _peers,
}
"""Each section's table."""
