"""Why Kafka does not let us in, in one line, with what to do.

aiokafka only logs why a connection failed, and raises that none was had. So a
client that could not start is followed by one connection of the same kind, whose
error is looked at: by class and code, never by text.
"""

import asyncio
import ssl

from aiokafka.conn import create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)

from .connection import KafkaConnection
from .errors import ConfigurationError, OddslogError, UnreachableError
from .tls import TlsWords, tls_error

__all__ = ["access_denied", "unreachable", "why_unreachable"]

# All servers together: who asks has waited for the client itself already.
_LOOK_SECONDS = 5.0
_WORDS = TlsWords(
    authorities="ODDSLOG_SSL_CAFILE",
    address="ODDSLOG_BOOTSTRAP_SERVERS, ODDSLOG_SECURITY_PROTOCOL, the brokers'"
    " advertised.listeners",
    certificate="ODDSLOG_SSL_CERTFILE, ODDSLOG_SSL_KEYFILE",
)
_DENIED = {
    TopicAuthorizationFailedError: "the topic",
    GroupAuthorizationFailedError: "the group",
    # A producer is told so that may write to no topic at all.
    ClusterAuthorizationFailedError: "the cluster (to write to a topic)",
}


def unreachable(connection: KafkaConnection, reason: str = "") -> UnreachableError:
    """What is said where nothing better is known."""
    why = f" ({reason})" if reason else ""
    return UnreachableError(
        f"Kafka at {connection.bootstrap_servers} does not answer{why}: start it, or mend"
        " ODDSLOG_BOOTSTRAP_SERVERS (or the listener, or the credentials)"
    )


def access_denied(error: BaseException, connection: KafkaConnection) -> ConfigurationError | None:
    """The missing right that a broker's answer tells of; None for any other error."""
    for kind, what in _DENIED.items():
        if isinstance(error, kind):
            user = connection.sasl_username or "this client"
            return ConfigurationError(
                f"Kafka at {connection.bootstrap_servers} does not allow {user} to use {what}:"
                " grant it the operations of docs/security.md (kafka-acls)"
            )
    return None


async def why_unreachable(connection: KafkaConnection) -> OddslogError:
    """Why no client can be started, by trying each server once more; at most 5 s.

    A `ConfigurationError` where settings have to be mended (authorities, names,
    credentials), else an `UnreachableError`; the caller raises it.
    """
    if connection.security_protocol == "PLAINTEXT":
        return unreachable(connection)
    told: list[OddslogError] = []
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            for server in connection.bootstrap_servers.split(","):
                told.append(await _ask(connection, server.strip()))  # noqa: PERF401 - a deadline
    except TimeoutError:
        pass
    return next(
        (error for error in told if error.exit_code == 2), (*told, unreachable(connection))[0]
    )


async def _ask(connection: KafkaConnection, server: str) -> OddslogError:
    host, _, port = server.rpartition(":")
    options = connection.client_options()
    del options["bootstrap_servers"]
    place = f"Kafka at {server}"
    try:
        made = await create_conn(host.strip("[]"), int(port), **options)
    except ssl.SSLError as error:
        return tls_error(error, place, _WORDS)
    except (SaslAuthenticationFailed, AuthenticationFailedError):
        return ConfigurationError(
            f"{place} refuses user {connection.sasl_username} or the password: mend"
            " ODDSLOG_SASL_USERNAME and ODDSLOG_SASL_PASSWORD"
        )
    except (UnsupportedSaslMechanismError, IllegalSaslStateError):
        return ConfigurationError(
            f"{place} takes no {connection.sasl_mechanism}: mend ODDSLOG_SASL_MECHANISM, or"
            " ODDSLOG_SECURITY_PROTOCOL or the port"
        )
    except (KafkaError, ConnectionResetError, ConnectionAbortedError):
        return UnreachableError(
            f"{place} closes the connection: is ODDSLOG_SECURITY_PROTOCOL"
            f" {connection.security_protocol} that of this port"
            f"{_certificate_hint(connection)}?"
        )
    except (OSError, TimeoutError):
        return unreachable(connection)
    made.close()
    return unreachable(connection)


def _certificate_hint(connection: KafkaConnection) -> str:
    if not connection.security_protocol.endswith("SSL") or connection.ssl_certfile:
        return ""
    return ", and does it want a certificate of ours (ODDSLOG_SSL_CERTFILE)"
