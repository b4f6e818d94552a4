"""`oddslog bench`: how fast it is on your servers."""
# ruff: noqa: PLC0415 - loaded when the command runs

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .common import Directory, Json, LogLevelOption, StackOption, begin

__all__ = ["bench"]

_DEFAULT = Path(".oddslog")
_RESULTS = Path("oddslog-bench")


class Section(StrEnum):
    """The choices of `--section`."""

    THROUGHPUT = "throughput"
    STEADY = "steady"
    LATENCY = "latency"
    INGEST = "ingest"
    SINKS = "sinks"
    BACKLOG = "backlog"
    GROWTH = "growth"
    AGAIN = "again"
    INDEXES = "indexes"
    DOCUMENTS = "documents"
    STORAGE = "storage"
    PEERS = "peers"


def bench(
    events: Annotated[
        int, typer.Option(metavar="N", min=10, help="Events of the load, 340 market rows each.")
    ] = 1200,
    rounds: Annotated[
        int, typer.Option(metavar="N", min=1, help="How often each way runs; medians count.")
    ] = 3,
    cycles: Annotated[
        int, typer.Option(metavar="N", min=1, help="Cycles of the steady state.")
    ] = 20,
    backlog: Annotated[
        int, typer.Option(metavar="N", min=1, help="Market rows of the long backlog.")
    ] = 1_000_000,
    grow_to: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="Market rows up to which the tables grow, 320 bytes each."
        ),
    ] = 3_000_000,
    section: Annotated[
        list[Section] | None,
        typer.Option(metavar="NAME", help="Only this part; may be repeated."),
    ] = None,
    to: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where the results are written.")
    ] = _RESULTS,
    stack: StackOption = None,
    directory: Directory = _DEFAULT,
    log_level: LogLevelOption = None,
    as_json: Json = False,
) -> None:
    """Measure the path on your servers, beside ORM and bare COPY of the same rows.

    Throughput, steady state, latency, ingest, several sinks, a long backlog, growing
    tables, the log once more (replay, verify), and the price of indexes, of `jsonb` and
    of compression, in schemas and topics of its own, which are dropped afterwards. The
    user needs the right to make schemas, and topics. Writes bench.json, bench.md and
    bench.svg.

    Example: oddslog bench --stack env --section throughput
    """
    from ..bench.kit import bench as run_bench
    from ..bench.peers import missing_peers
    from ..bench.plan import SECTIONS, Plan
    from ..bench.report import rows

    run = begin(as_json=as_json, default_level="error", stack=stack, log_level=log_level)
    sections = tuple(map(str, section or ()))
    if not sections:
        sections = tuple(name for name in SECTIONS if name != "peers" or not missing_peers())
    plan = Plan(events, rounds, cycles, backlog, grow_to, sections)
    results = run_bench(run.settings, plan, directory, to, run.out)
    for name, values in results.sections.items():
        run.out.facts(list(rows(values)), title=name.capitalize())
    run.out.note(f"Written to {to}")
    run.out.result(results.as_json())
