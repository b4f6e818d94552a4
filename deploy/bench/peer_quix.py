"""Quix Streams from a topic of rows into a table, until it is killed: a process of its own."""

import json
import sys
import tempfile

from quixstreams import Application
from quixstreams.kafka import ConnectionConfig
from quixstreams.sinks.community.postgresql import PostgreSQLSink

__all__ = ["main"]


def main() -> None:
    """Run with what standard input says."""
    given = json.load(sys.stdin)
    database = given["database"]
    with tempfile.TemporaryDirectory() as folder:
        application = Application(
            broker_address=ConnectionConfig.from_librdkafka_dict(given["kafka"]),
            consumer_group=given["group"],
            auto_offset_reset="earliest",
            auto_create_topics=False,
            state_dir=folder,
        )
        sink = PostgreSQLSink(
            **{**database, "port": int(database["port"])},
            table_name=given["table"],
            schema_name=given["schema"],
            schema_auto_update=False,
            include_metadata=False,
        )
        topic = application.topic(given["topic"], value_deserializer="json")
        application.dataframe(topic).sink(sink)
        application.run()


if __name__ == "__main__":
    main()
