"""A broker that wants to know who comes: TLS, SCRAM, client certificates, an authorizer.

Its own plain-text listener is the test's way in: a super user, who makes topics and
grants rights. Everybody else comes by another listener, and may do what was granted.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int8, Int16, Int32, Schema, String

from oddslog.deploy.stack.kafka import Listener
from oddslog.deploy.stack.local import LocalStack
from oddslog.deploy.stack.probes import free_port
from oddslog.schemas import KafkaConnection
from tests.support.certificates import KEY_PASSWORD, Certificates, make_certificates
from tests.support.modules import ROOT

__all__ = ["PASSWORD", "Grant", "SecureKafka", "documented_grants", "grant"]

PASSWORD = "s3cret-of-kafka"
USERS = ("oddslog-ingest", "oddslog-sink", "oddslog-admin", "nobody")
_SUPER = "User:ANONYMOUS"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
_SCRAM_TLS, _CLIENT_TLS, _SCRAM_PLAIN, _EXPIRED, _ELSEWHERE = range(5)


class SecureKafka:
    """The local stack's Kafka with five more ways in."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.files = make_certificates(folder, "oddslog-sink")
        protocols = ["SASL_SSL", "SSL", "SASL_PLAINTEXT", "SASL_SSL", "SASL_SSL"]
        self._ports = [free_port() for _ in protocols]
        listeners = [
            Listener(port, port, one) for port, one in zip(self._ports, protocols, strict=True)
        ]
        options = [
            part
            for user in USERS
            for part in ("--add-scram", f"SCRAM-SHA-512=[name={user},password={PASSWORD}]")
        ]
        self._stack = LocalStack(
            folder / "stack",
            kafka_properties=_properties(self.files),
            kafka_listeners=listeners,
            kafka_format_options=options,
        )

    def start(self) -> None:
        """Bring it up."""
        self._stack.start_kafka()

    def destroy(self) -> None:
        """End it and remove its data."""
        self._stack.destroy()

    @property
    def admin(self) -> KafkaConnection:
        """The test's way in, without any check."""
        return KafkaConnection(f"127.0.0.1:{self._stack.kafka_port}")

    def scram(self, user: str, **changes: Any) -> KafkaConnection:
        """User and password over TLS."""
        return self._by(_SCRAM_TLS, user, **changes)

    def expired(self, user: str) -> KafkaConnection:
        """The same where the server's certificate has expired."""
        return self._by(_EXPIRED, user)

    def elsewhere(self, user: str) -> KafkaConnection:
        """The same where the server's certificate is for another name."""
        return self._by(_ELSEWHERE, user)

    def scram_plain(self, user: str, host: str = "127.0.0.1") -> KafkaConnection:
        """User and password without TLS."""
        server = f"{host}:{self._ports[_SCRAM_PLAIN]}"
        changes = {"bootstrap_servers": server, "ssl_cafile": None}
        return self._by(_SCRAM_PLAIN, user, security_protocol="SASL_PLAINTEXT", **changes)

    def mutual(self, **changes: Any) -> KafkaConnection:
        """By the client's certificate, which is the sink's."""
        values = {
            "security_protocol": "SSL",
            "ssl_cafile": self.files.ca,
            "ssl_certfile": self.files.client,
            "ssl_keyfile": self.files.client_key,
            "ssl_keyfile_password": KEY_PASSWORD,
            **changes,
        }
        return KafkaConnection(self.server(_CLIENT_TLS), **values)

    def server(self, listener: int) -> str:
        """The address of one listener."""
        return f"127.0.0.1:{self._ports[listener]}"

    def _by(self, listener: int, user: str, **changes: Any) -> KafkaConnection:
        values = {
            "bootstrap_servers": self.server(listener),
            "security_protocol": "SASL_SSL",
            "sasl_username": user,
            "sasl_password": PASSWORD,
            "ssl_cafile": self.files.ca,
            **changes,
        }
        return KafkaConnection(**values)


