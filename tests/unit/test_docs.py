"""The tables of docs/reference.md against the code: what is there is listed, and nothing else."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer

from oddslog.deploy.app import app
from oddslog.ingest.metric_names import INGEST_METRICS
from oddslog.schemas.errors import OddslogError, ProtectionError
from oddslog.schemas.metric import Metric
from oddslog.sink import errors as sink_errors
from oddslog.sink.metric_names import SINK_METRICS
from tests.support.modules import ROOT, Module, dotted, modules

DOCS = ROOT / "docs"
REFERENCE = (DOCS / "reference.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
LEVELS = ("debug", "info", "warning", "error", "exception")
EVENT_TABLES = ("events of the scraper", "events of both", "events of the sink")


def rows_of(table: str) -> list[list[str]]:
    """The rows between a table's markers, as cells."""
    (text,) = re.findall(
        rf"<!-- {table}: begin.*?-->\n(.*?)<!-- {table}: end -->", REFERENCE, re.DOTALL
    )
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines()][
        2:
    ]


def quoted(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


# Metrics.


@pytest.mark.parametrize(
    ("table", "metrics"), [("sink metrics", SINK_METRICS), ("ingest metrics", INGEST_METRICS)]
)
def test_every_metric_is_listed_as_it_is(table: str, metrics: tuple[Metric, ...]) -> None:
    """Its name, kind, unit, labels and meaning, in the code's order."""
    said = [
        [*quoted(name), kind, unit, *quoted(labels), help_]
        for name, kind, unit, labels, help_ in rows_of(table)
    ]
    assert said == [[m.name, m.kind.value, m.unit, *m.labels, m.help] for m in metrics]


def test_metrics_that_are_named_in_any_page_exist() -> None:
    """Also in the queries that an operator copies."""
    known = {metric.name for metric in (*SINK_METRICS, *INGEST_METRICS)}
    for page in PAGES:
        named = set(re.findall(r"\boddslog_(?:sink|ingest)_[a-z_]+", page.read_text("utf-8")))
        assert named <= known, f"{page.name}: {named - known}"


# Log events.


@dataclass
class Event:
    """A log event as the code writes it; `fields` are those that are named in the call."""

    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)


def test_every_log_event_is_listed_with_its_levels_and_fields() -> None:
    """A dashboard is made from this table."""
    rows = [row for table in EVENT_TABLES for row in rows_of(table)]
    said = {quoted(name)[0]: (levels, fields) for name, levels, fields, _meaning, _do in rows}
    assert len(said) == len(rows)
    assert set(said) == set(events())
    for name, event in events().items():
        levels, fields = said[name]
        assert set(levels.split(", ")) == event.levels, name
        if not fields.startswith("as `"):
            assert event.fields <= set(quoted(fields)), name


def test_the_names_of_events_are_words() -> None:
    """Stable and fit for a search: no values in them."""
    assert len(events()) > 40
    for name in events():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name), name


def events() -> dict[str, Event]:
    """Every event of the four folders."""
    found: dict[str, Event] = {}
    for module in modules().values():
        for name, level, keywords in logged(module):
            event = found.setdefault(name, Event())
            event.levels |= {"error" if level == "exception" else level}
            event.fields |= keywords
    # Passed on with the level that the library gave it.
    found["library_log"].levels = {"warning", "error"}
    return found


def logged(module: Module) -> Iterator[tuple[str, str, set[str]]]:
    """Event, level and named fields of each call that logs."""
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call):
            continue
        match node.func:
            case ast.Name("say") if len(node.args) == 2 and module.part == "ingest":
                level, event = node.args
                assert isinstance(level, ast.Constant), where(module, node)
                assert level.value in LEVELS, where(module, node)
                said = str(level.value)
            case ast.Attribute(ast.Name("log"), attribute) if attribute in LEVELS:
                (event,) = node.args
                said = attribute
            case ast.Attribute(ast.Call(), "log"):
                _, event = node.args
                said = "log"
            case _:
                assert dotted(node.func) != "structlog.get_logger" or is_known(module, node)
                continue
        for name in names(event, where(module, node)):
            yield name, said, {word.arg for word in node.keywords if word.arg is not None}


def names(event: ast.expr, at: str) -> list[str]:
    """The event, or both of a choice; a constant, or a search would not find it."""
    if isinstance(event, ast.IfExp):
        return [*names(event.body, at), *names(event.orelse, at)]
    assert isinstance(event, ast.Constant), f"{at}: the event's name is made up"
    return [str(event.value)]


def is_known(module: Module, call: ast.Call) -> bool:
    """Whether what this logger writes is seen above: it is `log`, or one of two modules'."""
    if module.name in {"ingest.say", "deploy.logs"}:
        return True
    return any(
        isinstance(node, ast.Assign)
        and node.value is call
        and [dotted(target) for target in node.targets] == ["log"]
        for node in module.tree.body
    )


def where(module: Module, node: ast.Call) -> str:
    """For a failure."""
    return f"{module.path.name}:{node.lineno}"


