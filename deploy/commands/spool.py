"""`oddslog spool`: what Kafka has not taken yet, on the local disk."""
# ruff: noqa: PLC0415 - loaded when the command runs

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .common import BootstrapServers, Json, LogLevelOption, SpoolDir, Topic, begin

__all__ = ["app"]

app = typer.Typer(
    help="The spool: fragments on the local disk that Kafka has not taken yet.",
    no_args_is_help=True,
)

_MOST_LINES = 50


@app.command("status")
def status(spool_dir: SpoolDir = None, as_json: Json = False) -> None:
    """Show what is in the spool, and why some of it will never be sent.

    A queue may be using it. Needs no Kafka.

    Example: oddslog spool status --json
    """
    from ...ingest.spool_look import look_at_spool
    from ..spooling import require_spool

    run = begin(as_json=as_json, spool_dir=spool_dir)
    directory = require_spool(run.settings)
    found = look_at_spool(directory)
    run.out.facts(
        [
            ("in use", found.in_use),
            ("fragments", found.fragments),
            ("bytes", found.bytes),
            ("of at most", run.settings.spool_bytes),
            ("oldest", None if found.oldest_at is None else found.oldest_at.isoformat(" ")),
            ("rejected", found.rejected),
            ("bytes rejected", found.rejected_bytes),
            ("bytes on the disk", found.file_bytes),
        ],
        title=f"Spool in {directory}",
    )
    for reason, count in found.reasons.items():
        run.out.say(f"rejected: {count:,}: {reason}", style="red")
    for name in found.damaged_files:
        run.out.say(f"put aside, damaged: {name}", style="red")
    run.out.result(
        {
            "directory": str(directory),
            "max_bytes": run.settings.spool_bytes,
            **asdict(found),
            "oldest_at": None if found.oldest_at is None else found.oldest_at.isoformat(),
        }
    )


@app.command("drain")
def drain(
    spool_dir: SpoolDir = None,
    bootstrap_servers: BootstrapServers = None,
    topic: Topic = None,
    log_level: LogLevelOption = None,
    as_json: Json = False,
) -> None:
    """Send everything in the spool to Kafka, in order, and end.

    For a spool that no queue uses: a running queue drains its own. Exit code 1
    where the brokers will never take some of it, which is rejected then.

    Example: oddslog spool drain --spool-dir /var/lib/scraper/spool
    """
    from ...ingest.spool_look import look_at_spool
    from .. import signals
    from ..logs import let_libraries_log
    from ..spooling import Drained, require_spool
    from ..spooling import drain as send

    run = begin(
        as_json=as_json,
        spool_dir=spool_dir,
        bootstrap_servers=bootstrap_servers,
        topic=topic,
        log_level=log_level,
    )
    directory = require_spool(run.settings)

    async def work() -> Drained:
        let_libraries_log()
        with run.out.meter("drain", look_at_spool(directory).fragments, "fragments") as meter:
            return await send(run.settings, directory, meter)

    drained = signals.run(work())
    run.out.say(f"{drained.fragments:,} fragments are in topic {run.settings.topic}")
    if drained.rejected:
        run.out.say(f"{drained.rejected:,} were rejected; see: oddslog spool status", style="red")
    run.out.result(asdict(drained))
    raise typer.Exit(1 if drained.rejected else 0)


@app.command("verify")
def verify(spool_dir: SpoolDir = None, as_json: Json = False) -> None:
    """Check the spool's file, the CRC-32 of every fragment, and that each can be decoded.

    Nothing is changed, and a queue may be using it. Needs no Kafka. Exit code 1
    where something is wrong.

    Example: oddslog spool verify
    """
    from ...ingest.spool_look import check_spool
    from ..spooling import require_spool

    run = begin(as_json=as_json, spool_dir=spool_dir)
    directory = require_spool(run.settings)
    with run.out.busy(f"checking {directory}"):
        found = check_spool(directory)
    for problem in found.problems[:_MOST_LINES]:
        run.out.say(f"wrong: {problem}", style="red")
    if len(found.problems) > _MOST_LINES:
        run.out.say(f"and {len(found.problems) - _MOST_LINES:,} more", style="red")
    if not found.problems:
        run.out.say(f"{found.fragments:,} fragments with {found.snapshots:,} snapshots are whole")
    run.out.result({**asdict(found), "fine": not found.problems})
    raise typer.Exit(1 if found.problems else 0)


@app.command("export")
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Made anew, as lines of JSON.")],
    everything: Annotated[
        bool, typer.Option("--all", help="Also what still waits to be sent.")
    ] = False,
    remove_rejected: Annotated[
        bool,
        typer.Option(
            "--remove-rejected", help="Then remove the rejected ones from the spool, for good."
        ),
    ] = False,
    spool_dir: SpoolDir = None,
    as_json: Json = False,
) -> None:
    """Write what was rejected to a file, one JSON object a line, the value in base64.

    A queue may be using it, but not with --remove-rejected. Needs no Kafka.

    Example: oddslog spool export rejected.ndjson
    """
    from ..spooling import export as write
    from ..spooling import require_spool

    run = begin(as_json=as_json, spool_dir=spool_dir)
    directory = require_spool(run.settings)
    done = write(directory, file, everything=everything, remove=remove_rejected)
    run.out.say(
        f"{done.rejected:,} rejected"
        + (f" and {done.waiting:,} waiting" if everything else "")
        + f" are in {file}"
        + (f"; {done.removed:,} were removed from the spool" if remove_rejected else "")
    )
    run.out.result({"file": str(file), **asdict(done)})
