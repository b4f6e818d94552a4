"""`oddslog topics`: the topic that is the log, and that of the dead letters."""
# ruff: noqa: PLC0415 - loaded when the command runs

from typing import TYPE_CHECKING, Annotated

import typer

from .common import BootstrapServers, Json, Run, Topic, begin

if TYPE_CHECKING:
    from ...sink.topics import TopicDescription

__all__ = ["topics"]

_MOST_PARTITIONS = 10_000
_DAY_MS = 24 * 3600 * 1000


def topics(
    create: Annotated[bool, typer.Option("--create", help="Make what is missing.")] = False,
    partitions: Annotated[
        int | None,
        typer.Option(
            "--partitions",
            min=1,
            max=_MOST_PARTITIONS,
            help="Of a topic that is made; 12 where not given. They can be raised later, not"
            " lowered.",
        ),
    ] = None,
    bootstrap_servers: BootstrapServers = None,
    topic: Topic = None,
    as_json: Json = False,
) -> None:
    """Check the topic, and make it where that is asked for. One that is there stays as it is.

    The dead-letter topic too, where one is set; that one is made with one partition. Exit
    code 1 where the topic cannot be a log, 2 where it is missing.

    Example: oddslog topics --create --partitions 24
    """
    from .. import signals

    if partitions is not None and not create:
        raise typer.BadParameter("only goes with --create", param_hint="--partitions")
    run = begin(as_json=as_json, bootstrap_servers=bootstrap_servers, topic=topic)
    raise typer.Exit(signals.run(_topics(run, create=create, partitions=partitions)))


async def _topics(run: Run, *, create: bool, partitions: int | None) -> int:
    from ...sink.topics import DEFAULT_PARTITIONS, LETTER_PARTITIONS, topic_problems
    from ...sink.topics import topic_warnings as warnings_of

    described, made = await _described(
        run, run.settings.topic, (partitions or DEFAULT_PARTITIONS) if create else None
    )
    values = {**_values(described), "made": made}
    problems, warnings = topic_problems(described), warnings_of(described)
    _say(run, "Topic", values)
    if run.settings.dead_letter_topic is not None:
        letters, made = await _described(
            run, run.settings.dead_letter_topic, LETTER_PARTITIONS if create else None
        )
        problems += topic_problems(letters)
        values["dead_letter_topic"] = {**_values(letters), "made": made}
        _say(run, "Dead-letter topic", {**_values(letters), "made": made})
    for warning in warnings:
        run.out.say(f"weak: {warning}", style="yellow")
    for problem in problems:
        run.out.say(f"wrong: {problem}", style="red")
    if create and not values["made"] and partitions not in (None, described.partitions):
        run.out.warn(f"the topic was there, with {described.partitions} partitions: left as it is")
    run.out.result({**values, "warnings": warnings, "problems": problems})
    return 1 if problems else 0


async def _described(
    run: Run, topic: str, partitions: int | None
) -> "tuple[TopicDescription, bool]":
    """A topic, and whether it was made just now: with so many partitions, None for never."""
    from ...sink.topics import create_topic, describe_topic
    from ..kafka import require_topic

    connection = run.settings.kafka()
    made = partitions is not None and await describe_topic(connection, topic) is None
    if made and partitions is not None:
        await create_topic(connection, topic, partitions=partitions)
    return await require_topic(connection, topic), made


def _say(run: Run, what: str, values: dict[str, object]) -> None:
    run.out.facts(
        [(_words(name), value) for name, value in values.items() if name != "made"],
        title=f"{what} {values['topic']}" + (" (made just now)" if values["made"] else ""),
    )


def _words(name: str) -> str:
    return name.replace("_", " ")


def _values(described: "TopicDescription") -> dict[str, object]:
    configs = described.configs
    return {
        "topic": described.topic,
        "cluster_id": described.cluster_id,
        "brokers": described.brokers,
        "partitions": described.partitions,
        "replicas": described.replicas,
        "min_insync_replicas": int(configs.get("min.insync.replicas", 1)),
        "cleanup_policy": configs.get("cleanup.policy"),
        "retention_days": _days(described.retention_ms),
        "retention_bytes": int(configs.get("retention.bytes", -1)),
        "max_message_bytes": described.max_message_bytes,
        "timestamp_type": configs.get("message.timestamp.type"),
    }


def _days(milliseconds: int) -> float | str:
    return "for ever" if milliseconds < 0 else round(milliseconds / _DAY_MS, 2)
