"""`oddslog stack`: a real Kafka and a real PostgreSQL on this machine."""
# ruff: noqa: PLC0415 - loaded when the command runs

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...schemas.errors import UnreachableError
from ..settings import variable
from .common import Directory, Json, Run, begin

if TYPE_CHECKING:
    from ..stack import Servers, Stack

__all__ = ["app"]

app = typer.Typer(
    help="A real Kafka and a real PostgreSQL on this machine, for trying and developing.",
    no_args_is_help=True,
)

_DEFAULT = Path(".oddslog")


@app.command()
def up(directory: Directory = _DEFAULT, as_json: Json = False) -> None:
    """Bring both servers up; they stay up until `stack down`.

    Where they come from is ODDSLOG_STACK: docker containers, or processes of this
    user. Their data stays in the folder.

    Example: oddslog stack up && eval "$(oddslog stack env)"
    """
    run = begin(as_json=as_json)
    servers = _stack(run, directory).start(lambda line: run.out.note(f"  {line}"))
    _say_servers(run, servers)
    run.out.say('To use them in this shell: eval "$(oddslog stack env)"')


@app.command()
def down(
    directory: Directory = _DEFAULT,
    destroy: Annotated[bool, typer.Option("--destroy", help="Remove the data, too.")] = False,
    as_json: Json = False,
) -> None:
    """Take both servers down; the data stays.

    Example: oddslog stack down --destroy
    """
    run = begin(as_json=as_json)
    stack = _stack(run, directory)
    if destroy:
        stack.destroy()
    else:
        stack.stop()
    run.out.say("The servers are down" + (" and their data is gone" if destroy else ""))
    run.out.result({"running": False, "destroyed": destroy})


@app.command()
def status(directory: Directory = _DEFAULT, as_json: Json = False) -> None:
    """Say whether both servers answer, and where. Exit code 3 where they do not.

    Example: oddslog stack status
    """
    run = begin(as_json=as_json)
    _say_servers(run, _running(run, directory))


@app.command()
def env(directory: Directory = _DEFAULT) -> None:
    """Print the servers' addresses as `export` lines, with the password.

    Example: eval "$(oddslog stack env)"
    """
    servers = _running(begin(), directory)
    for field, value in (
        ("bootstrap_servers", servers.bootstrap_servers),
        ("database_url", servers.database_url),
    ):
        typer.echo(f"export {variable(field)}={shlex.quote(value)}")


def _stack(run: Run, directory: Path) -> "Stack":
    from ..stack import open_stack

    url = run.settings.database_url
    return open_stack(
        run.settings.stack,
        directory,
        bootstrap_servers=run.settings.bootstrap_servers,
        database_url=None if url is None else url.get_secret_value(),
    )


def _running(run: Run, directory: Path) -> "Servers":
    servers = _stack(run, directory).running()
    if servers is None:
        raise UnreachableError(
            f"the stack in {directory} is not up; bring it up with: oddslog stack up"
            + ("" if directory == _DEFAULT else f" --directory {shlex.quote(str(directory))}")
        )
    return servers


def _say_servers(run: Run, servers: "Servers") -> None:
    from ..database import safe_url

    values = {
        "kind": servers.kind,
        "bootstrap_servers": servers.bootstrap_servers,
        "database_url": safe_url(servers.database_url),
    }
    run.out.facts(
        [
            ("kind", servers.kind),
            ("Kafka", servers.bootstrap_servers),
            ("PostgreSQL", values["database_url"]),
        ],
        title="Both servers are up",
    )
    run.out.result({"running": True, **values})
