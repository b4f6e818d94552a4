"""The database's URL: for the driver, for people, and how its connections are protected.

Written as libpq writes it, several hosts and the TLS parameters included; the driver
takes neither in this form.
"""

import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from ..schemas.errors import ConfigurationError
from ..schemas.tls import TlsFiles, client_context

__all__ = ["driver_url", "masked_url"]

_TLS = ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword")
# What the driver takes beside them, as text.
_OTHER = (
    "host",
    "port",
    "user",
    "password",
    "passfile",
    "database",
    "target_session_attrs",
    "prepared_statement_cache_size",
)
# libpq's modes, by what is certain of a connection.
_PERHAPS = ("disable", "allow", "prefer")
_ENCRYPTED = ("require", "verify-ca", "verify-full")


def driver_url(database_url: str) -> tuple[URL, dict[str, Any]]:
    """The URL as SQLAlchemy and the driver take it, and the driver's argument for TLS.

    `sslmode` means what it means to libpq, `prefer` where it is not said: TLS where the
    server has it, whoever that is. `verify-full` checks the certificate, against
    `sslrootcert` or the system's authorities, and the host's name. Reads the files.

    Raises:
        ConfigurationError: no PostgreSQL URL, a parameter that is not known, a file
            that cannot be read.
    """
    url = _parsed(database_url)
    if url.get_backend_name() != "postgresql":
        raise ConfigurationError(
            f"the database URL is for {url.get_backend_name()}; oddslog writes to postgresql://"
        )
    unknown = sorted(set(url.query) - {*_TLS, *_OTHER})
    if unknown:
        raise ConfigurationError(
            f"the database URL has a parameter that is not known here: {', '.join(unknown)};"
            f" known are {', '.join((*_TLS, *_OTHER))}"
        )
    given = {name: _text(url, name) for name in _TLS if name in url.query}
    plain = url.difference_update_query(_TLS).set(drivername="postgresql+asyncpg")
    return plain, _tls_argument(given)


def _tls_argument(given: Mapping[str, str]) -> dict[str, Any]:
    mode = given.get("sslmode")
    if mode is None:
        others = ", ".join(given)
        if others:
            raise ConfigurationError(
                f"the database URL has {others} and no sslmode: add sslmode=verify-full"
            )
        return {}
    if mode not in (*_PERHAPS, *_ENCRYPTED):
        raise ConfigurationError(
            f"the database URL has sslmode={mode}; it is one of"
            f" {', '.join((*_PERHAPS, *_ENCRYPTED))}"
        )
    if mode in _PERHAPS:
        return {"ssl": mode}
    authorities = given.get("sslrootcert")
    files = TlsFiles(
        None if authorities == "system" else authorities,
        given.get("sslcert"),
        given.get("sslkey"),
        given.get("sslpassword"),
    )
    # With authorities named, `require` is `verify-ca`, says libpq.
    checked = mode != "require" or authorities is not None
    context = client_context("PostgreSQL", files, authority=checked, name=mode == "verify-full")
    return {"ssl": context}


def masked_url(database_url: str) -> str:
    """The URL without its passwords, for people to read."""
    try:
        url = make_url(_hosts_in_query(database_url))
    except (ArgumentError, ValueError):
        return "(not a URL)"
    # libpq's `?password=...` is one too.
    secret = [name for name in url.query if "password" in name.lower()]
    plain = url.difference_update_query(secret).set(drivername="postgresql")
    return plain.render_as_string(hide_password=True)


def _parsed(database_url: str) -> URL:
    try:
        return make_url(_hosts_in_query(database_url))
    except (ArgumentError, ValueError):
        # The URL itself is not repeated: it may hold a password.
        raise ConfigurationError(
            "the database URL cannot be parsed; it should look like "
            "postgresql://user:password@host:5432/name"
        ) from None


def _text(url: URL, name: str) -> str:
    """A parameter of the query; the last where it is repeated, "" where it is not there."""
    value = url.query.get(name, "")
    return value if isinstance(value, str) else value[-1]


def _hosts_in_query(database_url: str) -> str:
    """Several hosts as libpq writes them (`//user@a:1,b:2/name`), as SQLAlchemy does."""
    found = re.fullmatch(r"([^:]+://)([^/?]*@)?([^/?@]*,[^/?@]*)(/[^?]*)?(\?.*)?", database_url)
    if found is None:
        return database_url
    scheme, user, hosts, name, query = (part or "" for part in found.groups())
    with_ports = [host if ":" in host else f"{host}:5432" for host in hosts.split(",")]
    named = "&".join(f"host={host}" for host in with_ports)
    return f"{scheme}{user}{name or '/'}{query + '&' if query else '?'}{named}"