def _properties(files: Certificates) -> dict[str, str]:
    def own(listener: int, **values: str) -> dict[str, str]:
        prefix = f"listener.name.more{listener}."
        return {prefix + name.replace("__", "-").replace("_", "."): v for name, v in values.items()}

    def store(listener: int, certificate: str, client: str = "none") -> dict[str, str]:
        return own(
            listener,
            ssl_keystore_type="PEM",
            ssl_keystore_location=certificate,
            ssl_truststore_type="PEM",
            ssl_truststore_location=files.ca,
            ssl_client_auth=client,
        )

    scram = {"sasl_enabled_mechanisms": "SCRAM-SHA-512", "scram__sha__512_sasl_jaas_config": _SCRAM}
    return {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": _SUPER,
        "ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/",
        **store(_SCRAM_TLS, files.server),
        **store(_CLIENT_TLS, files.server, "required"),
        **store(_EXPIRED, files.expired),
        **store(_ELSEWHERE, files.elsewhere),
        **own(_SCRAM_TLS, **scram),
        **own(_SCRAM_PLAIN, **scram),
        **own(_EXPIRED, **scram),
        **own(_ELSEWHERE, **scram),
    }


# Rights. aiokafka has no call for them, so the request is written out: CreateAcls, v1.


class Grant(NamedTuple):
    """One right: who may do what with which resource."""

    user: str
    operation: str
    resource: str
    name: str


_RESOURCES = {"topic": 2, "group": 3}
_OPERATIONS = {"Read": 3, "Write": 4, "DescribeConfigs": 10}
_LITERAL, _ALLOW = 3, 3


class _Answer(Response):  # type: ignore[misc]  # aiokafka is untyped here
    API_KEY = 30
    API_VERSION = 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("results", Array(("error_code", Int16), ("error_message", String("utf-8")))),
    )


class _CreateAcls(RequestStruct):  # type: ignore[misc]
    API_KEY = 30
    API_VERSION = 1
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(
        (
            "creations",
            Array(
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
                ("resource_pattern_type", Int8),
                ("principal", String("utf-8")),
                ("host", String("utf-8")),
                ("operation", Int8),
                ("permission_type", Int8),
            ),
        )
    )


class _Granting(Request[_CreateAcls]):  # type: ignore[misc]
    API_KEY = 30

    def __init__(self, grants: Iterable[Grant]) -> None:
        self._grants = [
            (
                _RESOURCES[one.resource],
                one.name,
                _LITERAL,
                f"User:{one.user}",
                "*",
                _OPERATIONS[one.operation],
                _ALLOW,
            )
            for one in grants
        ]

    def build(self, request_struct_class: type[_CreateAcls]) -> _CreateAcls:
        return request_struct_class(self._grants)


async def grant(admin: KafkaConnection, grants: Iterable[Grant]) -> None:
    """Give rights, as `kafka-acls --add` does."""
    client = AIOKafkaAdminClient(**admin.client_options())
    await client.start()
    try:
        answer = await client._send_request(_Granting(grants))
    finally:
        await client.close()
    assert {code for code, _ in answer.results} == {0}, answer


def documented_grants(topic: str, group: str) -> list[Grant]:
    """The rights of docs/security.md, for another topic (with its .dead) and group."""
    page = (ROOT / "docs" / "security.md").read_text("utf-8").replace("\\\n", " ")
    found = []
    for line in re.findall(r"^kafka-acls\.sh .*--add .*$", page, re.MULTILINE):
        (user,) = re.findall(r"--allow-principal User:(\S+)", line)
        ((resource, name),) = re.findall(r"--(topic|group) (\S+)", line)
        names = {"odds.writes": topic, "odds.dead": f"{topic}.dead", "oddslog-sink": group}
        found += [
            Grant(user, operation, resource, names[name])
            for operation in re.findall(r"--operation (\S+)", line)
        ]
    return found
