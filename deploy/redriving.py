"""Redriving dead letters: try each, send those that would be written, note what was sent.

In this order, so that dying anywhere loses nothing: what is sent is in the log, and the
sink marks its letter from the record's headers alone. What this process then notes is
for the operator's eyes; without it a letter may be sent twice, which is written once.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy.ext.asyncio import AsyncEngine

from ..ingest.fragments import Fragment
from ..ingest.kafka_destination import ROTATE_RECORDS
from ..ingest.publisher import Publisher
from ..schemas.codec import crc32_text
from ..schemas.errors import ConfigurationError, DeliveryError, UnreachableError
from ..schemas.kill_points import reached
from ..schemas.wire import HEADER_CRC32, Kind
from ..sink.checks import ColumnLimits
from ..sink.dead_letters import DeadLetter
from ..sink.registry import RegistrySchemas, registry_schemas
from ..sink.rehearsal import record_to_try, rehearse, write_directly
from .kafka import require_topic
from .letters import Letter, note_sent
from .queries import known_logs
from .redrive_plan import Wanted, fragment_to_send, refusal
from .settings import Settings

__all__ = ["Redriver", "Verdict"]

_SEND_SECONDS = 60.0


@dataclass(frozen=True)
class Verdict:
    """What came of a letter: `sent`, `would_send`, `written` or `refused`, and why not."""

    id: int
    outcome: str
    problem: str | None = None


@dataclass
class _Parcel:
    """Records that are sent together; none is above the topic's limit."""

    fragments: Sequence[Fragment]

    async def fit(self, limit_bytes: int) -> None:
        """Nothing: they were measured before."""


