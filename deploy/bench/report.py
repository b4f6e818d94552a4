"""What a bench found, for people: tables in Markdown and one plot. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from .plan import Results
from .tables import TABLES
from .targets import verdicts
from .words import number, table

__all__ = ["markdown", "plot"]

_SERVERS = {
    "env": "configured servers",
    "docker": "servers in containers",
    "local": "servers as processes",
}
_WIDTH, _ROW, _LABEL, _BAR = 720, 34, 190, 400


def markdown(results: Results) -> str:
    """The figures of the results page: where from, a table a section, and the targets."""
    machine = results.machine
    lines = [
        f"oddslog {machine.get('oddslog')}, Python {machine.get('python')}, PostgreSQL"
        f" {machine.get('postgresql')} ({_SERVERS.get(machine.get('servers', ''))});"
        f" {machine.get('system')}, load average at the start"
        f" {number(machine.get('load_average'))}. Loads of {number(machine.get('events'))} events,"
        f" {machine.get('rounds')} rounds, medians."
    ]
    for name, values in results.sections.items():
        lines += TABLES[name](values)
    lines += table(["target", "found", ""], verdicts(results.sections), left=3)
    return "\n".join([*lines, ""])


def rows(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Each figure with its name in words."""
    for name, value in values.items():
        words = f"{prefix}{name.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from rows(value, f"{words}: ")
        else:
            yield words, number(value)


def plot(results: Results) -> str | None:
    """The ways' rates as bars, in SVG; None where they were not measured."""
    bars = [
        (f"{way}, raw {load.removeprefix('raw_').replace('_', ' ').upper()}", float(rate))
        for load, values in results.sections.get("throughput", {}).items()
        for way in ("orm", "copy", "sink")
        if (rate := values.get(f"{way}_rows_a_second"))
    ]
    bars += [
        (f"{name.replace('_', ' ')}, own table", float(rate))
        for name, values in results.sections.get("peers", {}).items()
        if isinstance(values, Mapping) and "version" in values
        if (rate := values.get("rows_a_second"))
    ]
    return _bars("Market rows a second", bars) if bars else None


def _bars(title: str, bars: Sequence[tuple[str, float]]) -> str:
    most = max(rate for _, rate in bars)
    height = _ROW * (len(bars) + 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
        ' font-family="sans-serif" font-size="14">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="16" y="26" font-weight="bold">{escape(title)}</text>',
    ]
    for place, (label, rate) in enumerate(bars, start=1):
        y = place * _ROW + 10
        width = max(1.0, rate / most * _BAR)
        parts += [
            f'<text x="{_LABEL - 10}" y="{y + 17}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{_LABEL}" y="{y}" width="{width:.0f}" height="24" fill="#3b6ea5"/>',
            f'<text x="{_LABEL + width + 8:.0f}" y="{y + 17}">{rate:,.0f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
