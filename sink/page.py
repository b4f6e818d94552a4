"""The page: one small HTML document that shows whatever status has. Pure.

It renders the keys that are there, so that what `status` learns shows up here too:
a list of objects is a table, an object a list of facts, all else one fact.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

from .page_style import SCRIPT, STYLE

__all__ = ["render_page"]

_KIB = 1024.0
# Shown at the top or told by the headline, so not once more.
_TOLD = {"topic", "group", "partitions", "members", "errors", "at", "wrong_log"}
_HEADLINE = (
    "lag_records",
    "lag_seconds",
    "catch_up_seconds",
    "written_per_second",
    "pending_confirmations",
    "database_bytes",
)
_FIRST = ("partition", "lag_records", "lag_seconds")
_TITLES = {"lag_records": "lag, records", "lag_seconds": "lag, time"}
_SHOWN_TOTALS = ("records", "snapshots", "markets", "confirmations")
_MOST_ROWS = 200


def render_page(gathered: Mapping[str, Any], nonce: str) -> str:
    """The document; scripts and styles carry the nonce. Every value is escaped."""
    overview: Mapping[str, Any] = gathered.get("overview") or {}
    sink: Mapping[str, Any] = gathered.get("sink") or {}
    sections = [
        _header(gathered, overview),
        _banners(gathered, overview),
        _headline(overview, sink),
        _table("Partitions", _with_ages(overview), bar=True),
        _own_partitions(overview, sink),
        _table("Members", overview.get("members")),
        *_others(overview),
        _sink(sink),
        _footer(gathered),
    ]
    body = "\n".join(section for section in sections if section)
    title = f"oddslog sink: {'ready' if gathered.get('ready') else 'not ready'}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<noscript><meta http-equiv="refresh" content="10"></noscript>'
        '<link rel="icon" href="data:,">'
        f"<title>{title}</title>"
        f'<style nonce="{escape(nonce)}">{STYLE}</style></head>\n'
        f'<body><main id="page" data-title="{title}">\n{body}\n</main>'
        f'<script nonce="{escape(nonce)}">{SCRIPT}</script></body></html>\n'
    )


def _header(gathered: Mapping[str, Any], overview: Mapping[str, Any]) -> str:
    ready = bool(gathered.get("ready"))
    pill = f'<span class="pill {"good" if ready else "bad"}">{"ready" if ready else "not ready"}'
    where = [f"{name} {_text(overview[name])}" for name in ("topic", "group") if name in overview]
    return (
        f"<header><h1>oddslog sink</h1>{pill}</span>"
        f'<p class="where">{" · ".join(where)}</p></header>'
    )


def _banners(gathered: Mapping[str, Any], overview: Mapping[str, Any]) -> str:
    bad = [_text(problem) for problem in gathered.get("problems") or ()]
    errors = overview.get("errors")
    if isinstance(errors, Mapping):
        bad += [f"<b>{_text(name)}:</b> {_text(error)}" for name, error in errors.items()]
    if overview.get("wrong_log"):
        bad.append(_text(overview["wrong_log"]))
    if gathered.get("overview_error"):
        bad.append(_text(gathered["overview_error"]))
    shown = "".join(f'<p class="banner">{line}</p>' for line in bad)
    if not overview and not gathered.get("overview_error"):
        shown += '<p class="banner mild">Asking the servers; this page comes again by itself.</p>'
    return shown


def _headline(overview: Mapping[str, Any], sink: Mapping[str, Any]) -> str:
    """The numbers to look at first, as cards."""
    cards = [
        (_title(name), _value(name, overview[name]), "")
        for name in _HEADLINE
        if overview.get(name) is not None or (name == "lag_records" and name in overview)
    ]
    letters = overview.get("dead_letters")
    if isinstance(letters, Sequence):
        # Those that were written, redriven or discarded since are history.
        dead = [row for row in letters if isinstance(row, Mapping) and row.get("status") == "dead"]
        total = sum(row.get("letters", 0) for row in dead)
        cards.append(("dead letters", _value("", total), "bad" if total else ""))
    if overview.get("lag_records") is None and sink.get("partitions"):
        lags = [row.get("lag_records") for row in sink["partitions"]]
        known = [lag for lag in lags if lag is not None]
        cards.append(("lag of this member", _value("", sum(known) if known else None), ""))
    return _cards(cards)


def _with_ages(overview: Mapping[str, Any]) -> Any:
    """The partitions, where the time of their last write is how long ago that was."""
    rows: Any = overview.get("partitions")
    now = _time(overview.get("at"))
    if now is None or not _is_rows(rows):
        return rows
    return [
        {name: value for name, value in row.items() if name != "updated_at"}
        | {"written": None if at is None else f"{_duration((now - at).total_seconds())} ago"}
        for row in rows
        for at in [_time(row.get("updated_at"))]
    ]


def _own_partitions(overview: Mapping[str, Any], sink: Mapping[str, Any]) -> str:
    """As this member remembers them, where not everybody could be asked."""
    if overview and not overview.get("errors"):
        return ""
    return _table("Partitions of this member, as it knows them", sink.get("partitions"), bar=True)


def _cards(cards: Sequence[tuple[str, str, str]]) -> str:
    shown = "".join(
        f'<div class="card {mark}"><dt>{_text(name)}</dt><dd>{value}</dd></div>'
        for name, value, mark in cards
    )
    return f'<dl class="cards">{shown}</dl>' if shown else ""


def _others(overview: Mapping[str, Any]) -> list[str]:
    """What has no place of its own above, in the order it came."""
    sections: list[str] = []
    facts: list[tuple[str, Any]] = []
    for name, value in overview.items():
        if name in _TOLD or name in _HEADLINE:
            continue
        if _is_rows(value):
            sections.append(_table(_title(name).capitalize(), value))
        elif value == [] or value is None:
            continue  # none of it, or a banner says why nobody knows
        elif isinstance(value, Mapping):
            sections.append(_facts(_title(name).capitalize(), list(value.items())))
        else:
            facts.append((name, value))
    return [*sections, _facts("Log and database", facts)]


def _sink(sink: Mapping[str, Any]) -> str:
    if not sink:
        return ""
    totals: Mapping[str, Any] = sink.get("totals") or {}
    facts = [
        (name, value)
        for name, value in sink.items()
        if name not in ("totals", "partitions", "retrying") and value and not _is_rows(value)
    ]
    facts += [(f"{place} fails", why) for place, why in sink.get("retrying", {}).items()]
    facts += [(name, value) for name, value in totals.items() if value or name in _SHOWN_TOTALS]
    return _facts("This member since its start", facts)


def _footer(gathered: Mapping[str, Any]) -> str:
    age = gathered.get("overview_age_seconds")
    asked = "" if age is None else f", servers asked {_text(age)} s before"
    told = f"oddslog {_text(gathered.get('version'))}, {_value('', gathered.get('at'))}{asked}"
    links = " ".join(
        f'<a href="{path}">{path}</a>' for path in ("/metrics", "/readyz", "/livez", "/status.json")
    )
    return f'<footer><p>{told}<span id="stale"></span></p><p>{links}</p></footer>'


def _table(title: str, rows: Any, *, bar: bool = False) -> str:
    if not _is_rows(rows):
        return ""
    known = dict.fromkeys(name for row in rows for name in row)
    # What is looked for comes first: on a phone, the rest is to be scrolled to.
    names = [*(name for name in _FIRST if name in known), *(n for n in known if n not in _FIRST)]
    # Nothing is known of it in any row: no column.
    names = [name for name in names if any(row.get(name) is not None for row in rows)]
    most = max((_number(row.get("lag_records")) for row in rows), default=0.0) if bar else 0.0
    head = "".join(f"<th{_class(rows, name)}>{_text(_title(name))}</th>" for name in names)
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{_class(rows, name)}>{_value(name, row.get(name))}"
            f"{_bar(row, most) if name == 'lag_records' else ''}</td>"
            for name in names
        )
        + "</tr>"
        for row in rows[:_MOST_ROWS]
    )
    # Rows of one line, but for lists: those may be long.
    lists = any(isinstance(value, list | tuple) for row in rows for value in row.values())
    opening = "<table>" if lists else '<table class="tight">'
    left = len(rows) - _MOST_ROWS
    more = f"<p>and {left} more, see <a href=/status.json>/status.json</a></p>" if left > 0 else ""
    return (
        f'<section><h2>{_text(title)}</h2><div class="scroll">{opening}'
        f"<thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>{more}</section>"
    )


def _bar(row: Mapping[str, Any], most: float) -> str:
    """How the lags compare, as a bar; without a style attribute, which the policy forbids."""
    lag = _number(row.get("lag_records"))
    return "" if not lag or not most else f'<meter max="{most:g}" value="{lag:g}"></meter>'


def _facts(title: str, facts: Sequence[tuple[str, Any]]) -> str:
    shown = "".join(
        f"<div><dt>{_text(_title(name))}</dt><dd>{_value(name, value)}</dd></div>"
        for name, value in facts
    )
    return (
        f'<section><h2>{_text(title)}</h2><dl class="facts">{shown}</dl></section>' if shown else ""
    )


def _is_rows(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and bool(value)
        and all(isinstance(row, Mapping) for row in value)
    )


def _class(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    values = [row.get(name) for row in rows]
    numbers = all(value is None or isinstance(value, int | float) for value in values)
    return ' class="number"' if numbers else ""


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _title(name: str) -> str:
    """A key in words; the unit goes with the value."""
    if name in _TITLES:
        return _TITLES[name]
    for unit in ("_bytes", "_seconds"):
        name = name.removesuffix(unit)
    return name.replace("_", " ")


def _value(name: str, value: Any) -> str:
    """A value in words, escaped."""
    if value is None:
        return '<span class="none">unknown</span>'
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return _text(_quantity(name, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{_text(key)} {_value(str(key), each)}" for key, each in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_value("", each) for each in value) or '<span class="none">none</span>'
    return _text(_moment(str(value)))


def _quantity(name: str, value: float) -> str:
    if name.endswith("_bytes"):
        return _bytes(float(value))
    if name.endswith("_seconds"):
        return _duration(float(value))
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _bytes(value: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < _KIB:
            return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"
        value /= _KIB
    return f"{value:,.1f} TiB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds else "0 s"
    minutes = seconds / 60
    return f"{minutes:,.0f} min" if minutes < 120 else f"{minutes / 60:,.1f} h"


def _time(value: Any) -> datetime | None:
    """The aware time that a text is."""
    if not isinstance(value, str) or value[4:5] != "-" or "T" not in value:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def _moment(value: str) -> str:
    """A time as people write it; any other text as it is."""
    moment = _time(value)
    return value if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S %Z").strip()


def _text(value: Any) -> str:
    return escape(str(value), quote=True)
