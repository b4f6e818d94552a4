"""The README's tables against the code: what is there is listed, with its default."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from oddslog.deploy.app import app
from oddslog.deploy.settings import Settings, variable

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def rows_of(table: str) -> dict[str, list[str]]:
    """The rows between a table's markers, by their first cell."""
    (text,) = re.findall(
        rf"<!-- {table}: begin.*?-->\n(.*?)<!-- {table}: end -->", README, re.DOTALL
    )
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines()]
    return {row[0].strip(" `"): row for row in rows[2:]}


def commands(command: Any, path: str) -> Iterator[str]:
    """Every command that does something, with the names that lead to it."""
    if not getattr(command, "commands", None):
        yield path
        return
    for name, inner in command.commands.items():
        yield from commands(inner, f"{path} {name}")


def test_settings_table_names_every_setting_and_its_default() -> None:
    """A setting that is added, dropped or changed has to be so in the README."""
    rows = rows_of("settings")
    assert list(rows) == [variable(name) for name in Settings.model_fields]
    for name, field in Settings.model_fields.items():
        default = rows[variable(name)][1]
        said = "none" if field.default is None else f"`{field.default}`"
        assert default.startswith(said), f"{name}: the README says {default}, the code {said}"


def test_commands_table_names_every_command() -> None:
    """A command that is added or dropped has to be so in the README."""
    assert set(rows_of("commands")) == set(commands(typer.main.get_command(app), "oddslog"))
