"""What the project wants to reach, and whether a run of the bench did. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .words import number

__all__ = ["TARGETS", "Target", "verdicts"]

_LOADS = (("raw_0_kb", ""), ("raw_50_kb", " with 50 KB raw"))
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Target:
    """A bound on figures.

    Attributes:
        words: what is wanted.
        figures: of the results, by path; with what is said behind each.
        least: what each must reach; None where `most` counts.
        most: what none may exceed.
        unit: behind a figure.
        factor: from the unit of the figures to that of the bound.
    """

    words: str
    figures: tuple[tuple[str, str], ...]
    least: float | None = None
    most: float | None = None
    unit: str = ""
    factor: float = 1.0

    def met(self, figure: float) -> bool:
        """Whether a figure is within the bound."""
        value = figure * self.factor
        return (self.least is None or value >= self.least) and (
            self.most is None or value <= self.most
        )


def _of_loads(section: str, figure: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"{section}.{load}.{figure}", words) for load, words in _LOADS)


TARGETS = (
    Target(
        "sink at least 0.85 of bare COPY of the same rows",
        _of_loads("throughput", "sink_to_copy"),
        least=0.85,
    ),
    Target("at least 8 times one object a row (ORM)", _of_loads("throughput", "sink_to_orm"), 8),
    Target(
        "own CPU time at most 6 µs a market row",
        _of_loads("throughput", "sink_own_cpu_us_a_row"),
        most=6,
        unit=" µs",
    ),
    Target(
        "ahead of Quix Streams and Pathway",
        (
            ("peers.quix_streams.sink_to_it", " beside Quix Streams"),
            ("peers.pathway.sink_to_it", " beside Pathway"),
        ),
        least=1,
    ),
    Target(
        "latency in an idle system under 50 ms, median",
        (("latency.median_ms", ""),),
        most=50,
        unit=" ms",
    ),
    Target(
        "ingest at least 200,000 markets a second",
        _of_loads("ingest", "markets_a_second"),
        least=200_000,
    ),
    Target(
        "the scraper's loop blocked at most 10 ms",
        _of_loads("ingest", "longest_block_ms"),
        most=10,
        unit=" ms",
    ),
    Target(
        "a long backlog's last third at least 0.9 times as fast as its first",
        (
            ("backlog.raw_2_kb.last_to_first", " with 2 KB raw"),
            ("backlog.raw_50_kb.last_to_first", " with 50 KB raw"),
        ),
        least=0.9,
    ),
    Target(
        "peak memory of a sink under 300 MB",
        (
            ("backlog.raw_2_kb.peak_memory_mib", " with 2 KB raw"),
            ("backlog.raw_50_kb.peak_memory_mib", " with 50 KB raw"),
        ),
        most=300,
        unit=" MiB",
        factor=_MIB / 1e6,
    ),
)


def verdicts(sections: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Each target in words, what was found, and whether it was met."""
    for target in TARGETS:
        found = [
            (figure, words)
            for path, words in target.figures
            if (figure := _figure(sections, path)) is not None
        ]
        shown = "; ".join(f"{number(figure)}{target.unit}{words}" for figure, words in found)
        missed = [words for figure, words in found if not target.met(figure)]
        yield target.words, shown or "-", _verdict(len(found), missed)


def _verdict(found: int, missed: list[str]) -> str:
    if not found:
        return "not measured"
    if not missed:
        return "met"
    if len(missed) == found:
        return "**missed**"
    return f"**missed**{' and'.join(words or ' without raw responses' for words in missed)}"


def _figure(sections: Mapping[str, Any], path: str) -> Any:
    value: Any = sections
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
