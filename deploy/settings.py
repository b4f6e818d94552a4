"""The settings: one frozen object a process, read at the entry points only.

Where a value comes from, the first that is there: an option of the command, the
environment (`ODDSLOG_<NAME>`), a file named by `ODDSLOG_<NAME>_FILE` for the
secrets, the default. An empty variable counts as not set.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ..schemas.connection import KafkaConnection
from ..schemas.errors import ConfigurationError
from ..schemas.wire import DEFAULT_GROUP, DEFAULT_TOPIC

__all__ = ["PREFIX", "Durability", "LogLevel", "RawResponse", "Settings", "StackMode", "variable"]

PREFIX = "ODDSLOG_"

Durability = Literal["ack", "spool"]
RawResponse = Literal["database", "log", "none"]
StackMode = Literal["auto", "env", "docker", "local"]
LogLevel = Literal["debug", "info", "warning", "error"]

_MIB = 1024 * 1024
HTTP_OFF = "off"


def variable(field: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + field.upper()


def _check_servers(value: str) -> str:
    for part in value.split(","):
        host, colon, port = part.strip().rpartition(":")
        if not (colon and host and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError("must be host:port, several with commas between them")
    return value


def _check_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", value) or value in (".", ".."):
        raise ValueError("must be 1 to 249 letters, digits, dots, dashes or underscores")
    return value


def _check_schema(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", value):
        raise ValueError("must be a plain name: letters, digits and underscores, at most 63")
    return value


def _check_database_url(value: SecretStr) -> SecretStr:
    url = value.get_secret_value()
    if not re.match(r"(postgresql(\+asyncpg)?|postgres)://[^/]", url):
        raise ValueError("must look like postgresql://user:password@host:5432/name")
    authority, _, rest = url.partition("://")[2].partition("/")
    if authority.count("@") > 1 or "@" in rest.partition("?")[0]:
        raise ValueError("has more than one @: percent-encode it in the password, as %40")
    # SQLAlchemy knows libpq's older scheme no more.
    return SecretStr(re.sub(r"^postgres://", "postgresql://", url))


def _check_registry_url(value: SecretStr) -> SecretStr:
    if not re.match(r"https?://[^/]", value.get_secret_value()):
        raise ValueError("must look like https://user:password@host:8081")
    return value


def _check_http_address(value: str) -> str:
    if value == HTTP_OFF:
        return value
    host, colon, port = value.rpartition(":")
    if not (colon and host and port.isdecimal() and int(port) < 65536):
        raise ValueError(
            "must be host:port ([::1]:9464 for IPv6; port 0 for any that is free), or off"
        )
    return value


class Settings(BaseSettings):
    """Everything that can be set, checked. The secrets are not in its `repr`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="ignore"
    )

    bootstrap_servers: Annotated[str, AfterValidator(_check_servers)] = Field(
        "localhost:9092",
        description="Kafka's addresses, host:port, several with commas. One that answers is enough"
        " to find the others.",
    )
    topic: Annotated[str, AfterValidator(_check_name)] = Field(
        DEFAULT_TOPIC,
        description="The topic that is the log. It is never created by accident: see `oddslog"
        " topics --create`.",
    )
    group: str = Field(
        DEFAULT_GROUP,
        min_length=1,
        max_length=255,
        description="The sink's consumer group: its members share the partitions. Its offsets are"
        " for lag and tools; positions come from the ledger.",
    )
    group_instance_id: Annotated[str, AfterValidator(_check_name)] | None = Field(
        None,
        description="A name of the sink's own in its group, the same at each start (static"
        " membership): back within the session time-out, it has its partitions again and nobody"
        " else notices; until then nobody else gets them. Never two sinks of one name at a time:"
        " they would push each other out for ever. Not set: a new member at each start.",
    )
    database_url: Annotated[SecretStr, AfterValidator(_check_database_url)] | None = Field(
        None,
        description="PostgreSQL, as postgresql://user:password@host:5432/name (postgresql+asyncpg://"
        " works too). No default. Secret.",
    )
    database_schema: Annotated[str, AfterValidator(_check_schema)] = Field(
        "public", description="The PostgreSQL schema that holds the tables."
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How Kafka is spoken to. SASL_* need a user name and a password."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="How the password is shown to Kafka, with SASL_*."
    )
    sasl_username: str | None = Field(None, description="Kafka's user name, with SASL_*.")
    sasl_password: SecretStr | None = Field(
        None, description="Kafka's password, with SASL_*. Secret."
    )
    ssl_cafile: str | None = Field(
        None,
        description="File of the authorities that Kafka's certificate is checked against; not set:"
        " the system's.",
    )
    ssl_certfile: str | None = Field(
        None, description="File of our own certificate, where Kafka asks for one."
    )
    ssl_keyfile: str | None = Field(
        None, description="File of its key; not set: the key is in the certificate's file."
    )
    ssl_keyfile_password: SecretStr | None = Field(
        None, description="The password of that key. Secret."
    )
    schema_registry_url: Annotated[SecretStr, AfterValidator(_check_registry_url)] | None = Field(
        None,
        description="A schema registry that speaks Confluent's protocol, as"
        " https://user:password@host:8081 (Apicurio's with /apis/ccompat/v7): schemas are"
        " registered under `<topic>-value`, and records carry their id. Not set: records carry the"
        " schema's fingerprint, and no registry is needed. Secret.",
    )
    schema_registry_cafile: str | None = Field(
        None,
        description="File of the authorities that the registry's certificate is checked against;"
        " not set: the system's.",
    )
    queue_maxsize: int = Field(
        50,
        ge=1,
        le=100_000,
        description="Batches that may wait in the write queue (two cycles of 1,300 events); then"
        " `enqueue` waits. More means more memory and more to lose with the process.",
    )
    queue_bytes: int = Field(
        512 * _MIB,
        ge=_MIB,
        le=1024 * 1024 * _MIB,
        description="Bytes (estimated, encoded) that may wait in the write queue; the objects in"
        " memory take several times that.",
    )
    spool_dir: str | None = Field(
        None,
        description="Folder of the write queue's spool, on a disk that survives a restart, of one"
        " process alone; not on a network file system, where SQLite's write-ahead log is not safe."
        " What Kafka does not take waits there. Not set: there is no spool.",
    )
    spool_bytes: int = Field(
        10 * 1024 * _MIB,
        ge=_MIB,
        le=1024 * 1024 * _MIB,
        description="Bytes that the spool may hold; then batches fail as they do without one.",
    )
    durability: Durability = Field(
        "ack",
        description="When a receipt resolves: `ack` (Kafka has the batch; the spool only where"
        " Kafka does not take it), `spool` (the batch is fsynced in the spool, at once).",
    )
    poll_records: int = Field(
        500,
        ge=1,
        le=100_000,
        description="Records that the sink writes in one transaction, at most. More is faster up"
        " to a point, and repeats more after a crash.",
    )
    poll_bytes: int = Field(
        16 * _MIB,
        ge=64 * 1024,
        le=1024 * _MIB,
        description="Bytes of records in one transaction, at most; two such polls are in memory.",
    )
    session_timeout_seconds: float = Field(
        45.0,
        ge=1.0,
        le=1800.0,
        description="After how many seconds without a sign of life a member of the group counts as"
        " dead, and its partitions go to others.",
    )
    rebalance_timeout_seconds: float = Field(
        60.0,
        ge=1.0,
        le=1800.0,
        description="How long a rebalance waits for a member's running transaction. A member that"
        " stands still for longer in a transaction has its backend ended where others wait for it.",
    )
    raw_response: RawResponse = Field(
        "database",
        description="Where raw responses are kept: `database` (in the snapshot's row, and in the"
        " log), `log` (in Kafka only), `none` (dropped at ingest).",
    )
    parent_wait_seconds: float = Field(
        3600.0,
        ge=0.0,
        le=365 * 86400.0,
        description="How long a snapshot whose event, bookmaker or run is not in the database yet"
        " waits for it before it counts as dead. Only time without a backlog counts.",
    )
    dead_letter_topic: Annotated[str, AfterValidator(_check_name)] | None = Field(
        None,
        description="A topic for copies of dead letters, made by `oddslog topics --create`: the"
        " sink sends there each letter that is dead, at least once, after its transaction. Not"
        " set: they are in the database only.",
    )
    run_retention_seconds: float = Field(
        30 * 86400.0,
        ge=60.0,
        le=3650 * 86400.0,
        description="How long it is kept what has arrived of a scrape run (`oddslog runs`), after"
        " the last of it. By default as long as the topic keeps records.",
    )
    http_address: Annotated[str, AfterValidator(_check_http_address)] = Field(
        "127.0.0.1:9464",
        description="Where `oddslog sink` answers `/metrics`, `/livez`, `/readyz` and a page for"
        " people (`/`): host:port, or `off`. Whoever reaches it may read it: it has no password."
        " A port that is taken ends the sink where it was set, and is a warning where it is the"
        " default.",
    )
    stack: StackMode = Field(
        "auto",
        description="Where demo, tests and `stack` take their servers: `auto` (docker where an"
        " engine answers, else local), `docker`, `local`, `env` (the configured addresses).",
    )
    log_level: LogLevel | None = Field(
        None,
        description="The lowest level that is logged. Not set: info for the sink as a service,"
        " warning for every other command.",
    )

    @model_validator(mode="after")
    def _check_relations(self) -> Self:
        if self.security_protocol.startswith("SASL"):
            missing = [
                variable(name)
                for name in ("sasl_username", "sasl_password")
                if not getattr(self, name)
            ]
            if missing:
                raise ValueError(
                    f"{variable('security_protocol')}={self.security_protocol} needs"
                    f" {' and '.join(missing)}"
                )
        if self.durability == "spool" and self.spool_dir is None:
            raise ValueError(
                f"{variable('durability')}=spool needs a folder: {variable('spool_dir')}"
            )
        if self.dead_letter_topic == self.topic:
            raise ValueError(
                f"{variable('dead_letter_topic')} is the log's own topic: every dead letter would"
                " come again as a record. Name another"
            )
        return self

    def kafka(self) -> KafkaConnection:
        """How to reach Kafka."""
        return KafkaConnection(
            bootstrap_servers=self.bootstrap_servers,
            security_protocol=self.security_protocol,
            sasl_mechanism=self.sasl_mechanism,
            sasl_username=self.sasl_username,
            sasl_password=_revealed(self.sasl_password),
            ssl_cafile=self.ssl_cafile,
            ssl_certfile=self.ssl_certfile,
            ssl_keyfile=self.ssl_keyfile,
            ssl_keyfile_password=_revealed(self.ssl_keyfile_password),
            schema_registry_url=_revealed(self.schema_registry_url),
            schema_registry_cafile=self.schema_registry_cafile,
        )

    def http_endpoint(self) -> tuple[str, int] | None:
        """Host and port of the sink's HTTP server; None where it is switched off."""
        if self.http_address == HTTP_OFF:
            return None
        host, _, port = self.http_address.rpartition(":")
        return host.removeprefix("[").removesuffix("]"), int(port)

    def require_database_url(self) -> str:
        """The database's URL, with its password.

        Raises:
            ConfigurationError: it is not set.
        """
        url = _revealed(self.database_url)
        if url is None:
            raise ConfigurationError(
                f"{variable('database_url')} is not set; it looks like"
                " postgresql://user:password@host:5432/name (for the local stack:"
                ' eval "$(oddslog stack env)")'
            )
        return url


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