@dataclass
class Redriver:
    """Redrives letters page by page. `close` it at the end.

    Args:
        engine: of the letters' database.
        settings: where Kafka is.
        limits: what the tables can hold.
        wanted: how.
    """

    engine: AsyncEngine
    settings: Settings
    limits: Mapping[Kind, ColumnLimits]
    wanted: Wanted
    _publishers: dict[str, Publisher] = field(default_factory=dict)

    async def redrive(self, letters: Sequence[Letter]) -> AsyncIterator[Verdict]:
        """What came of each letter, in no particular order.

        Raises:
            UnreachableError: Kafka does not acknowledge in time; what it has is noted. Or
                the schema registry does not answer.
            ConfigurationError: the topic is missing, or is not one of this database's.
        """
        tried: list[Letter] = []
        for letter in await self._readable(letters):
            problem = refusal(letter, self.wanted)
            if problem is None and self._value(letter) is None:
                problem = "has no value that could be sent"
            if problem is None:
                tried.append(letter)
            else:
                yield Verdict(letter.id, "refused", problem)
        good, refused = await self._rehearse(tried)
        for letter, why in refused:
            yield Verdict(letter.id, "refused", f"would fail again: {_said(why)}")
        if self.wanted.dry_run:
            for letter in good:
                yield Verdict(letter.id, "would_send")
            return
        by_topic: dict[str | None, list[Letter]] = {}
        for letter in good:
            topic = None if letter.topic is None else (self.wanted.topic or letter.topic)
            by_topic.setdefault(topic, []).append(letter)
        for topic, of_topic in by_topic.items():
            sending = self._write(of_topic) if topic is None else self._send(topic, of_topic)
            async for verdict in sending:
                yield verdict

    async def close(self) -> None:
        """Let go of the producers; bounded in time."""
        for publisher in self._publishers.values():
            await publisher.stop()

    async def _readable(self, letters: Sequence[Letter]) -> Sequence[Letter]:
        """The letters, those in a schema registry's frame opened: it may know the id by now."""
        schemas = registry_schemas(self.settings.kafka())
        if schemas is None:
            return letters
        await schemas.learn(letter.value for letter in letters)
        return [_reframed(letter, schemas) for letter in letters]

    def _value(self, letter: Letter) -> bytes | None:
        return self.wanted.edit or letter.value

    async def _rehearse(
        self, letters: Sequence[Letter]
    ) -> tuple[list[Letter], list[tuple[Letter, DeadLetter]]]:
        """Those that would be written now (all, where forced), and the others."""
        records = [record_to_try(self._value(letter)) for letter in letters]
        failures = await rehearse(self.engine, None, records, self.limits)
        good: list[Letter] = []
        refused: list[tuple[Letter, DeadLetter]] = []
        for letter, failure in zip(letters, failures, strict=True):
            if failure is None or self.wanted.force:
                good.append(letter)
            else:
                refused.append((letter, failure))
        return good, refused

    async def _write(self, letters: Sequence[Letter]) -> AsyncIterator[Verdict]:
        """Letters that came from no log: straight into the tables."""
        wanted = self.wanted
        for letter in letters:
            refused = await write_directly(
                self.engine,
                letter.id,
                record_to_try(self._value(letter)),
                self.limits,
                statuses=list(wanted.statuses),
                by=wanted.by,
                at=wanted.at,
                why=wanted.why,
                store_raw=self.settings.raw_response == "database",
            )
            if refused is None:
                yield Verdict(letter.id, "written")
            else:
                yield Verdict(letter.id, "refused", f"cannot be written: {_said(refused)}")

    async def _send(self, topic: str, letters: Sequence[Letter]) -> AsyncIterator[Verdict]:
        publisher = await self._publisher(topic)
        sending: list[tuple[Letter, Fragment]] = []
        for letter in letters:
            value = self._value(letter) or b""
            redrive = letter.redrive(by=self.wanted.by, at=self.wanted.at, why=self.wanted.why)
            if redrive is None:
                raise RuntimeError("a letter of a topic has a place in it")
            if len(value) > publisher.limit_bytes:
                problem = f"takes {len(value):,} bytes, the topic takes {publisher.limit_bytes:,}"
                yield Verdict(letter.id, "refused", problem)
            else:
                sending.append((letter, fragment_to_send(letter, value, redrive)))
        if not sending:
            return
        try:
            await publisher.publish(_Parcel([fragment for _, fragment in sending]), _SEND_SECONDS)
        except (DeliveryError, UnreachableError) as error:
            sent = await self._note(sending)
            raise UnreachableError(
                f"{error}; {len(sent)} of these {len(sending)} letters were sent again, and those"
                " are noted"
            ) from error
        # Killed from here on, the letters are in the log and nothing says so here.
        reached("dlq.after_ack")
        for letter in await self._note(sending):
            yield Verdict(letter.id, "sent")

    async def _note(self, sending: Sequence[tuple[Letter, Fragment]]) -> list[Letter]:
        """Note those that are acknowledged."""
        sent = [letter for letter, fragment in sending if fragment.acknowledged]
        wanted = self.wanted
        async with self.engine.begin() as connection:
            await note_sent(connection, sent, by=wanted.by, at=wanted.at, why=wanted.why)
        return sent

    async def _publisher(self, topic: str) -> Publisher:
        if topic in self._publishers:
            return self._publishers[topic]
        connection = self.settings.kafka()
        described = await require_topic(connection, topic)
        async with self.engine.connect() as asked:
            logs = await known_logs(asked)
        if not any(log.topic == topic and log.cluster_id == described.cluster_id for log in logs):
            raise ConfigurationError(
                f"topic {topic} of the Kafka at {self.settings.bootstrap_servers} is none that"
                " filled this database: nothing would read what is sent there. Mend"
                " ODDSLOG_BOOTSTRAP_SERVERS, or name the topic that the sink reads: --topic"
            )
        publisher = Publisher(
            connection,
            topic,
            linger_ms=5,
            client_id="oddslog-redrive",
            rotate_records=ROTATE_RECORDS,
        )
        self._publishers[topic] = publisher
        await publisher.start()
        if publisher.away:
            raise UnreachableError(
                f"Kafka does not answer at {self.settings.bootstrap_servers}; nothing was sent"
            )
        return publisher


def _reframed(letter: Letter, schemas: RegistrySchemas) -> Letter:
    """The letter without the registry's frame; bytes that were damaged stay told by their CRC."""
    if letter.value is None:
        return letter
    value = schemas.plain(letter.value)
    was, now = (HEADER_CRC32, crc32_text(letter.value)), (HEADER_CRC32, crc32_text(value))
    return replace(
        letter, value=value, headers=[now if one == was else one for one in letter.headers]
    )


def _said(letter: DeadLetter) -> str:
    names = [
        f"{name} {value}"
        for name, value in (
            ("SQLSTATE", letter.sqlstate),
            ("constraint", letter.constraint_name),
            ("field", letter.field),
        )
        if value is not None
    ]
    return f"{letter.reason}: {letter.message}{' (' + ', '.join(names) + ')' if names else ''}"
