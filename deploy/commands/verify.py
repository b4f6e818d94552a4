"""`oddslog verify`: the log against the tables."""
# ruff: noqa: PLC0415 - loaded when the command runs

from typing import TYPE_CHECKING, Annotated

import typer

from ...schemas.errors import ConfigurationError
from .common import (
    BootstrapServers,
    FromTime,
    Json,
    LogLevelOption,
    Partitions,
    Run,
    Schema,
    Topic,
    ToTime,
    begin,
    parse_time,
)

if TYPE_CHECKING:
    from ...sink.verify_state import VerifyOptions

__all__ = ["verify"]

_WHAT, _REPAIR = "What is compared", "Repairs"


def verify(
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Keys, counts of markets, hashes and confirmations; not what is in each market.",
            rich_help_panel=_WHAT,
        ),
    ] = False,
    no_raw: Annotated[
        bool,
        typer.Option("--no-raw", help="Leave out the raw responses.", rich_help_panel=_WHAT),
    ] = False,
    partition: Partitions = None,
    event: Annotated[
        str | None,
        typer.Option(
            metavar="KIND:ID",
            help="Only this event, as betpawa:123 or competitor:123.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    from_time: FromTime = None,
    to_time: ToTime = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Write what is missing, write again what is different, raise confirmations; then"
            " verify again.",
            rich_help_panel=_REPAIR,
        ),
    ] = False,
    delete_unexpected: Annotated[
        bool,
        typer.Option(
            "--delete-unexpected",
            help="With --repair: also delete rows, and take back confirmations, that the log does"
            " not have.",
            rich_help_panel=_REPAIR,
        ),
    ] = False,
    show: Annotated[
        int, typer.Option(min=1, max=100_000, metavar="N", help="Differences shown at most.")
    ] = 10,
    bootstrap_servers: BootstrapServers = None,
    topic: Topic = None,
    schema: Schema = None,
    log_level: LogLevelOption = None,
    as_json: Json = False,
) -> None:
    """Compare the log with the tables, row by row, and name what differs.

    Of the tables as they are at its start; the sink may go on. Everything below the
    ledger must be there and nothing else; dead letters, duplicates and the like are
    counted apart. While it runs, vacuum keeps what is deleted. Exit code 1: there
    are differences (with --repair: there still are).

    Example: oddslog verify --quick
    """
    from .. import signals
    from ..verifying import as_json as result_of
    from ..verifying import run_verify, say

    run = begin(
        as_json=as_json,
        bootstrap_servers=bootstrap_servers,
        topic=topic,
        database_schema=schema,
        log_level=log_level,
    )
    if delete_unexpected and not repair:
        raise ConfigurationError("--delete-unexpected goes with --repair")
    options = _options(
        run,
        quick=quick,
        no_raw=no_raw,
        partition=partition,
        event=event,
        from_time=from_time,
        to_time=to_time,
        repair=repair,
        delete_unexpected=delete_unexpected,
        show=show,
    )
    ended = signals.run(run_verify(run.settings, options, run.out))
    say(ended, run.out)
    run.out.result(result_of(ended))
    if not ended.equal:
        raise typer.Exit(1)


def _options(
    run: Run,
    *,
    quick: bool,
    no_raw: bool,
    partition: list[int] | None,
    event: str | None,
    from_time: str | None,
    to_time: str | None,
    repair: bool,
    delete_unexpected: bool,
    show: int,
) -> "VerifyOptions":
    from ...sink.replay_filters import parse_event
    from ...sink.verify_state import Event, VerifyOptions

    store_raw = run.settings.raw_response == "database"
    options = VerifyOptions(
        quick=quick,
        raw_response=store_raw and not no_raw,
        partitions=frozenset(partition) if partition else None,
        event=None if event is None else Event(*parse_event(event)),
        from_time=parse_time("--from-time", from_time),
        to_time=parse_time("--to-time", to_time),
        keep=show,
        repair=repair,
        delete_unexpected=delete_unexpected,
        store_raw=store_raw,
    )
    if delete_unexpected and options.filtered:
        raise ConfigurationError(
            "--delete-unexpected needs the whole log: leave out --partition, --event and the times"
        )
    return options