# Exit codes.


def test_every_exit_code_is_listed() -> None:
    """Those of the errors, and those that are given anywhere as a number."""
    listed = {quoted(row[0])[0] for row in rows_of("exit codes")}
    assert listed == {str(code) for code in exit_codes()} | {"128+n"}


def exit_codes() -> set[int]:
    """Of the errors' classes, of `typer.Exit(...)`, and of the entry point."""
    codes = {0, *(kind.exit_code for kind in kinds_of(OddslogError))}
    for module in modules().values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and dotted(node.func) in {"typer.Exit", "_fail"}:
                codes |= {code for argument in node.args for code in numbers(argument)}
    return codes


def numbers(argument: ast.expr) -> Iterator[int]:
    """The codes of one argument: a number, or a choice of two; 128 and a signal is none."""
    match argument:
        case ast.Constant(int(code)):
            yield code
        case ast.IfExp():
            yield from (*numbers(argument.body), *numbers(argument.orelse))


def kinds_of(kind: type[OddslogError]) -> Iterator[type[OddslogError]]:
    """A class of errors and all below it."""
    yield kind
    for below in kind.__subclasses__():
        yield from kinds_of(below)


# Commands.


def commands() -> dict[str, Any]:
    """Every command that does something, by the names that lead to it."""

    def below(command: Any, path: str) -> Iterator[tuple[str, Any]]:
        if not getattr(command, "commands", None):
            yield path, command
            return
        for name, inner in command.commands.items():
            yield from below(inner, f"{path} {name}")

    return dict(below(typer.main.get_command(app), "oddslog"))


def options_of(command: Any) -> set[str]:
    """Its long options, `--help` left out, and its arguments as `--help` shows them."""
    names = {max(parameter.opts, key=len): parameter for parameter in command.params}
    return {
        name if name.startswith("--") else parameter.metavar for name, parameter in names.items()
    } - {"--help"}


def test_every_option_of_every_command_is_listed() -> None:
    """And no other."""
    said = {
        quoted(name)[0]: {*quoted(own), *quoted(shared)} for name, own, shared in rows_of("options")
    }
    assert said == {path: options_of(command) for path, command in commands().items()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_pages_exist_with_their_options(page: Path) -> None:
    """What an operator copies at night is not refused."""
    known = commands()
    for line in code_of(page.read_text("utf-8")):
        for part in re.findall(r"(?<![\w/])oddslog [a-z][^`|;&#)\n]*", line):
            words = part.split()
            path = next((" ".join(words[:n]) for n in (3, 2) if " ".join(words[:n]) in known), None)
            if path is None:  # a group by itself: `oddslog dlq`
                groups = {name.rpartition(" ")[0] for name in known}
                assert " ".join(words[:2]) in groups, f"{page.name}: {part}"
                assert not re.match("[a-z]", "".join(words[2:3])), f"{page.name}: {part}"
                continue
            given = {word.partition("=")[0] for word in words if word.startswith("--")}
            assert given - {"--help"} <= options_of(known[path]), f"{page.name}: {part}"


def code_of(text: str) -> Iterator[str]:
    """Code blocks line by line, and what stands in backticks outside of them."""
    inside = False
    for line in text.splitlines():
        if line.startswith("```"):
            inside = not inside
        elif inside:
            yield line
        else:
            yield from quoted(line)


@pytest.mark.parametrize("command", sorted(commands()))
def test_every_command_is_in_the_operators_guide_or_the_readme(command: str) -> None:
    """So that nobody has to find it by chance."""
    pages = [ROOT / "README.md", DOCS / "operations.md"]
    assert any(command in page.read_text("utf-8") for page in pages)


def test_what_is_said_of_security_names_tests_that_exist() -> None:
    """Each promise of the table with its proof."""
    page = (DOCS / "security.md").read_text("utf-8")
    (table,) = re.findall(r"<!-- security: begin.*?-->\n(.*?)<!-- security: end", page, re.DOTALL)
    named = set(re.findall(r"`(test_\w+)`", table))
    sources = [path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(named) > 10
    for name in named:
        assert any(f"def {name}(" in source for source in sources), name


# Links.


def test_links_between_the_pages_lead_somewhere() -> None:
    """Files and headings."""
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
            if target.startswith(("http:", "https:")):
                continue
            path, _, heading = target.partition("#")
            other = (page.parent / path).resolve() if path else page
            assert other.exists(), f"{page.name}: {target}"
            if heading:
                assert heading in headings(other), f"{page.name}: {target}"


def headings(page: Path) -> set[str]:
    """Of a page, as GitHub makes anchors of them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_sinks_errors_are_in_the_operators_guide() -> None:
    """Each that stops it to protect data, by the words of its message."""
    guide = (DOCS / "operations.md").read_text("utf-8")
    for name in sink_errors.__all__:
        kind: type[Exception] = getattr(sink_errors, name)
        if issubclass(kind, ProtectionError):
            assert f"`{name}`" in guide, name
