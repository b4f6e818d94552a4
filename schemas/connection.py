"""How to reach Kafka, and the schema registry beside it: the same for every client."""

from dataclasses import dataclass, field
from typing import Any

from .errors import ConfigurationError
from .registry import SchemaRegistry
from .tls import TlsFiles, client_context, is_loopback

__all__ = ["KafkaConnection"]

_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")


@dataclass(frozen=True)
class KafkaConnection:
    """Address and credentials; the secrets are not in its `repr`.

    Raises:
        ConfigurationError: an unknown protocol, SASL without user and password, or
            a TLS key without its certificate.
    """

    bootstrap_servers: str = "localhost:9092"
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_keyfile_password: str | None = field(default=None, repr=False)
    schema_registry_url: str | None = field(default=None, repr=False)
    schema_registry_cafile: str | None = None

    def __post_init__(self) -> None:
        if self.security_protocol not in _PROTOCOLS:
            raise ConfigurationError(
                f"security protocol {self.security_protocol!r} is not one of "
                f"{', '.join(_PROTOCOLS)}"
            )
        if self.security_protocol.startswith("SASL") and not (
            self.sasl_username and self.sasl_password
        ):
            raise ConfigurationError(
                f"security protocol {self.security_protocol} needs a SASL user name and password"
            )

        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise ConfigurationError("a TLS key file for Kafka needs its certificate file")

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments for any aiokafka client. Reads the certificate files.

        Raises:
            ConfigurationError: a certificate or key that cannot be read.
        """
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol.startswith("SASL"):
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password,
            }
        if self.security_protocol.endswith("SSL"):
            files = TlsFiles(
                self.ssl_cafile, self.ssl_certfile, self.ssl_keyfile, self.ssl_keyfile_password
            )
            options["ssl_context"] = client_context("Kafka", files)
        return options

    def registry(self) -> SchemaRegistry | None:
        """The schema registry; None where there is none. Connects to nothing.

        Raises:
            ConfigurationError: its URL is none.
        """
        url = self.schema_registry_url
        return None if url is None else SchemaRegistry(url, cafile=self.schema_registry_cafile)

    def plain_text_hosts(self) -> list[str]:
        """The other machines to which user and password go without TLS; none is fine."""
        if self.security_protocol != "SASL_PLAINTEXT":
            return []
        hosts = [server.strip().rpartition(":")[0] for server in self.bootstrap_servers.split(",")]
        return [host for host in hosts if not is_loopback(host)]
