"""`oddslog schema`: the shipped Avro schemas, beside the registry's and the golden files."""
# ruff: noqa: PLC0415 - loaded when the command runs

from pathlib import Path
from typing import Annotated

import typer

from .common import Json, Run, Topic, begin

__all__ = ["app"]

app = typer.Typer(help="Look at the Avro schemas.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command("check")
def check(
    golden: Annotated[
        Path | None,
        typer.Option(
            "--golden",
            metavar="FOLDER",
            help="Also decode golden files: a folder for each schema, with values as FILE.bin"
            " (in a checkout: tests/data/golden).",
        ),
    ] = None,
    topic: Topic = None,
    as_json: Json = False,
) -> None:
    """Compare the shipped schemas with the schema registry's, and with golden files.

    Exit code 0 where all agree (also where no registry is configured), 1 where
    something differs, 3 where the registry is away. Nothing is registered.

    Example: oddslog schema check --golden tests/data/golden
    """
    from .. import signals

    run = begin(as_json=as_json, topic=topic)
    raise typer.Exit(signals.run(_check(run, golden)))


async def _check(run: Run, golden: Path | None) -> int:
    from ..doctor.schemas import check_schemas
    from .findings import show_findings

    return show_findings(run, await check_schemas(run.settings, golden))
