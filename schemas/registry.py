"""A schema registry, in Confluent's protocol: ids of schemas, and schemas of ids.

Few requests in the life of a process, so each has a connection of its own, and the
standard library's client does. Every call blocks, for 5 s a request at most: callers
in an event loop use a thread.
"""

import base64
import json
import ssl
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from .errors import ConfigurationError, OddslogError, UnreachableError
from .tls import TlsFiles, TlsWords, client_context, is_loopback, tls_error

__all__ = [
    "COMPATIBILITY",
    "RegisteredSchema",
    "SchemaRegistry",
    "masked_registry_url",
    "subject_of",
]

# Old readers read new records, and new readers old ones.
COMPATIBILITY = "FULL"
# It answers in milliseconds; a caller that waits for one that is away tries again.
_TIMEOUT_SECONDS = 5.0
_CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
_NOT_THERE = (40401, 40402, 40403, 40408)  # subject, version, schema, compatibility
_WORDS = TlsWords(
    authorities="ODDSLOG_SCHEMA_REGISTRY_CAFILE",
    address="ODDSLOG_SCHEMA_REGISTRY_URL",
    certificate="a proxy before it",
)


@dataclass(frozen=True)
class RegisteredSchema:
    """A version of a subject."""

    version: int
    schema_id: int
    text: str


class SchemaRegistry:
    """One registry.

    Args:
        url: its base, with user and password where it wants them
            (`https://user:password@registry:8081`, for Apicurio with its path
            `/apis/ccompat/v7`).
        cafile: the authorities that its certificate is checked against; None: the
            system's.

    Raises:
        ConfigurationError: the URL is none.
    """

    def __init__(self, url: str, *, cafile: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError("the schema registry's URL must look like http://host:8081")
        self.place = f"schema registry at {masked_registry_url(url)}"
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._base = parts.path.rstrip("/")
        self._cafile = cafile
        self._headers = {"Content-Type": _CONTENT_TYPE, "Accept": _CONTENT_TYPE}
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            token = base64.b64encode(login.encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"
        gives_password = bool(parts.password) and not self._secure
        self.plain_text_hosts = (
            [self._host] if gives_password and not is_loopback(self._host) else []
        )

    def register(self, subject: str, text: str) -> int:
        """The id of a schema in a subject; it is registered where it is not there yet.

        A subject without a rule of its own gets compatibility FULL.

        Raises:
            UnreachableError: the registry does not answer.
            ConfigurationError: it refuses us, or the schema as incompatible.
        """
        known = self._ask("POST", f"/subjects/{_quoted(subject)}", {"schema": text})
        if known is None:
            if self.compatibility(subject) is None:
                rule = {"compatibility": COMPATIBILITY}
                self._ask("PUT", f"/config/{_quoted(subject)}", rule)
            path = f"/subjects/{_quoted(subject)}/versions"
            known = self._ask("POST", path, {"schema": text})
        return int(self._field(known, "id"))

    def schema(self, schema_id: int) -> str | None:
        """The text of a schema; None where the registry does not know the id.

        Raises:
            UnreachableError: the registry does not answer.
            ConfigurationError: it refuses us.
        """
        if schema_id >= 2**31:  # registries count in 32 bits with a sign, and answer as they like
            return None
        found = self._ask("GET", f"/schemas/ids/{schema_id}")
        return None if found is None else str(self._field(found, "schema"))

    def compatibility(self, subject: str) -> str | None:
        """The subject's own rule; None where it has none.

        Raises:
            UnreachableError: the registry does not answer.
            ConfigurationError: it refuses us.
        """
        found = self._ask("GET", f"/config/{_quoted(subject)}")
        return None if found is None else str(self._field(found, "compatibilityLevel"))

    def versions(self, subject: str) -> list[RegisteredSchema]:
        """All versions of a subject, the newest last; none where it is not there.

        Raises:
            UnreachableError: the registry does not answer.
            ConfigurationError: it refuses us.
        """
        path = f"/subjects/{_quoted(subject)}/versions"
        found = [self._ask("GET", f"{path}/{number}") for number in self._ask("GET", path) or ()]
        return [
            RegisteredSchema(int(one["version"]), int(one["id"]), str(one["schema"]))
            for one in found
            if one is not None
        ]

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer; None where what was asked for is not there."""
        connection = self._connection()
        try:
            content = None if body is None else json.dumps(body).encode()
            connection.request(method, self._base + path, content, self._headers)
            answer = connection.getresponse()
            status, said = answer.status, answer.read()
        except ssl.SSLError as error:
            raise tls_error(error, f"the {self.place}", _WORDS) from error
        except (OSError, HTTPException) as error:
            raise self._away(type(error).__name__) from error
        finally:
            connection.close()
        return self._understood(status, said)

    def _connection(self) -> HTTPConnection:
        if not self._secure:
            return HTTPConnection(self._host, self._port, timeout=_TIMEOUT_SECONDS)
        context = client_context("the schema registry", TlsFiles(self._cafile))
        return HTTPSConnection(self._host, self._port, timeout=_TIMEOUT_SECONDS, context=context)

    def _understood(self, status: int, said: bytes) -> Any:
        try:
            document = json.loads(said)
        except ValueError:
            document = None
        if 200 <= status < 300 and document is not None:
            return document
        code = document.get("error_code") if isinstance(document, dict) else None
        # Any other 404 is of a wrong path: it says nothing of schemas.
        if status == 404 and code in _NOT_THERE:
            return None
        raise self._refused(status, document)

    def _refused(self, status: int, document: Any) -> OddslogError:
        said = document.get("message", "") if isinstance(document, dict) else ""
        text = " ".join(str(said).split())[:300]
        if status in (401, 403):
            return ConfigurationError(
                f"the {self.place} refuses this user or password (HTTP {status}): mend"
                " ODDSLOG_SCHEMA_REGISTRY_URL"
            )
        if status in (409, 422):
            return ConfigurationError(
                f"the {self.place} refuses the schema of this version as incompatible with those"
                f" that it has: {text}. See: oddslog schema check"
            )
        return self._away(f"HTTP {status} {text}".strip())

    def _field(self, document: Any, name: str) -> Any:
        if not isinstance(document, dict) or name not in document:
            raise self._away(f"no {name} in its answer")
        return document[name]

    def _away(self, reason: str) -> UnreachableError:
        return UnreachableError(
            f"the {self.place} does not answer as one ({reason}): start it, or mend"
            " ODDSLOG_SCHEMA_REGISTRY_URL"
        )


def subject_of(topic: str) -> str:
    """Where a topic's schemas are registered: Confluent's default, which others look under."""
    return f"{topic}-value"


def masked_registry_url(url: str) -> str:
    """The URL without user and password, for people to read."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(not a URL)"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _quoted(subject: str) -> str:
    return quote(subject, safe="")
