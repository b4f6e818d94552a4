"""`oddslog topics`: the topic that is the log."""
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
    create: Annotated[
        bool, typer.Option("--create", help="Make the topic where it is missing.")
    ] = False,
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

    Exit code 1 where it cannot be a log, 2 where it is missing.

    Example: oddslog topics --create --partitions 24
    """
    from .. import signals

    if partitions is not None and not create:
        raise typer.BadParameter("only goes with --create", param_hint="--partitions")
    run = begin(as_json=as_json, bootstrap_servers=bootstrap_servers, topic=topic)
    raise typer.Exit(signals.run(_topics(run, create=create, partitions=partitions)))


async def _topics(run: Run, *, create: bool, partitions: int | None) -> int:
    from ...sink.topics import DEFAULT_PARTITIONS, create_topic, describe_topic, topic_problems
    from ...sink.topics import topic_warnings as warnings_of
    from ..kafka import require_topic

    connection, topic = run.settings.kafka(), run.settings.topic
    made = False
    if create and await describe_topic(connection, topic) is None:
        await create_topic(connection, topic, partitions=partitions or DEFAULT_PARTITIONS)
        made = True
    described = await require_topic(connection, topic)
    problems, warnings = topic_problems(described), warnings_of(described)
    values = _values(described)
    run.out.facts(
        [(_words(name), value) for name, value in values.items()],
        title=f"Topic {topic}" + (" (made just now)" if made else ""),
    )
    for warning in warnings:
        run.out.say(f"weak: {warning}", style="yellow")
    for problem in problems:
        run.out.say(f"wrong: {problem}", style="red")
    if create and not made and partitions not in (None, described.partitions):
        run.out.warn(f"the topic was there, with {described.partitions} partitions: left as it is")
    run.out.result({**values, "made": made, "warnings": warnings, "problems": problems})
    return 1 if problems else 0


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
